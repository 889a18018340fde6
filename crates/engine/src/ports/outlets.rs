//! Where effects other than messages go.

use async_trait::async_trait;
use statefun_core::{DeadLetter, EgressRecord, EnvelopeId, RefusedRecord, Timer, Timestamp};

use super::PortError;

/// Delayed messages.
#[async_trait]
pub trait Timers: Send + Sync {
    /// Keeps the timer until it is removed. Scheduling an id that is there already changes nothing. Durable when it returns.
    async fn schedule(&self, timer: &Timer) -> Result<(), PortError>;

    /// Removes the timer, if it is there. Durable when it returns.
    async fn remove(&self, timer: EnvelopeId, due: Timestamp) -> Result<(), PortError>;
}

/// The side of the timers that makes them fire.
#[async_trait]
pub trait DueTimers: Timers {
    /// Up to `limit` timers that are due at `now`, by time and then id.
    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Timer>, PortError>;
}

/// The way out of the system.
#[async_trait]
pub trait Egress: Send + Sync {
    /// Sends records in order; one result per record, in order. Durable where the result is `Ok`; after an error it may have
    /// been accepted, and is sent again with the same id. [`Rejected`](super::PortErrorKind::Rejected) are records that their receiver
    /// refuses for what is in them: they are not accepted, and only these become dead letters in the end.
    async fn emit(&self, records: &[&EgressRecord]) -> Vec<Result<(), PortError>>;
}

/// Where messages go that were given up.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Keeps the letter. An id that is there already changes nothing. Durable when it returns.
    async fn park(&self, letter: &DeadLetter) -> Result<(), PortError>;

    /// Keeps an egress record that its receiver refuses. One whose id is there already changes nothing. Durable when it returns.
    async fn park_refused(&self, refused: &RefusedRecord) -> Result<(), PortError>;
}
