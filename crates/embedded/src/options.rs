//! How a store is opened.

use std::time::Duration;

/// Limits and habits of a store. The defaults suit one machine.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether a commit hands its outbox over in the same atomic step. Without it the outbox is stored, as on AWS.
    pub settle: bool,
    /// How long changes may gather while nobody waits for them to be durable.
    pub linger: Duration,
    /// Bytes of changes that may wait for a flush; beyond, writers wait.
    pub pending_bytes: usize,
    /// Bytes of the storage engine's page cache.
    pub cache_bytes: usize,
    /// Files up to this size are verified whole when they are opened. In bigger ones, damage shows only where rows are read: a
    /// changed row is always noticed, a lost one is not.
    pub verify_bytes: u64,
    /// Lanes that are held in memory; others are found on disk when there is room.
    pub max_lanes: usize,
    /// Envelopes of one lane that are held in memory.
    pub lane_envelopes: usize,
    /// Memory for envelopes that are held, roughly.
    pub lane_bytes: usize,
    /// How long an id sent through the queue's port is remembered (SQS FIFO: 5 minutes).
    pub dedup_window: Duration,
    /// How long an id that came in through an idempotent ingress is remembered.
    pub retention: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settle: true,
            linger: Duration::from_millis(5),
            pending_bytes: 32 * 1_024 * 1_024,
            cache_bytes: 64 * 1_024 * 1_024,
            // A second or two at most.
            verify_bytes: 1_024 * 1_024 * 1_024,
            max_lanes: 100_000,
            lane_envelopes: 128,
            lane_bytes: 64 * 1_024 * 1_024,
            dedup_window: Duration::from_secs(300),
            retention: Duration::from_secs(21 * 86_400),
        }
    }
}
