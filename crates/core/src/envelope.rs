//! What travels in a queue: all messages of one cause to one address, and its versioned wire form.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use crate::{
    address::{Address, InvalidAddress},
    id::EnvelopeId,
    time::Timestamp,
    type_name::{InvalidTypeName, TypeName},
    typed_value::TypedValue,
};

/// All messages that one commit, ingress record or timer sends to one address.
///
/// The queue's message group is the address; its deduplication id is the envelope's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Deterministic: a copy of an envelope has the id of the first.
    pub id: EnvelopeId,
    /// The receiver.
    pub to: Address,
    /// The sending instance; absent for what comes from an ingress.
    pub from: Option<Address>,
    /// The earliest moment at which a first copy can have been sent: the sender's clock before its commit, a record's arrival
    /// at its stream or queue, a timer's due time.
    pub sent_at: Timestamp,
    /// Whether the producer named its own deduplication key. Then a first copy may be older than `sent_at` says, and only the
    /// ledger can tell a copy from a first one.
    pub keyed: bool,
    /// Envelopes between the ingress record that caused this one and this one.
    pub hops: u32,
    /// W3C `traceparent`, passed on from cause to effect.
    pub trace: Option<String>,
    /// The messages, in the order sent. Without one it is a [`nudge`](Self::nudge).
    pub messages: Vec<TypedValue>,
}

/// The wire form's version, the number in `"v"`. A new one is needed when old readers would misread.
pub const WIRE_VERSION: u32 = 1;

