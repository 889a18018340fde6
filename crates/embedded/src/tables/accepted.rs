//! Table `accepted`: envelope ids that came in from outside, so that a second copy has no effect.
//! Key: id (16 bytes). Value of version 1: 1, when the row expires (8). Version 2: 2, when it expires (8), fields until the end,
//! each: its tag (1), its length (4), its bytes. A reader passes over tags that it does not know.
//! Tag 1: fingerprint of what came in under the id (16).
//! A row without fields is written as version 1.
//!
//! Table `expiries`: what is to be swept, by time. Key: when (8), what (1 byte: `a` or `s`), the row's key in `accepted` or
//! `segments`. Value: empty.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use statefun_core::{EnvelopeId, Timestamp, TypedValue};

use super::{Unreadable, time, versioned};
use crate::batch::{Key, Table};

const WITHOUT_FIELDS: u8 = 1;
const VERSION: u8 = 2;
const FINGERPRINT: u8 = 1;

/// What is remembered of an id that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) expires: Timestamp,
    /// Of what came in. Absent in rows that were written before there was one, and where ids are of copies only.
    pub(crate) fingerprint: Option<Fingerprint>,
}

/// Tells contents apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(crate) [u8; 16]);

impl Fingerprint {
    pub(crate) fn of(messages: &[TypedValue]) -> Self {
        let mut hasher = Sha256::new();
        for TypedValue { type_name, value } in messages {
            for part in [Some(type_name.as_str().as_bytes()), value.as_deref()] {
                // Lengths keep ("ab", "c") and ("a", "bc") apart; no length stands for no value.
                hasher.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
                hasher.update(part.unwrap_or_default());
            }
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize()[..16]);
        Self(bytes)
    }
}

pub(crate) fn encode(Accepted { expires, fingerprint }: &Accepted) -> Bytes {
    let expires = expires.0.to_be_bytes();
    match fingerprint {
        None => [&[WITHOUT_FIELDS][..], &expires].concat().into(),
        Some(Fingerprint(bytes)) => [&[VERSION][..], &expires, &[FINGERPRINT], &16_u32.to_be_bytes(), bytes].concat().into(),
    }
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Accepted, Unreadable> {
    if bytes.first() == Some(&WITHOUT_FIELDS) {
        return Ok(Accepted { expires: time(&bytes[1..])?.0, fingerprint: None });
    }
    let (expires, mut fields) = time(versioned(bytes, VERSION)?)?;
    let mut fingerprint = None;
    while let Some((tag, rest)) = fields.split_first() {
        let (value, rest) = field(rest).ok_or(Unreadable::Form("a field"))?;
        if *tag == FINGERPRINT {
            fingerprint = Some(Fingerprint(value.try_into().map_err(|_| Unreadable::Form("a fingerprint"))?));
        }
        fields = rest;
    }
    Ok(Accepted { expires, fingerprint })
}

fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
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

    fn row(expires: u64, fingerprint: Option<[u8; 16]>) -> Accepted {
        Accepted { expires: Timestamp(expires), fingerprint: fingerprint.map(Fingerprint) }
    }

    #[test]
    fn golden_files() {
        for (name, row) in [("accepted-v1", row(7, None)), ("accepted-v2", row(7, Some([9; 16])))] {
            assert_eq!(decode(&golden(name, &encode(&row))).unwrap(), row);
        }
    }

    #[test]
    fn a_field_that_a_later_part_adds_is_passed_over() {
        let known = row(7, Some([9; 16]));
        let later = [&encode(&known)[..], &[200, 0, 0, 0, 3], b"abc"].concat();
        assert_eq!(decode(&later).unwrap(), known);
        let before = [&[VERSION][..], &7_u64.to_be_bytes(), &[200, 0, 0, 0, 0], &encode(&known)[9..]].concat();
        assert_eq!(decode(&before).unwrap(), known);
        assert!(decode(&later[..later.len() - 1]).is_err());
    }

    #[test]
    fn contents_have_different_fingerprints() {
        let name = |text| statefun_core::TypeName::parse(text).unwrap();
        let contents = [
            vec![TypedValue::present(name("a/b"), "c")],
            vec![TypedValue::present(name("a/bc"), "")],
            vec![TypedValue::absent(name("a/bc"))],
            vec![TypedValue::present(name("a/b"), "c"), TypedValue::present(name("a/b"), "c")],
            vec![],
        ];
        let prints: Vec<_> = contents.iter().map(|content| Fingerprint::of(content).0).collect();
        assert_eq!(prints.iter().collect::<std::collections::HashSet<_>>().len(), prints.len());
    }

    proptest! {
        #[test]
        fn round_trip(
            expires: u64,
            fingerprint: Option<[u8; 16]>,
            id: [u8; 16],
            key in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let accepted = row(expires, fingerprint);
            prop_assert_eq!(decode(&encode(&accepted)).unwrap(), accepted);
            let expires = Timestamp(expires);
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
