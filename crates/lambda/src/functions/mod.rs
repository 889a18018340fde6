//! A function Lambda: events of its FIFO queues go through the engine, and the answer says who has to come again.

mod batch;
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
use statefun_aws::queues::Failed;
use statefun_core::chain;
use statefun_engine::{
    Engine,
    ports::{Clock, Moment, PortError, PortErrorKind},
};

use crate::{
    emf::Emf,
    events::{BatchResponse, Event, SqsMessage, UnknownEvent},
    ports::{Letterbox, Visibility},
};
pub(crate) use batch::{Batch, Slot};

/// What is kept of the time before the deadline for the answer, beside what the engine keeps for its commits.
const ANSWER_RESERVE: Duration = Duration::from_millis(300);

/// A time-out of the Lambda below which hardly anything is left for handlers.
const SHORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a message waits that only a later deployment can read.
const UNTIL_DEPLOYED: Duration = Duration::from_secs(300);

/// How long a message waits whose dead letter could not be written.
const UNTIL_PARKED: Duration = Duration::from_secs(10);

/// Serves the events of a function Lambda; any number of them at the same time.
pub(crate) struct FunctionService {
    engine: Engine,
    letters: Arc<dyn Letterbox>,
    visibility: Arc<dyn Visibility>,
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
    pub(crate) fn new(
        engine: Engine,
        letters: Arc<dyn Letterbox>,
        visibility: Arc<dyn Visibility>,
        emf: Emf,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { engine, letters, visibility, emf, clock, warned: AtomicBool::new(false) }
    }

    /// Serves one event.
    ///
    /// # Errors
    /// If it is no event of a FIFO queue. All of its messages come again then.
    pub(crate) async fn handle(&self, event: Value, deadline: Moment) -> Result<BatchResponse, FunctionError> {
        let Event::Sqs(messages) = Event::read(event)? else { return Err(FunctionError::NotSqs) };
        if let Some(message) = messages.iter().find(|message| message.attributes.sequence_number.is_none()) {
            return Err(FunctionError::NotFifo(message.source_arn.clone()));
        }
        self.warn_of_a_short_timeout(deadline);
        let batch = Batch::read(&messages, self.clock.now());
        let outcomes = self.engine.run_batch(&batch.envelopes, deadline.minus(ANSWER_RESERVE)).await;
        let mut failed = batch.failures(&messages, &outcomes, UNTIL_DEPLOYED);
        // From here on an answer in time counts more than that all of it is done.
        let last_moment = deadline.minus(ANSWER_RESERVE / 2);
        self.park(&messages, &batch, &mut failed, last_moment).await;
        let failed: Vec<_> = messages.iter().zip(failed).filter_map(|(message, pause)| Some((message, pause?))).collect();
        if tokio::time::timeout(last_moment.since(self.clock.moment()), self.delay(&failed)).await.is_err() {
            tracing::warn!("there was no time left to set pauses: failed messages wait for the queue's own visibility time-out");
        }
        tracing::debug!(messages = messages.len(), failed = failed.len(), "batch");
        self.emf.emit_now_and_then(self.engine.metrics(), &*self.clock);
        self.emf.failing(failed.iter().map(|(message, _)| message.sent_at()), self.clock.now());
        Ok(BatchResponse::of(failed.iter().map(|(message, _)| &*message.message_id)))
    }

    /// Writes what the counters rose by since the last time: the environment ends.
    pub(crate) fn report(&self) {
        self.emf.emit(self.engine.metrics(), self.clock.now());
    }

    /// Parks what cannot be read, unless it waits behind a failed one of its group: it is found again then. Only now, so that a
    /// letter is not written at every delivery of a group that fails.
    async fn park(&self, messages: &[SqsMessage], batch: &Batch, failed: &mut [Option<Duration>], last_moment: Moment) {
        for (index, slot) in batch.slots.iter().enumerate() {
            if failed[index].is_some() {
                continue;
            }
            let parking = match slot {
                Slot::Run(_) | Slot::Wait => continue,
                Slot::Malformed(record) => self.letters.park_malformed(record),
                Slot::Stray(letter) => self.letters.park(letter),
            };
            let late = || PortError::new("park", PortErrorKind::Unavailable, "the time ran out");
            match tokio::time::timeout(last_moment.since(self.clock.moment()), parking).await.unwrap_or_else(|_| Err(late())) {
                Ok(()) => tracing::warn!(
                    "a message that did not come from this runtime, or is damaged, was given up to the dead letters"
                ),
                Err(error) => {
                    warn_of(&error, "a message that cannot be read is not parked yet");
                    batch::fail_from(messages, index, UNTIL_PARKED, failed);
                }
            }
        }
    }

    /// Shortens the pause of failed messages: without it the whole group would wait for the queue's visibility time-out.
    async fn delay(&self, failed: &[(&SqsMessage, Duration)]) {
        let Some((first, _)) = failed.first() else { return };
        let pauses: Vec<_> =
            failed.iter().map(|(message, pause)| Failed { receipt: message.receipt_handle.clone(), after: *pause }).collect();
        // All messages of an event are of one queue.
        if let Err(error) = self.visibility.delay(&first.source_arn, &pauses).await {
            warn_of(&error, "failed messages wait for the queue's own visibility time-out");
        }
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

fn warn_of(error: &PortError, what: &'static str) {
    tracing::warn!(error = chain(error), "{what}");
}
