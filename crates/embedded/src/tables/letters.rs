//! Table `letters`: what was given up. Key: id (16 bytes). Value: 1, JSON as below.
//! Table `letter-times`: the same by time. Key: when it was given up (8), id (16). Value: empty.
//!
//! A message that failed: `{"id","at","reason","error","attempts","envelope"}`, the envelope in its wire form. An ingress
//! record that never became an envelope: `{"id","at","malformed":{"source","position","reason","raw"}}`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use statefun_core::{DeadLetter, Envelope, EnvelopeId, Reason, Timestamp, TypeName};

use super::{Unreadable, id, time, versioned};
use crate::batch::Key;

const VERSION: u8 = 1;

/// Bytes of a malformed record that are kept.
pub const MAX_RAW_BYTES: usize = 4 * 1_024;

/// Something that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Letter {
    /// A message that failed. It can be sent again.
    Dead(Box<DeadLetter>),
    /// An ingress record that could not be read.
    Malformed(MalformedRecord),
}

/// An ingress record that could not be read, so that there is no envelope of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedRecord {
    /// Derived from source and position: the same record read again is the same letter.
    pub id: EnvelopeId,
    /// When it was read.
    pub at: Timestamp,
    /// Where it came from, such as a file's name.
    pub source: String,
    /// Where in there, such as a line's number.
    pub position: String,
    /// What is wrong with it.
    pub reason: String,
    /// The record itself, as text and cut to [`MAX_RAW_BYTES`].
    pub raw: String,
}

impl MalformedRecord {
    /// A record read at `at` from `source`.
    #[must_use]
    pub fn new(at: Timestamp, source: &str, position: &str, reason: &str, raw: &[u8]) -> Self {
        const TARGET: TypeName = TypeName::from_static("statefun/malformed");
        let id = EnvelopeId::of_ingress(source, position.as_bytes(), &TARGET);
        let mut raw = String::from_utf8_lossy(&raw[..raw.len().min(MAX_RAW_BYTES)]).into_owned();
        raw.truncate(raw.floor_char_boundary(MAX_RAW_BYTES));
        Self { id, at, source: source.into(), position: position.into(), reason: reason.into(), raw }
    }
}

impl Letter {
    /// Stable id.
    #[must_use]
    pub fn id(&self) -> EnvelopeId {
        match self {
            Self::Dead(letter) => letter.id,
            Self::Malformed(record) => record.id,
        }
    }

    /// When it was given up.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Dead(letter) => letter.at,
            Self::Malformed(record) => record.at,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Form {
    id: String,
    at: Timestamp,
    #[serde(flatten)]
    content: Content,
}

#[derive(Serialize, Deserialize)]
struct DeadForm {
    id: String,
    at: Timestamp,
    reason: Reason,
    error: String,
    attempts: u32,
    envelope: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Content {
    Malformed { source: String, position: String, reason: String, raw: String },
}

pub(crate) fn key(id: EnvelopeId) -> Key {
    id.0.into()
}

pub(crate) fn time_key(at: Timestamp, id: EnvelopeId) -> Key {
    [&at.0.to_be_bytes()[..], &id.0].concat().into()
}

pub(crate) fn decode_time_key(key: &[u8]) -> Result<(Timestamp, EnvelopeId), Unreadable> {
    let (at, rest) = time(key)?;
    Ok((at, id(rest)?))
}

pub(crate) fn encode_dead(letter: &DeadLetter) -> Bytes {
    let DeadLetter { id, at, reason, error, attempts, envelope } = letter;
    let form = RawValue::from_string(envelope.to_wire()).and_then(|envelope| {
        json(&DeadForm { id: id.to_string(), at: *at, reason: *reason, error: error.clone(), attempts: *attempts, envelope })
    });
    // The wire form is JSON, and the rest are strings and numbers: this cannot fail.
    form.unwrap_or_default()
}

pub(crate) fn encode_malformed(record: &MalformedRecord) -> Bytes {
    let MalformedRecord { id, at, source, position, reason, raw } = record.clone();
    let content = Content::Malformed { source, position, reason, raw };
    json(&Form { id: id.to_string(), at, content }).unwrap_or_default()
}

fn json(form: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, form)?;
    Ok(bytes.into())
}

pub(crate) fn decode(value: &[u8]) -> Result<Letter, Unreadable> {
    let json = versioned(value, VERSION)?;
    let form = Unreadable::Form("a dead letter");
    let id = |text: &str| EnvelopeId::from_hex(text).ok_or(Unreadable::Form("an id"));
    if let Ok(DeadForm { id: hex, at, reason, error, attempts, envelope }) = serde_json::from_slice(json) {
        let envelope = Envelope::from_wire(envelope.get().as_bytes())?;
        return Ok(Letter::Dead(Box::new(DeadLetter { id: id(&hex)?, at, reason, error, attempts, envelope })));
    }
    let Ok(Form { id: hex, at, content }) = serde_json::from_slice(json) else { return Err(form) };
    let Content::Malformed { source, position, reason, raw } = content;
    Ok(Letter::Malformed(MalformedRecord { id: id(&hex)?, at, source, position, reason, raw }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tables::samples::{golden, letter};

    #[test]
    fn golden_files() {
        let dead = letter(4);
        assert_eq!(decode(&golden("letter-dead-v1", &encode_dead(&dead))).unwrap(), Letter::Dead(Box::new(dead)));
        let malformed = MalformedRecord::new(Timestamp(3), "orders.jsonl", "17", "no key", b"{\"a\":\xff}");
        let bytes = golden("letter-malformed-v1", &encode_malformed(&malformed));
        assert_eq!(decode(&bytes).unwrap(), Letter::Malformed(malformed));
    }

    #[test]
    fn a_long_record_is_cut() {
        let long = MalformedRecord::new(Timestamp(3), "s", "1", "r", "ä\u{1}".repeat(MAX_RAW_BYTES).as_bytes());
        assert!(long.raw.len() <= MAX_RAW_BYTES && long.raw.len() > MAX_RAW_BYTES - 8);
    }

    proptest! {
        #[test]
        fn round_trip(number: u8, raw in proptest::collection::vec(any::<u8>(), 0..60), reason in ".{0,20}") {
            let dead = letter(number);
            prop_assert_eq!(decode(&encode_dead(&dead)).unwrap(), Letter::Dead(Box::new(dead)));
            let malformed = MalformedRecord::new(Timestamp(number.into()), "s", "1", &reason, &raw);
            prop_assert_eq!(decode(&encode_malformed(&malformed)).unwrap(), Letter::Malformed(malformed));
        }

        #[test]
        fn never_panics_on_noise(noise in proptest::collection::vec(any::<u8>(), 0..90)) {
            let _ = (decode(&noise), decode_time_key(&noise));
        }
    }
}
