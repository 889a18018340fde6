//! Table `accepted`: envelope ids that came in from outside, so that a second copy has no effect.
//! Key: id (16 bytes). Value: 1, when the row expires (8).
//!
//! Table `expiries`: what is to be swept, by time. Key: when (8), what (1 byte: `a` or `s`), the row's key in `accepted` or
//! `segments`. Value: empty.

use bytes::Bytes;
use statefun_core::{EnvelopeId, Timestamp};

use super::{Unreadable, time, versioned};
use crate::batch::{Key, Table};

const VERSION: u8 = 1;

pub(crate) fn encode(expires: Timestamp) -> Bytes {
    [&[VERSION][..], &expires.0.to_be_bytes()].concat().into()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Timestamp, Unreadable> {
    Ok(time(versioned(bytes, VERSION)?)?.0)
}

/// What expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expiring {
    Accepted(EnvelopeId),
    /// A segment, by its row's key.
    Segment(Key),
}

impl Expiring {
    pub(crate) fn key(&self, expires: Timestamp) -> Key {
        let (kind, key): (u8, &[u8]) = match self {
            Self::Accepted(id) => (b'a', &id.0),
            Self::Segment(key) => (b's', key),
        };
        [&expires.0.to_be_bytes()[..], &[kind], key].concat().into()
    }

    pub(crate) fn of_key(key: &[u8]) -> Result<(Timestamp, Self), Unreadable> {
        let (expires, rest) = time(key)?;
        match rest.split_first() {
            Some((b'a', key)) => Ok((expires, Self::Accepted(super::id(key)?))),
            Some((b's', key)) => Ok((expires, Self::Segment(key.into()))),
            _ => Err(Unreadable::Form("an expiry")),
        }
    }

    /// The row that expires.
    pub(crate) fn row(&self) -> (Table, Key) {
        match self {
            Self::Accepted(id) => (Table::Accepted, id.0.into()),
            Self::Segment(key) => (Table::Segments, key.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tables::samples::golden;

    #[test]
    fn golden_files() {
        assert_eq!(decode(&golden("accepted-v1", &encode(Timestamp(7)))).unwrap(), Timestamp(7));
    }

    proptest! {
        #[test]
        fn round_trip(expires: u64, id: [u8; 16], key in proptest::collection::vec(any::<u8>(), 0..40)) {
            let expires = Timestamp(expires);
            prop_assert_eq!(decode(&encode(expires)).unwrap(), expires);
            for expiring in [Expiring::Accepted(EnvelopeId(id)), Expiring::Segment(key.into())] {
                prop_assert_eq!(Expiring::of_key(&expiring.key(expires)).unwrap(), (expires, expiring));
            }
        }

        #[test]
        fn never_panics_on_noise(noise in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (decode(&noise), Expiring::of_key(&noise));
        }
    }
}
