//! Dead letters as JSON.
//!
//! A message that failed: `{"id","at","reason","error","attempts","envelope"}`, the envelope in its wire form. An ingress
//! record that never became an envelope: `{"id","at","malformed":{"source","position","reason","raw"}}`. An egress record that its
//! receiver does not take: `{"id","at","refused":{"error","attempts","egress","from","sent_at","value"}}`, the value as in an envelope;
//! with `"reason":"undeliverable"` in it where a queue or a permission was missing for too long.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Unreadable, type_name};
use crate::{
    address::Address,
    effects::{DeadLetter, EgressRecord, NotTaken, Reason, RefusedRecord},
    envelope::{Envelope, WireValue},
    error::truncate,
    id::EnvelopeId,
    limits::MAX_REASON_BYTES,
    time::Timestamp,
    type_name::TypeName,
};

/// Begins what is kept of a record that is not text.
const BASE64_MARK: &str = "base64:";

/// Something that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Letter {
    /// A message that failed. It can be sent again.
    Dead(Box<DeadLetter>),
    /// An ingress record that could not be read.
    Malformed(MalformedRecord),
    /// An egress record that its receiver refuses. It can be sent again.
    Refused(Box<RefusedRecord>),
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
    /// The record itself, or its beginning: text, or `base64:` and base64.
    pub raw: String,
}

impl MalformedRecord {
    /// A record read at `at` from `source`. Text is kept as it is, anything else as base64. What takes more than `limit` bytes in
    /// the letter's JSON, escapes included, is cut where a character ends; the reason then says how much is kept.
    #[must_use]
    pub fn new(at: Timestamp, source: &str, position: &str, reason: &str, record: &[u8], limit: usize) -> Self {
        const TARGET: TypeName = TypeName::from_static("statefun/malformed");
        let id = EnvelopeId::of_ingress(source, position.as_bytes(), &TARGET);
        let (raw, kept) = match std::str::from_utf8(record) {
            Ok(text) => {
                let kept = fitting(text, limit);
                (text[..kept].to_owned(), kept)
            }
            Err(_) => {
                let kept = record.len().min(limit.saturating_sub(BASE64_MARK.len()) / 4 * 3);
                (format!("{BASE64_MARK}{}", BASE64.encode(&record[..kept])), kept)
            }
        };
        let reason = reason_of(reason, kept, record.len());
        Self { id, at, source: source.into(), position: position.into(), reason, raw }
    }
}

/// How many bytes of the text fit into `limit` bytes of JSON.
fn fitting(text: &str, limit: usize) -> usize {
    let mut written = 0;
    let too_much = |(_, character): &(usize, char)| {
        written += json_bytes(*character);
        written > limit
    };
    text.char_indices().find(too_much).map_or(text.len(), |(kept, _)| kept)
}

/// Bytes of a character in a JSON string, as serde writes it. (Queues write the last two as escapes.)
fn json_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..' ' | '\u{fffe}' | '\u{ffff}' => 6,
        other => other.len_utf8(),
    }
}

/// The reason, which says so if not all of the record is kept.
fn reason_of(reason: &str, kept: usize, of: usize) -> String {
    let note = if kept < of { format!("; its first {kept} of {of} bytes are kept") } else { String::new() };
    let mut text = reason.to_owned();
    truncate(&mut text, MAX_REASON_BYTES - note.len());
    text + &note
}

impl Letter {
    /// Stable id.
    #[must_use]
    pub fn id(&self) -> EnvelopeId {
        match self {
            Self::Dead(letter) => letter.id,
            Self::Malformed(record) => record.id,
            Self::Refused(refused) => refused.record.id,
        }
    }

    /// When it was given up.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Dead(letter) => letter.at,
            Self::Malformed(record) => record.at,
            Self::Refused(refused) => refused.at,
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
    Malformed {
        source: String,
        position: String,
        reason: String,
        raw: String,
    },
    Refused {
        /// Missing for what is refused.
        #[serde(default, skip_serializing_if = "is_default")]
        reason: NotTaken,
        error: String,
        attempts: u32,
        egress: String,
        from: String,
        sent_at: Timestamp,
        value: WireValue,
    },
}

