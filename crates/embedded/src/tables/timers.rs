//! Table `timers`: delayed messages, by time. Key: due (8 bytes), id (16). Value: 1, the envelope's wire form.

use bytes::Bytes;
use statefun_core::{Envelope, EnvelopeId, Timer, Timestamp};

use super::{Unreadable, id, time, versioned};
use crate::batch::Key;

const VERSION: u8 = 1;

pub(crate) fn key(due: Timestamp, id: EnvelopeId) -> Key {
    [&due.0.to_be_bytes()[..], &id.0].concat().into()
}

pub(crate) fn decode_key(key: &[u8]) -> Result<(Timestamp, EnvelopeId), Unreadable> {
    let (due, rest) = time(key)?;
    Ok((due, id(rest)?))
}

pub(crate) fn encode(timer: &Timer) -> Bytes {
    let mut bytes = timer.envelope.to_wire().into_bytes();
    bytes.insert(0, VERSION);
    bytes.into()
}

pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Timer, Unreadable> {
    let (due, _) = decode_key(key)?;
    Ok(Timer { due, envelope: Envelope::from_wire(versioned(value, VERSION)?)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tables::samples::{envelope, golden};

    #[test]
    fn golden_files() {
        let timer = Timer { due: Timestamp(5), envelope: envelope(7) };
        let key = key(timer.due, timer.envelope.id);
        assert_eq!(decode(&key, &golden("timer-v1", &encode(&timer))).unwrap(), timer);
    }

    proptest! {
        #[test]
        fn round_trip_and_order(due: u64, other: u64, number: u8) {
            let timer = Timer { due: Timestamp(due), envelope: envelope(number) };
            let own = key(timer.due, timer.envelope.id);
            prop_assert_eq!(decode(&own, &encode(&timer)).unwrap(), timer);
            prop_assert_eq!(own.cmp(&key(Timestamp(other), EnvelopeId([number; 16]))), due.cmp(&other));
        }

        #[test]
        fn never_panics_on_noise(key in proptest::collection::vec(any::<u8>(), 0..40), noise in proptest::collection::vec(any::<u8>(), 0..90)) {
            let _ = decode(&key, &noise);
        }
    }
}
