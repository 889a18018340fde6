//! Table `segments`: ledger entries that left their record. Key: the address with its length (2 bytes) before it, the newest
//! time of acceptance in the segment (8), its number (8). Value: 2, when it expires (8), how many ids (4), the ids (16 each), and for
//! each that is a producer's key, in their order, until when it counts (8 each). Version 1 had the ids behind the expiry, and no times.

use bytes::Bytes;
use statefun_core::{Address, EnvelopeId, Segment, Spilled, Timestamp, stored::versioned};

use super::{Unreadable, address_bytes, prefixed, time};
use crate::batch::Key;

const VERSION: u8 = 2;

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
    let count = u32::try_from(segment.ids.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(13 + segment.ids.len() * 24);
    bytes.push(VERSION);
    bytes.extend_from_slice(&segment.expires.0.to_be_bytes());
    bytes.extend_from_slice(&count.to_be_bytes());
    bytes.extend(segment.ids.iter().flat_map(|spilled| spilled.id.0));
    let keys = segment.ids.iter().filter(|spilled| spilled.id.is_keyed());
    bytes.extend(keys.flat_map(|spilled| spilled.expires.0.to_be_bytes()));
    bytes.into()
}

/// When it expires, and its ids.
pub(crate) fn decode(value: &[u8]) -> Result<(Timestamp, Vec<Spilled>), Unreadable> {
    const BAD: Unreadable = Unreadable::Form("a segment");
    if value.first() == Some(&1) {
        let (expires, ids) = time(versioned(value, 1)?)?;
        let (ids, []) = ids.as_chunks::<16>() else { return Err(BAD) };
        return Ok((expires, ids.iter().map(|id| Spilled { id: EnvelopeId(*id), expires }).collect()));
    }
    let (expires, rest) = time(versioned(value, VERSION)?)?;
    let (count, rest) = rest.split_first_chunk::<4>().ok_or(BAD)?;
    let bytes = (u32::from_be_bytes(*count) as usize).checked_mul(16).ok_or(BAD)?;
    let (ids, times) = rest.split_at_checked(bytes).ok_or(BAD)?;
    let (ids, (times, [])) = (ids.as_chunks::<16>().0, times.as_chunks::<8>()) else { return Err(BAD) };
    let mut times = times.iter().map(|time| Timestamp(u64::from_be_bytes(*time)));
    let mut spilled = Vec::with_capacity(ids.len());
    for id in ids.iter().map(|id| EnvelopeId(*id)) {
        let expires = if id.is_keyed() { times.next().ok_or(BAD)? } else { expires };
        spilled.push(Spilled { id, expires });
    }
    if times.next().is_some() { Err(BAD) } else { Ok((expires, spilled)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tables::samples::{golden, read_golden};

    fn segment(count: u8) -> Segment {
        let id = |index: u8| if index % 2 == 1 { EnvelopeId([index; 16]).keyed() } else { EnvelopeId([index; 16]) };
        let expires = |index: u8| Timestamp(if index % 2 == 1 { u64::from(index) } else { 500 });
        let ids = (0..count).map(|index| Spilled { id: id(index), expires: expires(index) }).collect();
        Segment { number: 3, ids, newest: Timestamp(4), expires: Timestamp(500), fresh: false }
    }

    #[test]
    fn golden_files() {
        let segment = segment(4);
        assert_eq!(decode(&golden("segment-v2", &encode(&segment))).unwrap(), (segment.expires, segment.ids));
        let first = |id| Spilled { id: EnvelopeId([id; 16]), expires: Timestamp(5) };
        assert_eq!(decode(&read_golden("segment-v1")).unwrap(), (Timestamp(5), vec![first(0), first(1)]));
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
