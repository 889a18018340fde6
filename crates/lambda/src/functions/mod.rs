//! A function Lambda: events of its FIFO queues go through the engine's receiver, and the answer says who has to come again.

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use statefun_core::Timestamp;
use statefun_engine::{
    Receiver,
    ports::{Clock, Message, Moment},
};

use crate::{
    emf::Emf,
    events::{BatchResponse, Event, SqsMessage, UnknownEvent},
};

/// A time-out of the Lambda below which hardly anything is left for handlers.
const SHORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the events of a function Lambda; any number of them at the same time.
pub(crate) struct FunctionService {
    receiver: Receiver,
    emf: Emf,
    clock: Arc<dyn Clock>,
    warned: AtomicBool,
}

/// Why an event as a whole is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FunctionError {
    #[error(transparent)]
    Unknown(#[from] UnknownEvent),
    #[error("a function Lambda takes messages of its SQS FIFO queues only: connect streams and commands to the router Lambda")]
    NotSqs,
    #[error("the queue of messages to functions must be a FIFO queue: `{0}` is none")]
    NotFifo(String),
}

impl FunctionService {
    pub(crate) fn new(receiver: Receiver, emf: Emf, clock: Arc<dyn Clock>) -> Self {
        Self { receiver, emf, clock, warned: AtomicBool::new(false) }
    }

    /// Serves one event.
    ///
    /// # Errors
    /// If it is not an event of a FIFO queue. All of its messages come again then.
    pub(crate) async fn handle(&self, event: Value, deadline: Moment) -> Result<BatchResponse, FunctionError> {
        let Event::Sqs(messages) = Event::read(event)? else { return Err(FunctionError::NotSqs) };
        let messages = neutral(messages)?;
        self.warn_of_a_short_timeout(deadline);
        let pauses = self.receiver.serve(&messages, deadline).await;
        let failed: Vec<_> = messages.iter().zip(pauses).filter_map(|(message, pause)| pause.map(|_| message)).collect();
        tracing::debug!(messages = messages.len(), failed = failed.len(), "batch");
        self.emf.emit_now_and_then(self.receiver.engine().metrics(), &*self.clock);
        self.emf.failing(failed.iter().map(|message| message.sent_at), self.clock.now());
        Ok(BatchResponse::of(failed.iter().map(|message| &*message.id)))
    }

    /// Writes what the counters rose by since the last time: the environment ends.
    pub(crate) fn report(&self) {
        self.emf.emit(self.receiver.engine().metrics(), self.clock.now());
    }

    fn warn_of_a_short_timeout(&self, deadline: Moment) {
        let left = deadline.since(self.clock.moment());
        if left < SHORT_TIMEOUT && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                left_ms = left.as_millis(),
                "the Lambda's time-out leaves hardly any time for handlers: give it 10 seconds or more"
            );
        }
    }
}

/// The messages of an event as the receiver takes them.
pub(crate) fn neutral(messages: Vec<SqsMessage>) -> Result<Vec<Message>, FunctionError> {
    let queue: Arc<str> = messages.first().map(|message| message.source_arn.as_str()).unwrap_or_default().into();
    let one = |SqsMessage { message_id, receipt_handle, body, attributes, source_arn, .. }: SqsMessage| {
        Ok(Message {
            body,
            group: attributes.message_group_id.unwrap_or_default(),
            queue: if *queue == *source_arn { queue.clone() } else { source_arn.as_str().into() },
            seq: attributes.sequence_number.ok_or(FunctionError::NotFifo(source_arn))?,
            sent_at: Timestamp(attributes.sent_timestamp),
            receive_count: attributes.approximate_receive_count,
            id: message_id,
            receipt: receipt_handle,
        })
    };
    messages.into_iter().map(one).collect()
}
