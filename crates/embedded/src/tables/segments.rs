//! Table `segments`: ledger entries that left their record. Key: the address with its length (2 bytes) before it, the newest
//! time of acceptance in the segment (8), its number (8). Value: 1, when it expires (8), the ids (16 each).

use bytes::Bytes;
use statefun_core::{Address, EnvelopeId, Segment, Timestamp};

use super::{Unreadable, address_bytes, prefixed, time, versioned};
use crate::batch::Key;

const VERSION: u8 = 1;

fn prefix(address: &Address) -> Vec<u8> {
    let (mut name, mut key) = (Vec::new(), Vec::new());
    address_bytes(address, &mut name);
    prefixed(&name, &mut key);
    key
}

pub(crate) fn key(address: &Address, newest: Timestamp, number: u64) -> Key {
    let mut key = prefix(address);
    key.extend_from_slice(&newest.0.to_be_bytes());
    key.extend_from_slice(&number.to_be_bytes());
    key.into()
}

/// The first and the last key that a segment with entries at `since` or later can have.
pub(crate) fn since(address: &Address, since: Timestamp) -> (Key, Key) {
    (key(address, since, 0), key(address, Timestamp(u64::MAX), u64::MAX))
}

pub(crate) fn encode(segment: &Segment) -> Bytes {
    let mut bytes = Vec::with_capacity(9 + segment.ids.len() * 16);
    bytes.push(VERSION);
    bytes.extend_from_slice(&segment.expires.0.to_be_bytes());
    bytes.extend(segment.ids.iter().flat_map(|id| id.0));
    bytes.into()
}

/// When it expires, and its ids.
pub(crate) fn decode(value: &[u8]) -> Result<(Timestamp, Vec<EnvelopeId>), Unreadable> {
    let (expires, ids) = time(versioned(value, VERSION)?)?;
    let (ids, rest) = ids.as_chunks::<16>();
    match rest {
        [] => Ok((expires, ids.iter().map(|id| EnvelopeId(*id)).collect())),
        _ => Err(Unreadable::Form("a segment")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tables::samples::golden;

    fn segment(count: u8) -> Segment {
        let ids = (0..count).map(|index| EnvelopeId([index; 16])).collect();
        Segment { number: 3, ids, newest: Timestamp(4), expires: Timestamp(5), fresh: false }
    }

    #[test]
    fn golden_files() {
        let segment = segment(2);
        assert_eq!(decode(&golden("segment-v1", &encode(&segment))).unwrap(), (segment.expires, segment.ids));
    }

    #[test]
    fn one_addresss_segments_are_apart_and_in_order() {
        let (a, b) = (Address::parse("f/g/a").unwrap(), Address::parse("f/g/a\0\0\0\0\0\0\0\0").unwrap());
        let (low, high) = since(&a, Timestamp(5));
        assert!(key(&a, Timestamp(5), 0) >= low && key(&a, Timestamp(9), 7) < high);
        assert!(key(&a, Timestamp(4), u64::MAX) < low);
        for other in [key(&b, Timestamp(6), 1), key(&b, Timestamp(0), 1)] {
            assert!(other < low || other > high);
        }
    }

    proptest! {
        #[test]
        fn round_trip(count in 0_u8..40) {
            let segment = segment(count);
            prop_assert_eq!(decode(&encode(&segment)).unwrap(), (segment.expires, segment.ids));
        }

        #[test]
        fn never_panics_on_noise(noise in proptest::collection::vec(any::<u8>(), 0..90)) {
            let _ = decode(&noise);
        }
    }
}
