//! What an entry point sets for the engine.

use std::{sync::Arc, time::Duration};

use statefun_core::{Backoff, Rules};

use crate::cache::CacheUse;

/// Settings of an engine.
#[derive(Debug, Clone)]
pub struct Config {
    /// What holds for every turn.
    pub rules: Arc<Rules>,
    /// How long a handler runs before its run asks others to wait, by a lease.
    pub lease_after: Duration,
    /// How much longer than the invocation's deadline a lease lasts: clocks differ.
    pub lease_margin: Duration,
    /// What is kept of the time before the deadline for commit and sends.
    pub reserve: Duration,
    /// Pauses between tries.
    pub backoff: Backoff,
    /// When a record of an own commit stands in for a read.
    pub cache: CacheUse,
    /// Records kept of own commits; 0 switches that off.
    pub sticky_records: usize,
    /// Bytes that these records may take, about.
    pub sticky_bytes: usize,
    /// The number of its first run. The runs of no other engine over the same store may have numbers near it: draw it at random.
    pub first_run: u64,
    /// Entries of an outbox that are given to a port at a time; in between the clock is looked at. If so
    /// many were sent before a failure, it is stored how far the drain got.
    pub drain_at_once: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rules: Arc::default(),
            lease_after: Duration::from_millis(500),
            lease_margin: Duration::from_secs(10),
            reserve: Duration::from_secs(2),
            backoff: Backoff::default(),
            cache: CacheUse::WhereItPays,
            sticky_records: 10_000,
            sticky_bytes: 64 << 20,
            first_run: 0,
            // Eight requests of ten at the same time; or a second of a FIFO egress, which takes one after the other.
            drain_at_once: 80,
        }
    }
}
