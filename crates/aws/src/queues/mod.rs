//! Envelopes in SQS FIFO queues: the message group is the address, the deduplication id is the envelope's id. Each function has
//! one queue or several (shards, by the hash of the address), since a queue sees but its first 120,000 messages: without
//! shards one address with a huge backlog would starve all others.

mod consumer;
mod functions;
mod visibility;

use std::sync::Arc;

use async_trait::async_trait;
use statefun_core::{Address, Envelope};
use statefun_engine::{
    Batcher,
    ports::{EnvelopeQueue, Outgoing, PortError, PortErrorKind},
};

pub use consumer::{SqsConsumer, create_fifo_queue, create_standard_queue};
pub use functions::FunctionQueues;
pub use visibility::SqsVisibility;

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
        Ok((queue.clone(), Outgoing::envelope(envelope)))
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