/// An envelope's wire form that cannot be read. It belongs to the dead letters, with this as its reason.
#[derive(Debug, thiserror::Error)]
pub enum MalformedEnvelope {
    /// Not JSON, or a member is missing or of another kind.
    #[error("the envelope is not in its wire form: {0}")]
    Form(#[from] serde_json::Error),
    /// Written by a version of the runtime that this one does not know.
    #[error(
        "the envelope has wire version {0}, this runtime reads up to {WIRE_VERSION}: update the functions before their senders"
    )]
    Version(u32),
    /// The id is not 32 hexadecimal digits.
    #[error("the envelope's id is not 32 hexadecimal digits")]
    Id,
    /// An address in it is not well formed.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// A type name in it is not well formed.
    #[error(transparent)]
    TypeName(#[from] InvalidTypeName),
    /// A value's base64 cannot be read.
    #[error("a value's base64 cannot be read: {0}")]
    Base64(#[from] base64::DecodeError),
    /// No messages, messages in a nudge, or a value given twice.
    #[error("the envelope has {0}")]
    Content(&'static str),
}

impl Envelope {
    /// A nudge: an envelope without messages. It makes a run look at what stands of its address, send or prove that, and clear it. It is never
    /// classified, nor noted in a record.
    #[must_use]
    pub fn nudge(to: Address, at: Timestamp) -> Self {
        let id = EnvelopeId::of_nudge(&to, at);
        Self { id, to, from: None, sent_at: at, keyed: false, hops: 0, trace: None, messages: Vec::new() }
    }

    /// Whether it is a nudge.
    #[must_use]
    pub const fn is_nudge(&self) -> bool {
        self.messages.is_empty()
    }

    /// The wire form: JSON in which text payloads can be read and others are base64.
    #[must_use]
    pub fn to_wire(&self) -> String {
        let wire = Wire {
            v: WIRE_VERSION,
            id: self.id.to_string(),
            to: self.to.to_string(),
            from: self.from.as_ref().map(ToString::to_string),
            sent_at: self.sent_at,
            keyed: self.keyed,
            hops: self.hops,
            trace: self.trace.clone(),
            nudge: self.is_nudge(),
            messages: self.messages.iter().map(WireValue::from).collect(),
        };
        // Strings, numbers and lists of them: serde_json cannot fail on these.
        serde_json::to_string(&wire).unwrap_or_default()
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// [`MalformedEnvelope`] says what is wrong with it.
    pub fn from_wire(text: &[u8]) -> Result<Self, MalformedEnvelope> {
        let wire: Wire = serde_json::from_slice(text).map_err(|error| match serde_json::from_slice(text) {
            Ok(WireVersion { v }) if v > WIRE_VERSION => MalformedEnvelope::Version(v),
            _ => error.into(),
        })?;
        if wire.v != WIRE_VERSION {
            return Err(MalformedEnvelope::Version(wire.v));
        }
        if wire.messages.is_empty() != wire.nudge {
            return Err(MalformedEnvelope::Content(if wire.nudge { "messages, and is a nudge" } else { "no messages" }));
        }
        Ok(Self {
            id: EnvelopeId::from_hex(&wire.id).ok_or(MalformedEnvelope::Id)?,
            to: Address::parse(&wire.to)?,
            from: wire.from.as_deref().map(Address::parse).transpose()?,
            sent_at: wire.sent_at,
            keyed: wire.keyed,
            hops: wire.hops,
            trace: wire.trace,
            messages: wire.messages.into_iter().map(TypedValue::try_from).collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    id: String,
    to: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    sent_at: Timestamp,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    keyed: bool,
    #[serde(default)]
    hops: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    nudge: bool,
    messages: Vec<WireValue>,
}

#[derive(Deserialize)]
struct WireVersion {
    v: u32,
}

/// A [`TypedValue`] in JSON: `text` or `base64`, or neither where the value is absent. Envelopes and dead letters hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireValue {
    #[serde(rename = "type")]
    type_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl From<&TypedValue> for WireValue {
    fn from(value: &TypedValue) -> Self {
        let mut wire = Self { type_name: value.type_name.to_string(), text: None, base64: None };
        if let Some(bytes) = &value.value {
            match std::str::from_utf8(bytes) {
                Ok(text) if text_is_shorter(text) => wire.text = Some(text.to_owned()),
                _ => wire.base64 = Some(BASE64.encode(bytes)),
            }
        }
        wire
    }
}

/// Whether JSON's escapes leave the text shorter than base64 would be, which bounds the wire form at 4/3 of the payload.
fn text_is_shorter(text: &str) -> bool {
    encoded_text_bytes(text) <= text.len().div_ceil(3) * 4
}

fn encoded_text_bytes(text: &str) -> usize {
    let escape = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    // SQS takes two characters only as JSON's escapes: six bytes instead of three.
    text.bytes().map(escape).sum::<usize>() + 3 * text.matches(['\u{fffe}', '\u{ffff}']).count()
}

/// Bytes that a value takes in the wire form, at most.
#[must_use]
pub fn wire_bytes(value: &TypedValue) -> usize {
    // {"type":"","base64":""}, and a comma.
    32 + value.type_name.as_str().len() + value.len().div_ceil(3) * 4
}

impl TryFrom<WireValue> for TypedValue {
    type Error = MalformedEnvelope;

    fn try_from(wire: WireValue) -> Result<Self, MalformedEnvelope> {
        let type_name = TypeName::parse(&wire.type_name)?;
        let value = match (wire.text, wire.base64) {
            (Some(_), Some(_)) => return Err(MalformedEnvelope::Content("a value both as text and as base64")),
            (Some(text), None) => Some(text.into_bytes().into()),
            (None, Some(encoded)) => Some(BASE64.decode(encoded)?.into()),
            (None, None) => None,
        };
        Ok(Self { type_name, value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(messages: Vec<TypedValue>) -> Envelope {
        Envelope {
            id: EnvelopeId([7; 16]),
            to: Address::parse("example/greeter/Bob / \"x\"").unwrap(),
            from: Some(Address::parse("example/user/1").unwrap()),
            sent_at: Timestamp(1_700_000_000_000),
            keyed: false,
            hops: 2,
            trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            messages,
        }
    }

    fn text(bytes: &'static [u8]) -> TypedValue {
        TypedValue::present(TypeName::from_static("example/greet"), bytes)
    }

    /// The wire form of every released version must be read for ever: never change the files, add new ones.
    #[test]
    fn golden_files() {
        let absent = TypedValue::absent(TypeName::from_static("example/none"));
        let full = sample(vec![text(b"{\"name\":\"Bob\"}"), text(b""), text(&[0, 159, 146, 150]), absent]);
        let mut plain = sample(vec![text(b"hi")]);
        (plain.from, plain.trace, plain.hops, plain.keyed) = (None, None, 0, true);
        for (golden, envelope) in
            [(include_str!("../golden/envelope-v1-full.json"), full), (include_str!("../golden/envelope-v1-plain.json"), plain)]
        {
            assert_eq!(Envelope::from_wire(golden.as_bytes()).unwrap(), envelope);
            assert_eq!(envelope.to_wire(), golden.trim_end());
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let wire = sample(vec![text(b"x")]).to_wire();
        let error = |from: &str, to: &str| {
            let changed = wire.replace(from, to);
            assert_ne!(changed, wire);
            Envelope::from_wire(changed.as_bytes()).unwrap_err().to_string()
        };
        assert!(error("\"v\":1", "\"v\":9").contains("wire version 9"));
        assert!(error("\"hops\":2", "\"hops\":-2").contains("not in its wire form"));
        assert!(error("0707", "07").contains("32 hexadecimal"));
        assert!(error("example/user/1", "example").contains("not an address"));
        assert!(error("example/greet\"", "greet\"").contains("not a type name"));
        assert!(error("\"text\":\"x\"", "\"base64\":\"!\"").contains("base64"));
        assert!(Envelope::from_wire(b"{\"v\":2}").unwrap_err().to_string().contains("wire version 2"));
        assert!(Envelope::from_wire(b"hello").is_err());
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote_within_its_bound(payloads in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)), 1..5)) {
            let name = TypeName::from_static("a/b");
            let messages = payloads.into_iter().map(|value| TypedValue { type_name: name.clone(), value: value.map(Into::into) }).collect();
            let envelope = sample(messages);
            let wire = envelope.to_wire();
            prop_assert!(wire.len() <= 512 + envelope.messages.iter().map(wire_bytes).sum::<usize>());
            prop_assert_eq!(Envelope::from_wire(wire.as_bytes()).unwrap(), envelope);
        }

        #[test]
        fn never_panics_on_noise(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Envelope::from_wire(&noise);
        }
    }
    #[test]
    fn a_nudge_says_that_it_is_one_and_nothing_else_has_no_messages() {
        let to = Address::parse("a/b/c").unwrap();
        let nudge = Envelope::nudge(to.clone(), Timestamp(5));
        assert!(nudge.is_nudge() && nudge.to_wire().contains("\"nudge\":true"));
        assert_eq!(Envelope::from_wire(nudge.to_wire().as_bytes()).unwrap(), nudge);
        assert_ne!(nudge.id, Envelope::nudge(to, Timestamp(6)).id, "or its queue would take it for a copy");
        for (wire, problem) in [
            (nudge.to_wire().replace(",\"nudge\":true", ""), "no messages"),
            (nudge.to_wire().replace("[]", "[{\"type\":\"a/b\"}]"), "is a nudge"),
        ] {
            let error = Envelope::from_wire(wire.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
