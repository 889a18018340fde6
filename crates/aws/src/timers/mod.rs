//! Delayed messages: a row per timer; woken by a delayed message up to 15 minutes ahead, beyond that found by a sweep.
//!
//! Firing sends the envelope, then deletes the row. A wake-up only names a row, so a lost one costs a delay (the sweep finds what
//! is due) and a repeated one nothing. How a row fires, and the tombstone that a cancelled timer leaves, are the engine's
//! ([`statefun_engine::backend`]); here are the rows, and how many of them fire together.

mod fire;
mod rows;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use statefun_core::{EnvelopeId, Safeguards, Timer, Timestamp};
use statefun_engine::{
    Batcher,
    backend::{self, TimerRows},
    ports::{Clock, DueTimers, EnvelopeQueue, Outgoing, PortError, Timers},
};

pub use fire::Swept;

use crate::{
    backend::SystemClock,
    error::unreadable,
    store::DynamoStore,
    timers::rows::{Row, WakeUp},
};

/// The longest delay of a message in a standard queue. Source: SQS quotas.
const LONGEST_DELAY_MILLIS: u64 = 15 * 60_000;

/// Timers in the instance table.
#[derive(Clone)]
pub struct DynamoTimers {
    store: DynamoStore,
    batcher: Batcher,
    /// The standard queue of wake-ups.
    wake_ups: Arc<str>,
    queue: Arc<dyn EnvelopeQueue>,
    clock: Arc<dyn Clock>,
}

impl DynamoTimers {
    pub(crate) fn new(
        store: DynamoStore,
        batcher: Batcher,
        wake_ups: impl Into<Arc<str>>,
        queue: Arc<dyn EnvelopeQueue>,
    ) -> Self {
        Self { store, batcher, wake_ups: wake_ups.into(), queue, clock: Arc::new(SystemClock) }
    }

    /// Has the timer's row looked at when it is due. `due` is at most 15 minutes ahead.
    async fn wake(&self, id: EnvelopeId, due: Timestamp) -> Result<(), PortError> {
        let ahead = due.0.saturating_sub(self.clock.now().0);
        // Rounded up: an early wake-up would find nothing due.
        let delay_seconds = i32::try_from(ahead.div_ceil(1_000)).unwrap_or(i32::MAX);
        self.batcher.send(&self.wake_ups, Outgoing { body: WakeUp { id, due }.to_json(), fifo: None, delay_seconds }).await
    }
}

#[async_trait]
impl Timers for DynamoTimers {
    async fn schedule(&self, timer: &Timer) -> Result<(), PortError> {
        let near = timer.due.0.saturating_sub(self.clock.now().0) <= LONGEST_DELAY_MILLIS;
        self.put(timer, near).await?;
        if near {
            self.wake(timer.envelope.id, timer.due).await?;
        }
        Ok(())
    }

    async fn remove(&self, timer: EnvelopeId, due: Timestamp) -> Result<(), PortError> {
        backend::cancel(self, timer, due, Safeguards::default()).await
    }
}

#[async_trait]
impl DueTimers for DynamoTimers {
    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Timer>, PortError> {
        let mut rows = Vec::new();
        for shard in 0..rows::SHARDS {
            for item in self.due_rows(shard, None, now).await? {
                rows.push(Row::of(item).map_err(|error| unreadable("due timers", error))?);
            }
        }
        rows.sort_by_key(|row| (row.due, row.id));
        rows.truncate(limit);
        let mut timers = Vec::with_capacity(rows.len());
        for row in rows {
            timers.extend(self.read(row).await?);
        }
        Ok(timers)
    }
}

impl std::fmt::Debug for DynamoTimers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamoTimers").field("wake_ups", &self.wake_ups).finish_non_exhaustive()
    }
}
