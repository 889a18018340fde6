//! Table `records`: one row per address. Key: the function's name, a zero byte, the id. Value: 1, epoch (8 bytes), version (8),
//! lease_until (8), the start in which the lease was taken (8), the rest of the record as protobuf
//! ([`statefun_core::stored`]).
//!
//! What the conditions look at stands at a fixed place, so that taking a lease or checking a commit decodes nothing.

use bytes::Bytes;
use statefun_core::{
    Address, Held, Record, Timestamp, TypeName,
    stored::{self, Parts},
};

use super::{Unreadable, address, address_bytes, number, time, versioned};
use crate::batch::Key;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 4 * 8;

/// What the conditions of acquire, commit and finish look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) held: Held,
    pub(crate) lease_until: Timestamp,
    /// The start of the store in which the lease was taken: leases end with the process that held them.
    pub(crate) start: u64,
}

pub(crate) fn key(address: &Address) -> Key {
    let mut key = Vec::with_capacity(address.function().as_str().len() + 1 + address.id().len());
    address_bytes(address, &mut key);
    key.into()
}

pub(crate) fn decode_key(key: &[u8]) -> Result<Address, Unreadable> {
    address(key)
}

/// The first key of a function's instances after `id` (or of all), and the bound of the last.
pub(crate) fn instances(function: &TypeName, id: Option<&str>) -> (Key, Key) {
    let name = function.as_str().as_bytes();
    let first = match id {
        Some(id) => [name, &[0], id.as_bytes(), &[0]].concat(),
        None => [name, &[0]].concat(),
    };
    (first.into(), [name, &[1]].concat().into())
}

/// The row of a record. Without `outbox` it is left out, and the lease is free.
pub(crate) fn encode(owner: &Address, record: &Record, start: u64, outbox: bool) -> (Bytes, Head) {
    let lease_until = if outbox { record.lease_until } else { Timestamp::ZERO };
    let head = Head { held: record.held(), lease_until, start };
    let mut bytes = Vec::with_capacity(256);
    bytes.resize(HEAD_BYTES, 0);
    head.write(&mut bytes);
    stored::encode_record(owner, record, Parts { state: true, outbox }, &mut bytes);
    (bytes.into(), head)
}

pub(crate) fn decode(owner: &Address, value: &Bytes) -> Result<Record, Unreadable> {
    let head = Head::read(value)?;
    let record = stored::decode_record(owner, value.slice(HEAD_BYTES..))?;
    Ok(Record { epoch: head.held.epoch, version: head.held.version, lease_until: head.lease_until, ..record })
}

impl Head {
    pub(crate) fn read(value: &[u8]) -> Result<Self, Unreadable> {
        let (epoch, rest) = number(versioned(value, VERSION)?)?;
        let (version, rest) = number(rest)?;
        let (lease_until, rest) = time(rest)?;
        let (start, _) = number(rest)?;
        Ok(Self { held: Held { epoch, version }, lease_until, start })
    }

    fn write(self, into: &mut [u8]) {
        let numbers = [self.held.epoch, self.held.version, self.lease_until.0, self.start];
        if let Some((version, rest)) = into.split_first_mut() {
            *version = VERSION;
            for (place, number) in rest.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
                *place = number.to_be_bytes();
            }
        }
    }

    /// The same row with another head.
    pub(crate) fn replace(self, value: &[u8]) -> Bytes {
        let mut bytes = value.to_vec();
        self.write(&mut bytes);
        bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use statefun_core::{EnvelopeId, Ledger, Note, Taken, Trial};

    use crate::tables::samples::{golden, read_golden, record};

    fn owner() -> Address {
        Address::parse("example/greeter/bob").unwrap()
    }

    #[test]
    fn golden_files() {
        let record = record(5);
        let value = golden("record-v1-denied", &encode(&owner(), &record, 9, true).0);
        assert_eq!(decode(&owner(), &value.clone().into()).unwrap(), record);
        assert_eq!(Head::read(&value).unwrap().start, 9);
        let denied_since = Timestamp::ZERO;
        let before = decode(&owner(), &read_golden("record-v1-trials").into()).unwrap();
        assert_eq!(before, Record { denied_since, ..record.clone() });
        // Before there were several trials: what ran did so beside others, and nobody noted when `last_seq` was set.
        let before = decode(&owner(), &read_golden("record-v1").into()).unwrap();
        let inline = (0..5).map(|number| Taken { id: EnvelopeId([number; 16]), at: None }).collect();
        let trials = vec![Trial { id: EnvelopeId([5; 16]), failures: 3, note: Note::Watched }];
        let ledger = Ledger { inline, ..record.ledger.clone() };
        assert_eq!(before, Record { trials, ledger, last_at: Timestamp::ZERO, denied_since, ..record });
    }

    #[test]
    fn without_an_outbox_the_lease_is_free() {
        let record = record(3);
        let settled = decode(&owner(), &encode(&owner(), &record, 1, false).0).unwrap();
        assert_eq!(settled, Record { outbox: Vec::new(), lease_until: Timestamp::ZERO, ..record });
    }

    #[test]
    fn a_functions_instances_are_a_range() {
        let function = TypeName::from_static("a/b");
        let of = |text: &str| key(&Address::parse(text).unwrap());
        let (first, end) = instances(&function, None);
        for inside in ["a/b/1", "a/b/\0", "a/b/\u{10ffff}"] {
            assert!(of(inside) >= first && of(inside) < end);
        }
        for outside in ["a/b-/1", "a/b1/1", "a/a/1", "a/c/1"] {
            assert!(of(outside) < first || of(outside) >= end, "{outside}");
        }
        let (next, _) = instances(&function, Some("1"));
        assert!(of("a/b/1") < next && of("a/b/1\0") >= next);
    }

    proptest! {
        #[test]
        fn round_trip(size in 0_u8..9, start: u64, epoch: u64, lease: u64) {
            let record = record(size);
            let (value, head) = encode(&owner(), &record, start, true);
            prop_assert_eq!(Head::read(&value).unwrap(), head);
            prop_assert_eq!(decode(&owner(), &value).unwrap(), record.clone());
            let head = Head { held: Held { epoch, ..head.held }, lease_until: Timestamp(lease), ..head };
            let changed = head.replace(&value);
            prop_assert_eq!(decode(&owner(), &changed).unwrap(), Record { epoch, lease_until: Timestamp(lease), ..record });
        }

        #[test]
        fn never_panics_on_noise(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_key(&noise);
            let mut row = encode(&owner(), &record(0), 0, true).0[..HEAD_BYTES].to_vec();
            row.extend(noise);
            let _ = decode(&owner(), &row.into());
        }
    }
}
