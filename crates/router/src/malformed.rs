//! Records that cannot become messages.

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Serialize;
use statefun_core::{EnvelopeId, Timestamp, TypeName, limits::MAX_REASON_BYTES};
use statefun_engine::ports::PortError;

use crate::{IngressRecord, RouteError};

/// Bytes of a malformed record that are kept. Most are kept whole; as base64 it takes a twelfth of a message of SQS.
pub const MAX_RAW_BYTES: usize = 64 * 1_024;

/// A record that cannot become messages, as it is kept for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedRecord {
    /// Derived from source and position: the same record delivered again is the same letter.
    pub id: EnvelopeId,
    /// When it was found.
    pub at: Timestamp,
    /// The stream or queue it is from.
    pub source: String,
    /// Its place there.
    pub position: String,
    /// What is wrong with it.
    pub reason: String,
    /// The record as text, cut to [`MAX_RAW_BYTES`]; bytes that are no text are replaced.
    pub raw: String,
    /// The record as base64, cut the same, if it is not all text.
    pub base64: Option<String>,
    /// The record's bytes before it was cut.
    pub bytes: usize,
}

#[derive(Serialize)]
struct Letter<'a> {
    id: String,
    at: Timestamp,
    malformed: Content<'a>,
}

#[derive(Serialize)]
struct Content<'a> {
    source: &'a str,
    position: &'a str,
    reason: &'a str,
    raw: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<&'a str>,
    bytes: usize,
}

impl MalformedRecord {
    /// A record found at `at`, which `source` has at `position`.
    #[must_use]
    pub fn new(at: Timestamp, source: &str, position: &str, reason: &str, raw: &[u8]) -> Self {
        const TARGET: TypeName = TypeName::from_static("statefun/malformed");
        let kept = &raw[..raw.len().min(MAX_RAW_BYTES)];
        // A character that the cut goes through is no fault of the record.
        let is_text = match std::str::from_utf8(kept) {
            Ok(_) => true,
            Err(error) => error.error_len().is_none() && kept.len() < raw.len(),
        };
        let mut text = String::from_utf8_lossy(kept).into_owned();
        text.truncate(text.floor_char_boundary(MAX_RAW_BYTES));
        Self {
            id: EnvelopeId::of_ingress(source, position.as_bytes(), &TARGET),
            at,
            source: source.to_owned(),
            position: position.to_owned(),
            reason: reason[..reason.floor_char_boundary(MAX_REASON_BYTES)].to_owned(),
            raw: text,
            base64: (!is_text).then(|| BASE64.encode(kept)),
            bytes: raw.len(),
        }
    }

    /// A record that a router could not make messages of.
    #[must_use]
    pub fn of(record: &IngressRecord, error: &RouteError, at: Timestamp) -> Self {
        Self::new(at, &record.source, &record.position, error.reason(), &record.body)
    }

    /// The form in which it is kept: `{"id", "at", "malformed": {"source", "position", "reason", "raw", "base64", "bytes"}}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Self { source, position, reason, raw, base64, bytes, .. } = self;
        let malformed = Content { source, position, reason, raw, base64: base64.as_deref(), bytes: *bytes };
        // Strings and numbers: serde_json cannot fail on these.
        serde_json::to_string(&Letter { id: self.id.to_string(), at: self.at, malformed }).unwrap_or_default()
    }
}

/// Where malformed records go.
#[async_trait]
pub trait MalformedSink: Send + Sync {
    /// Keeps the record. An id that is there already changes nothing. Durable when it returns.
    async fn park(&self, record: &MalformedRecord) -> Result<(), PortError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(raw: &[u8]) -> MalformedRecord {
        MalformedRecord::new(Timestamp(3), "orders", "shard-0:17", "no key", raw)
    }

    #[test]
    fn kept_as_text_or_as_both() {
        let text = of("{\"ä\":1}".as_bytes());
        assert_eq!((text.raw.as_str(), &text.base64, text.bytes), ("{\"ä\":1}", &None, 8));
        let form = r#"{"id":"ID","at":3,"malformed":{"source":"orders","position":"shard-0:17","reason":"no key","raw":"{\"ä\":1}","bytes":8}}"#;
        assert_eq!(text.to_json(), form.replace("ID", &text.id.to_string()));
        let binary = of(&[b'a', 0xff]);
        assert_eq!((binary.raw.as_str(), binary.base64.as_deref()), ("a\u{fffd}", Some("Yf8=")));
        assert_eq!(text.id, binary.id, "the same place is the same letter");
        assert_ne!(text.id, MalformedRecord::new(Timestamp(3), "orders", "shard-0:18", "", b"").id);
    }

    #[test]
    fn long_ones_are_cut_where_a_character_ends() {
        let long = of("ä".repeat(MAX_RAW_BYTES).as_bytes());
        assert_eq!((long.raw.len(), &long.base64, long.bytes), (MAX_RAW_BYTES, &None, 2 * MAX_RAW_BYTES));
        let odd = of(format!("x{}", "ä".repeat(MAX_RAW_BYTES)).as_bytes());
        assert!(odd.base64.is_none() && odd.raw.len() <= MAX_RAW_BYTES);
        let reason = "ä".repeat(MAX_REASON_BYTES);
        assert!(MalformedRecord::new(Timestamp(3), "s", "1", &reason, b"").reason.len() <= MAX_REASON_BYTES);
    }
}
