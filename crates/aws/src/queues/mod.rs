//! Envelopes in SQS FIFO queues: the message group is the address, the deduplication id is the envelope's id. Each function has
//! one queue or several (shards, by the hash of the address), since a queue sees but its first 120,000 messages: without
//! shards one address with a huge backlog would starve all others.

mod consumer;
mod functions;
mod visibility;

use std::sync::Arc;

use async_trait::async_trait;
use statefun_core::{Address, Envelope, group_id};
use statefun_engine::ports::{EnvelopeQueue, PortError, PortErrorKind};

pub use consumer::{SqsConsumer, create_fifo_queue, create_standard_queue};
pub use functions::FunctionQueues;
pub use visibility::SqsVisibility;

use crate::batcher::{Batcher, Outgoing};

/// The sending side of the function queues.
#[derive(Debug, Clone)]
pub struct SqsQueues {
    batcher: Batcher,
    functions: Arc<FunctionQueues>,
}

impl SqsQueues {
    pub(crate) fn new(batcher: Batcher, functions: Arc<FunctionQueues>) -> Self {
        Self { batcher, functions }
    }

    /// Whether envelopes can be sent to this address at all.
    pub(crate) fn has_queue(&self, address: &Address) -> bool {
        self.functions.queue_of(address).is_some()
    }

    /// The queue of an envelope, and the envelope as a message of it.
    fn outgoing(&self, envelope: &Envelope) -> Result<(Arc<str>, Outgoing), PortError> {
        let Some(queue) = self.functions.queue_of(&envelope.to) else {
            let problem = format!("no queue is declared for the function {}: add it to module.yaml", envelope.to.function());
            return Err(PortError::new("send", PortErrorKind::Refused, problem));
        };
        let fifo = Some((group_id(&envelope.to), envelope.id.to_string()));
        Ok((queue.clone(), Outgoing { body: as_body(envelope.to_wire()), fifo, delay_seconds: 0 }))
    }
}

#[async_trait]
impl EnvelopeQueue for SqsQueues {
    async fn send(&self, envelopes: &[&Envelope]) -> Vec<Result<(), PortError>> {
        let (mut results, mut places, mut outgoing) = (Vec::new(), Vec::new(), Vec::new());
        for (index, envelope) in envelopes.iter().enumerate() {
            results.push(self.outgoing(envelope).map(|message| {
                places.push(index);
                outgoing.push(message);
            }));
        }
        for (index, sent) in places.into_iter().zip(self.batcher.send_all(outgoing).await) {
            results[index] = sent;
        }
        results
    }
}

/// JSON as SQS takes it: two characters that it refuses are written as JSON's escapes. Control characters are so already.
pub(crate) fn as_body(json: String) -> String {
    if json.contains(['\u{fffe}', '\u{ffff}']) {
        return json.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff");
    }
    json
}

#[cfg(test)]
mod tests {
    use statefun_core::{
        EnvelopeId, Timestamp, TypeName, TypedValue,
        limits::{MAX_ID_BYTES, MAX_MESSAGE_BYTES},
    };

    use super::*;

    #[test]
    fn characters_that_sqs_refuses_are_escaped() {
        let text = "{\"a\":\"x\u{fffe}y\u{ffff}\"}";
        let body = as_body(text.to_owned());
        assert_eq!(body, r#"{"a":"x\ufffey\uffff"}"#);
        let read: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(read["a"], "x\u{fffe}y\u{ffff}");
    }

    /// An envelope that a queue refuses would hold up its sender for ever.
    #[test]
    fn the_largest_message_fits_whatever_its_characters_are() {
        for character in ["x", "\"", "\n", "\u{1}", "\u{ffff}", "\u{10ffff}"] {
            let text = character.repeat(MAX_MESSAGE_BYTES / character.len());
            let envelope = Envelope {
                id: EnvelopeId([1; 16]),
                to: Address::new(TypeName::from_static("a/b"), "\u{ffff}".repeat(MAX_ID_BYTES / 3)).unwrap(),
                from: None,
                sent_at: Timestamp(1),
                keyed: false,
                hops: 0,
                trace: None,
                messages: vec![TypedValue::present(TypeName::from_static("a/v"), text)],
            };
            let bytes = as_body(envelope.to_wire()).len();
            assert!(bytes <= 1_024 * 1_024, "{bytes} bytes of {character:?}");
        }
    }
}
