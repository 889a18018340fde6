//! What an entry point sets for the engine.

use std::{sync::Arc, time::Duration};

use statefun_core::Rules;

/// Settings of an engine.
#[derive(Debug, Clone)]
pub struct Config {
    /// What holds for every turn.
    pub rules: Arc<Rules>,
    /// How much longer than the invocation's deadline a lease lasts: clocks differ.
    pub lease_margin: Duration,
    /// What is kept of the time before the deadline for commit and sends.
    pub reserve: Duration,
    /// Pauses between tries.
    pub backoff: Backoff,
    /// Records kept of own commits, so that the next batch needs no load; 0 switches that off.
    pub sticky_records: usize,
    /// Bytes that these records may take, about.
    pub sticky_bytes: usize,
    /// Entries of an outbox that are given to a port at a time; in between the clock is looked at. If so
    /// many were sent before a failure, it is stored how far the drain got.
    pub drain_at_once: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rules: Arc::default(),
            lease_margin: Duration::from_secs(10),
            reserve: Duration::from_secs(2),
            backoff: Backoff::default(),
            sticky_records: 10_000,
            sticky_bytes: 64 << 20,
            // Eight requests of ten at the same time; or a second of a FIFO egress, which takes one after the other.
            drain_at_once: 80,
        }
    }
}

/// Pauses between tries: doubling from `first` up to `longest`.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub longest: Duration,
    /// When another environment holds the lease. It grows by as much again with every tenth receive: a lease that a dead environment
    /// left may last for a quarter of an hour, and must not use up the queue's receives.
    pub busy: Duration,
    /// At most, when the backend failed. Such a failure is told by no count of its own, but by how often the queue delivered the
    /// message, which waiting for a lease raises too.
    pub backend: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            busy: Duration::from_secs(2),
            backend: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// The pause when another environment holds the lease, of an envelope that was received this often.
    #[must_use]
    pub fn busy(&self, receives: u32) -> Duration {
        self.busy.saturating_mul(1 + receives / 10).min(self.backend)
    }

    /// The pause after this many failures (1 at least).
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.longest)
    }
}