fn is_default(reason: &NotTaken) -> bool {
    *reason == NotTaken::default()
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

/// The JSON of an egress record that its receiver refuses.
#[must_use]
pub fn refused_to_json(refused: &RefusedRecord) -> String {
    let RefusedRecord { reason, at, error, attempts, record } = refused;
    let EgressRecord { id, egress, from, at: sent_at, value } = record;
    let (error, egress, from, value) = (error.clone(), egress.to_string(), from.to_string(), WireValue::from(value));
    let (reason, attempts, sent_at) = (*reason, *attempts, *sent_at);
    let content = Content::Refused { reason, error, attempts, egress, from, sent_at, value };
    serde_json::to_string(&Form { id: id.to_string(), at: *at, content }).unwrap_or_default()
}

/// Reads what [`letter_to_json`], [`malformed_to_json`] and [`refused_to_json`] wrote.
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
    Ok(match content {
        Content::Malformed { source, position, reason, raw } => {
            Letter::Malformed(MalformedRecord { id: id(&hex)?, at, source, position, reason, raw })
        }
        Content::Refused { reason, error, attempts, egress, from, sent_at, value } => {
            let (egress, from) = (type_name(&egress)?, Address::parse(&from)?);
            let record = EgressRecord { id: id(&hex)?, egress, from, at: sent_at, value: value.try_into()? };
            Letter::Refused(Box::new(RefusedRecord { reason, at, error, attempts, record }))
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(reason: &str, record: &[u8], limit: usize) -> MalformedRecord {
        MalformedRecord::new(Timestamp(3), "orders", "shard-0:17", reason, record, limit)
    }

    #[test]
    fn kept_as_text_or_as_base64() {
        let text = of("no key", "{\"ä\":1}".as_bytes(), 100);
        assert_eq!((text.raw.as_str(), text.reason.as_str()), ("{\"ä\":1}", "no key"));
        let binary = of("no key", &[b'a', 0xff], 100);
        assert_eq!((binary.raw.as_str(), binary.reason.as_str(), binary.id), ("base64:Yf8=", "no key", text.id));
        assert_eq!(of("", &[b'a', 0xc3], 100).raw, "base64:YcM=", "half a character that no cut left");
    }

    #[test]
    fn long_ones_are_cut_and_it_is_said() {
        let long = of("no key", "xäää".as_bytes(), 4);
        assert_eq!((long.raw.as_str(), long.reason.as_str()), ("xä", "no key; its first 3 of 7 bytes are kept"));
        let binary = of("no key", &[0xff; 9], 7 + 10);
        assert_eq!((binary.raw.as_str(), binary.reason.as_str()), ("base64:////////", "no key; its first 6 of 9 bytes are kept"));
        let reason = of(&"ä".repeat(MAX_REASON_BYTES), b"xyz", 2).reason;
        assert!(reason.len() <= MAX_REASON_BYTES && reason.ends_with("ä; its first 2 of 3 bytes are kept"), "{reason}");
    }

    #[test]
    fn an_egress_record_says_why_it_is_here_unless_it_is_refused() {
        let record = EgressRecord {
            id: EnvelopeId([2; 16]),
            egress: TypeName::from_static("a/out"),
            from: Address::parse("a/b/c").unwrap(),
            at: Timestamp(5),
            value: crate::typed_value::TypedValue::present(TypeName::from_static("a/v"), "x"),
        };
        let refused = RefusedRecord::new(record.clone(), "no".to_owned(), 5, Timestamp(7));
        let undeliverable = RefusedRecord::undeliverable(record, "no".to_owned(), Timestamp(7));
        for (letter, reason) in [(refused, ""), (undeliverable, r#""reason":"undeliverable","#)] {
            let json = refused_to_json(&letter);
            assert!(json.contains(&format!(r#""refused":{{{reason}"error""#)), "{json}");
            assert_eq!(letter_from_json(json.as_bytes()).unwrap(), Letter::Refused(Box::new(letter)));
        }
    }

    proptest! {
        /// The limit is of the JSON, whatever stands in the record; and no more is cut than has to be.
        #[test]
        fn fits_the_limit_as_json(
            text in prop_oneof![".{0,60}", "[\u{0}-\u{1f}\"\\\\x]{0,60}"],
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
            limit in 12_usize..150,
        ) {
            for record in [text.as_bytes(), &bytes] {
                let letter = of("r", record, limit);
                let json = serde_json::to_string(&letter.raw).unwrap().replace(['\u{fffe}', '\u{ffff}'], "\\uffff");
                prop_assert!(json.len() - 2 <= limit);
                let cut = letter.reason != "r";
                prop_assert!(!cut || json.len() - 2 + 6 > limit, "{} of {limit}", json.len());
                if let (false, Ok(text)) = (cut, std::str::from_utf8(record)) {
                    prop_assert_eq!(&letter.raw, text);
                }
                prop_assert_eq!(letter_from_json(malformed_to_json(&letter).as_bytes()).unwrap(), Letter::Malformed(letter));
            }
        }
    }
}
