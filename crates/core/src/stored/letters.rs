//! Dead letters as JSON.
//!
//! A message that failed: `{"id","at","reason","error","attempts","envelope"}`, the envelope in its wire form. An ingress
//! record that never became an envelope: `{"id","at","malformed":{"source","position","reason","raw"}}`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Unreadable;
use crate::{
    effects::{DeadLetter, Reason},
    envelope::Envelope,
    id::EnvelopeId,
    time::Timestamp,
    type_name::TypeName,
};

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

/// The JSON of a message that was given up.
#[must_use]
pub fn letter_to_json(letter: &DeadLetter) -> String {
    let DeadLetter { id, at, reason, error, attempts, envelope } = letter;
    let form = RawValue::from_string(envelope.to_wire()).and_then(|envelope| {
        let (reason, error) = (*reason, error.clone());
        serde_json::to_string(&DeadForm { id: id.to_string(), at: *at, reason, error, attempts: *attempts, envelope })
    });
    // The wire form is JSON, and the rest are strings and numbers: this cannot fail.
    form.unwrap_or_default()
}

/// The JSON of a record that could not be read.
#[must_use]
pub fn malformed_to_json(record: &MalformedRecord) -> String {
    let MalformedRecord { id, at, source, position, reason, raw } = record.clone();
    let content = Content::Malformed { source, position, reason, raw };
    serde_json::to_string(&Form { id: id.to_string(), at, content }).unwrap_or_default()
}

/// Reads what [`letter_to_json`] and [`malformed_to_json`] wrote.
///
/// # Errors
/// [`Unreadable`] if it is neither.
pub fn letter_from_json(json: &[u8]) -> Result<Letter, Unreadable> {
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
