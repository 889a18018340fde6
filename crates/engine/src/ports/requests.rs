//! Requests that several senders share.

use async_trait::async_trait;
use statefun_core::{Envelope, group_id};

use super::PortError;

/// A message for a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// What the queue takes: characters that SQS refuses are escaped.
    pub body: String,
    /// FIFO queues: group and deduplication id.
    pub fifo: Option<(String, String)>,
    /// Standard queues: seconds before it is delivered.
    pub delay_seconds: i32,
}

impl Outgoing {
    /// JSON for a FIFO queue, in a group and under a deduplication id.
    pub fn json(json: String, group: String, id: String) -> Self {
        Self { body: as_body(json), fifo: Some((group, id)), delay_seconds: 0 }
    }

    /// An envelope: in the group of its address, under its own id.
    #[must_use]
    pub fn envelope(envelope: &Envelope) -> Self {
        Self::json(envelope.to_wire(), group_id(&envelope.to), envelope.id.to_string())
    }
}

/// Sends messages with one request.
#[async_trait]
pub trait Requests: Send + Sync {
    /// Sends up to ten messages to a queue with one request; one result per message, in order. Durable where it is `Ok`. What the answer does
    /// not name may have been accepted or not, and is an error.
    async fn send(&self, queue: &str, messages: Vec<Outgoing>) -> Vec<Result<(), PortError>>;
}

/// JSON as SQS takes it: two characters that it refuses are written as JSON's escapes. Control characters are so already.
fn as_body(json: String) -> String {
    if json.contains(['\u{fffe}', '\u{ffff}']) {
        return json.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff");
    }
    json
}

#[cfg(test)]
mod tests {
    use statefun_core::{
        Address, EnvelopeId, Timestamp, TypeName, TypedValue,
        limits::{MAX_ID_BYTES, MAX_MESSAGE_BYTES},
    };

    use super::*;

    #[test]
    fn characters_that_sqs_refuses_are_escaped() {
        assert_eq!(as_body("{\"a\":\"x\u{fffe}y\u{ffff}\"}".to_owned()), r#"{"a":"x\ufffey\uffff"}"#);
    }

    #[test]
    fn an_envelope_reads_as_it_was_with_whatever_characters_it_has() {
        let envelope = envelope("a/b/\u{fffe}", "x\u{ffff}");
        let Outgoing { body, fifo, .. } = Outgoing::envelope(&envelope);
        assert!(!body.contains(['\u{fffe}', '\u{ffff}']));
        assert_eq!(Envelope::from_wire(body.as_bytes()).unwrap(), envelope);
        assert_eq!(fifo, Some((group_id(&envelope.to), envelope.id.to_string())));
    }

    /// An envelope that a queue refuses would hold up its sender for ever.
    #[test]
    fn the_largest_message_fits_whatever_its_characters_are() {
        for character in ["x", "\"", "\n", "\u{1}", "\u{ffff}", "\u{10ffff}"] {
            let text = character.repeat(MAX_MESSAGE_BYTES / character.len());
            let bytes = Outgoing::envelope(&envelope(&format!("a/b/{}", "\u{ffff}".repeat(MAX_ID_BYTES / 3)), &text)).body.len();
            assert!(bytes <= 1_024 * 1_024, "{bytes} bytes of {character:?}");
        }
    }

    fn envelope(to: &str, text: &str) -> Envelope {
        Envelope {
            id: EnvelopeId([1; 16]),
            to: Address::parse(to).unwrap(),
            from: None,
            sent_at: Timestamp(1),
            keyed: false,
            hops: 0,
            trace: None,
            messages: vec![TypedValue::present(TypeName::from_static("a/v"), text.to_owned())],
        }
    }
}
