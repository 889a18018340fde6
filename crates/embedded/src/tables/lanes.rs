//! Table `lanes`: what waits for functions and egresses, first in first out.
//! Key: kind (1 byte: 1 function, 2 egress), the lane's name with its length (2) before it, sequence number (8).
//!
//! Value for a function (its name is the address): 1, when it was enqueued (8), unclean starts up to then (4), the envelope's
//! wire form. Value for an egress (its name is the type name): 1, the record as protobuf.

use std::sync::Arc;

use bytes::Bytes;
use statefun_core::{Address, EgressRecord, Envelope, Timestamp, TypeName, stored};

use super::{Unreadable, address, address_bytes, number, prefixed, split_prefixed, text, time, type_name, versioned};
use crate::batch::Key;

const VERSION: u8 = 1;
const FUNCTION: u8 = 1;
const EGRESS: u8 = 2;

/// Whose lane it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LaneName {
    Function(Address),
    Egress(TypeName),
}

/// A waiting envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Queued {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) enqueued_at: Timestamp,
    /// Unclean starts up to when it was enqueued: each later one may have been its doing.
    pub(crate) crashes: u32,
}

/// The key of a function's entry without its sequence number.
pub(crate) fn function_prefix(address: &Address) -> Vec<u8> {
    let mut name = Vec::with_capacity(address.function().as_str().len() + 1 + address.id().len());
    address_bytes(address, &mut name);
    prefix(FUNCTION, &name)
}

/// The key of an egress's entry without its sequence number.
pub(crate) fn egress_prefix(egress: &TypeName) -> Vec<u8> {
    prefix(EGRESS, egress.as_str().as_bytes())
}

fn prefix(kind: u8, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 11);
    key.push(kind);
    prefixed(name, &mut key);
    key
}

/// A prefix and a sequence number.
pub(crate) fn key(mut prefix: Vec<u8>, seq: u64) -> Key {
    prefix.extend_from_slice(&seq.to_be_bytes());
    prefix.into()
}

/// The keys of all functions' entries, and of all egresses'.
pub(crate) const FUNCTIONS: ([u8; 1], [u8; 1]) = ([FUNCTION], [FUNCTION + 1]);
pub(crate) const EGRESSES: ([u8; 1], [u8; 1]) = ([EGRESS], [EGRESS + 1]);

/// The first key after a lane, given one of its keys.
pub(crate) fn past(key: &[u8]) -> Key {
    let mut next = key[..key.len().saturating_sub(8)].to_vec();
    next.extend_from_slice(&[0xff; 9]);
    next.into()
}

pub(crate) fn decode_key(key: &[u8]) -> Result<(LaneName, u64), Unreadable> {
    let (kind, rest) = key.split_first().ok_or(Unreadable::Form("a lane"))?;
    let (name, seq) = split_prefixed(rest)?;
    let name = match *kind {
        FUNCTION => LaneName::Function(address(name)?),
        EGRESS => LaneName::Egress(type_name(text(name)?)?),
        _ => return Err(Unreadable::Form("a lane")),
    };
    Ok((name, number(seq)?.0))
}

/// The sequence number alone, which costs less.
pub(crate) fn seq_of(key: &[u8]) -> u64 {
    key.last_chunk::<8>().map_or(0, |seq| u64::from_be_bytes(*seq))
}

pub(crate) fn encode_queued(envelope: &Envelope, enqueued_at: Timestamp, crashes: u32) -> Bytes {
    let wire = envelope.to_wire();
    let mut bytes = Vec::with_capacity(13 + wire.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&enqueued_at.0.to_be_bytes());
    bytes.extend_from_slice(&crashes.to_be_bytes());
    bytes.extend_from_slice(wire.as_bytes());
    bytes.into()
}

pub(crate) fn decode_queued(value: &[u8]) -> Result<Queued, Unreadable> {
    let (enqueued_at, rest) = time(versioned(value, VERSION)?)?;
    let (crashes, wire) = rest.split_first_chunk::<4>().ok_or(Unreadable::Form("an entry"))?;
    Ok(Queued { envelope: Arc::new(Envelope::from_wire(wire)?), enqueued_at, crashes: u32::from_be_bytes(*crashes) })
}

pub(crate) fn encode_egress(record: &EgressRecord) -> Bytes {
    let mut bytes = vec![VERSION];
    stored::encode_egress(record, &mut bytes);
    bytes.into()
}

pub(crate) fn decode_egress(value: &Bytes) -> Result<Arc<EgressRecord>, Unreadable> {
    versioned(value, VERSION)?;
    stored::decode_egress(value.slice(1..)).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tables::samples::{egress, envelope, golden};

    #[test]
    fn golden_files() {
        let queued = Queued { envelope: Arc::new(envelope(1)), enqueued_at: Timestamp(2), crashes: 3 };
        let bytes = golden("lane-function-v1", &encode_queued(&queued.envelope, queued.enqueued_at, queued.crashes));
        assert_eq!(decode_queued(&bytes).unwrap(), queued);
        let record = egress(1);
        assert_eq!(*decode_egress(&golden("lane-egress-v1", &encode_egress(&record)).into()).unwrap(), record);
    }

    proptest! {
        #[test]
        fn keys_round_trip_and_sort(id in "[a-c\0]{1,6}", other in "[a-c\0]{1,6}", seq in 0..u64::MAX, later in 0..u64::MAX) {
            let (lane, next) = (("f/g", &id), ("f/g", &other));
            let of = |lane: (&str, &String)| Address::new(TypeName::parse(lane.0).unwrap(), lane.1).unwrap();
            let own = key(function_prefix(&of(lane)), seq);
            prop_assert_eq!(decode_key(&own).unwrap(), (LaneName::Function(of(lane)), seq));
            prop_assert_eq!(seq_of(&own), seq);
            let mine = key(function_prefix(&of(lane)), later);
            prop_assert_eq!(own.cmp(&mine), seq.cmp(&later));
            prop_assert!(past(&own) > mine);
            if id != other {
                let theirs = key(function_prefix(&of(next)), later);
                prop_assert_eq!(theirs > own, theirs > past(&own));
            }
        }

        #[test]
        fn never_panics_on_noise(noise in proptest::collection::vec(any::<u8>(), 0..90)) {
            let _ = (decode_key(&noise), decode_queued(&noise), decode_egress(&noise.into()));
        }
    }
}
