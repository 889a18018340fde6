//! Table `records`: one row per address. Key: the function's name, a zero byte, the id. Value: 2, version (8 bytes), end of the lease (8),
//! its owner (8), the start in which the row was written (8), the rest of the record as protobuf ([`statefun_core::stored`]). Without a lease
//! its end and owner are zero.
//!
//! Form 1 had an epoch before the version, and a lease that had no owner: it is read without its lease.
//!
//! What the conditions look at stands at a fixed place, so that checking a commit decodes nothing.

use bytes::Bytes;
use statefun_core::{
    Address, Lease, Owner, Record, Timestamp, TypeName,
    stored::{self, Parts},
};

use super::{Unreadable, address, address_bytes, number, time, versioned};
use crate::batch::Key;

const VERSION: u8 = 2;
const HEAD_BYTES: usize = 1 + 4 * 8;

/// What the conditions of lease, commit and finish look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) version: u64,
    pub(crate) lease: Option<Lease>,
    /// The start of the store in which it was written: leases end with the process that held them.
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
    let head = Head { version: record.version, lease: record.lease.filter(|_| outbox), start };
    let mut bytes = Vec::with_capacity(256);
    bytes.resize(HEAD_BYTES, 0);
    head.write(&mut bytes);
    stored::encode_record(owner, record, Parts { state: true, outbox }, &mut bytes);
    (bytes.into(), head)
}

pub(crate) fn decode(owner: &Address, value: &Bytes) -> Result<Record, Unreadable> {
    let head = Head::read(value)?;
    let record = stored::decode_record(owner, value.slice(HEAD_BYTES..))?;
    Ok(Record { version: head.version, lease: head.lease, ..record })
}

impl Head {
    pub(crate) fn read(value: &[u8]) -> Result<Self, Unreadable> {
        if let Some((1, rest)) = value.split_first() {
            let (_epoch, rest) = number(rest)?;
            let (version, rest) = number(rest)?;
            let (_lease, rest) = time(rest)?;
            return Ok(Self { version, lease: None, start: number(rest)?.0 });
        }
        let (version, rest) = number(versioned(value, VERSION)?)?;
        let (until, rest) = time(rest)?;
        let (owner, rest) = number(rest)?;
        let (start, _) = number(rest)?;
        let lease = (until > Timestamp::ZERO).then_some(Lease { owner: Owner(owner), until });
        Ok(Self { version, lease, start })
    }

    fn write(self, into: &mut [u8]) {
        let (until, owner) = self.lease.map_or((0, 0), |lease| (lease.until.0, lease.owner.0));
        let numbers = [self.version, until, owner, self.start];
        if let Some((version, rest)) = into.split_first_mut() {
            *version = VERSION;
            for (place, number) in rest.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
                *place = number.to_be_bytes();
            }
        }
    }

    /// The same row with another head.
    pub(crate) fn replace(self, value: &[u8]) -> Result<Bytes, Unreadable> {
        let mut bytes = value.to_vec();
        self.write(bytes.get_mut(..HEAD_BYTES).ok_or(Unreadable::Form("a record"))?);
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use statefun_core::{EnvelopeId, Ledger, Note, Outbox, Taken, Trial};

    use crate::tables::samples::{golden, read_golden, record};

    fn owner() -> Address {
        Address::parse("example/greeter/bob").unwrap()
    }

    #[test]
    fn golden_files() {
        let record = record(5);
        let value = golden("record-v2", &encode(&owner(), &record, 9, true).0);
        assert_eq!(decode(&owner(), &value.clone().into()).unwrap(), record);
        assert_eq!(Head::read(&value).unwrap().start, 9);
        // Leases had no owners.
        let record = Record { lease: None, ..record };
        assert_eq!(decode(&owner(), &read_golden("record-v1-denied").into()).unwrap(), record);
        let outbox = Outbox { denied_since: Timestamp::ZERO, ..record.outbox.clone() };
        let before = decode(&owner(), &read_golden("record-v1-trials").into()).unwrap();
        assert_eq!(before, Record { outbox: outbox.clone(), ..record.clone() });
        // Before there were several trials: what ran did so beside others, and nobody noted when `last_seq` was set.
        let before = decode(&owner(), &read_golden("record-v1").into()).unwrap();
        let inline = (0..5).map(|number| Taken { id: EnvelopeId([number; 16]), at: None }).collect();
        let trials = vec![Trial { id: EnvelopeId([5; 16]), failures: 3, note: Note::Watched }];
        let ledger = Ledger { inline, ..record.ledger.clone() };
        assert_eq!(before, Record { trials, ledger, last_at: Timestamp::ZERO, outbox, ..record });
    }

    #[test]
    fn without_an_outbox_the_lease_is_free() {
        let record = record(3);
        let settled = decode(&owner(), &encode(&owner(), &record, 1, false).0).unwrap();
        assert_eq!(settled, Record { outbox: Outbox::default(), lease: None, ..record });
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
        fn round_trip(size in 0_u8..9, start: u64, version: u64, until: u64, run: u64) {
            let record = record(size);
            let (value, head) = encode(&owner(), &record, start, true);
            prop_assert_eq!(Head::read(&value).unwrap(), head);
            prop_assert_eq!(decode(&owner(), &value).unwrap(), record.clone());
            let lease = (until > 0).then_some(Lease { owner: Owner(run), until: Timestamp(until) });
            let head = Head { version, lease, ..head };
            let changed = head.replace(&value).unwrap();
            prop_assert_eq!(decode(&owner(), &changed).unwrap(), Record { version, lease, ..record });
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
