//! Receiving from a FIFO queue that delivers by itself: batches of messages go through the engine, and the answer says which have to come
//! again.

mod batch;

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use statefun_core::{Safeguard, chain};

pub use batch::{Batch, Slot};

use crate::{
    Engine,
    ports::{Failed, Letterbox, Message, Moment, PortError, PortErrorKind, Visibility},
};

/// What is kept of the time before the deadline for the answer, beside what the engine keeps for its commits.
pub const ANSWER_RESERVE: Duration = Duration::from_millis(300);

/// How long a message waits that only a later deployment can read.
const UNTIL_DEPLOYED: Duration = Duration::from_secs(300);

/// How long a message waits whose dead letter could not be written.
const UNTIL_PARKED: Duration = Duration::from_secs(10);

/// Serves batches of FIFO queues; any number of them at the same time.
pub struct Receiver {
    engine: Engine,
    letters: Arc<dyn Letterbox>,
    visibility: Arc<dyn Visibility>,
}

impl Receiver {
    /// A receiver that runs what it reads with this engine.
    pub fn new(engine: Engine, letters: Arc<dyn Letterbox>, visibility: Arc<dyn Visibility>) -> Self {
        Self { engine, letters, visibility }
    }

    /// The engine it runs.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Serves a batch of one queue, in the queue's order. Returns before the deadline which of the messages have to come again, and after
    /// which pause, in the batch's order; that pause is set, if there was time for it. All others are done: they may be deleted.
    ///
    /// An envelope is done if what it caused is durable, and will be sent. What is not an envelope of its group is done once its dead letter
    /// is kept, if it does not wait behind a failed message. What a newer version wrote waits for a deployment, with all behind it. With a
    /// message that has to come again, all later ones of its group have to.
    pub async fn serve(&self, messages: &[Message], deadline: Moment) -> Vec<Option<Duration>> {
        let batch = Batch::read(messages, self.engine.ports.clock.now(), self.engine.rules().protocol.safeguards);
        let outcomes = self.engine.run_batch(&batch.envelopes, deadline.minus(ANSWER_RESERVE)).await;
        let mut failed = batch.failures(messages, &outcomes, UNTIL_DEPLOYED);
        // From here on an answer in time counts more than that all of it is done.
        let last_moment = deadline.minus(ANSWER_RESERVE / 2);
        self.park(messages, &batch, &mut failed, last_moment).await;
        self.delay(messages, &failed, last_moment).await;
        failed
    }

    /// Parks what cannot be read, unless it waits behind a failed one of its group: it is found again then. Only now, so that a
    /// letter is not written at every delivery of a group that fails.
    async fn park(&self, messages: &[Message], batch: &Batch, failed: &mut [Option<Duration>], last_moment: Moment) {
        for (index, slot) in batch.slots.iter().enumerate() {
            if failed[index].is_some() {
                continue;
            }
            let parking = match slot {
                Slot::Run(_) | Slot::Wait => continue,
                Slot::Malformed(record) => self.letters.park_malformed(record),
                Slot::Stray(letter) => self.letters.park(letter),
            };
            let late = || Err(PortError::new("park", PortErrorKind::Unavailable, "the time ran out"));
            match self.in_time(last_moment, parking).await.unwrap_or_else(late) {
                Ok(()) => tracing::warn!(
                    "a message that did not come from this runtime, or is damaged, was given up to the dead letters"
                ),
                Err(error) if self.engine.rules().protocol.safeguards.on(Safeguard::KeepUnreadable) => {
                    warn_of(&error, "a message that cannot be read is not parked yet");
                    batch::fail_from(messages, index, UNTIL_PARKED, failed);
                }
                Err(_) => {}
            }
        }
    }

    /// Shortens the pause of failed messages: without it the whole group would wait for the queue's visibility time-out.
    async fn delay(&self, messages: &[Message], failed: &[Option<Duration>], last_moment: Moment) {
        // All messages of a batch are of one queue.
        let Some(first) = messages.first() else { return };
        let failed = messages.iter().zip(failed);
        let failed = failed.filter_map(|(message, pause)| Some(Failed { receipt: message.receipt.clone(), after: (*pause)? }));
        let failed: Vec<_> = failed.collect();
        if failed.is_empty() {
            return;
        }
        match self.in_time(last_moment, self.visibility.delay(&first.queue, &failed)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => warn_of(&error, "failed messages wait for the queue's own visibility time-out"),
            None => tracing::warn!(
                "there was no time left to set pauses: failed messages wait for the queue's own visibility time-out"
            ),
        }
    }

    /// What comes of a call, unless its time is over first.
    async fn in_time<T>(&self, last_moment: Moment, call: impl Future<Output = T>) -> Option<T> {
        match select(pin!(call), self.engine.ports.clock.sleep_until(last_moment)).await {
            Either::Left((answer, _)) => Some(answer),
            Either::Right(_) => None,
        }
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("engine", &self.engine).finish_non_exhaustive()
    }
}

fn warn_of(error: &PortError, what: &'static str) {
    tracing::warn!(error = chain(error), "{what}");
}
