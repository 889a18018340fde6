//! What the receiver of a FIFO queue that delivers by itself needs beside the engine's ports.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use statefun_core::{Timestamp, stored::MalformedRecord};

use super::{DeadLetters, PortError};

/// A message as its FIFO queue delivers it.
#[derive(Debug, Clone)]
pub struct Message {
    /// What its sender wrote: an envelope's wire form, if the sender was this runtime.
    pub body: String,
    /// The message group: the address, or a hash of it, if the sender was this runtime.
    pub group: String,
    /// Its place in the queue.
    pub seq: u128,
    /// The queue's ARN, URL or name.
    pub queue: Arc<str>,
    /// When the queue took it.
    pub sent_at: Timestamp,
    /// How often it was delivered by now, this time included.
    pub receive_count: u32,
    /// The queue's own id of it.
    pub id: String,
    /// Names this delivery.
    pub receipt: String,
}

/// A delivered message that has to come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The delivery's receipt.
    pub receipt: String,
    /// When it is to come again.
    pub after: Duration,
}

impl Failed {
    /// The longest visibility timeout. Source: SQS quotas.
    const MAX_SECONDS: u32 = 12 * 3_600;

    /// The pause as queues count it: in whole seconds, at least one, since the queue's own redrive counts receives (see `docs/protocol.md`).
    #[must_use]
    pub fn seconds(&self) -> u32 {
        self.after.as_secs_f64().ceil().clamp(1.0, f64::from(Self::MAX_SECONDS)) as u32
    }
}

/// Where goes what was given up, and what can never become an envelope.
#[async_trait]
pub trait Letterbox: DeadLetters {
    /// Keeps the record. An id that is there already changes nothing. Durable when it returns.
    async fn park_malformed(&self, record: &MalformedRecord) -> Result<(), PortError>;
}

/// The visibility of messages that were delivered.
#[async_trait]
pub trait Visibility: Send + Sync {
    /// Sets when messages of a queue (its ARN, URL or name) become visible again. What fails keeps the queue's own time-out: it comes later,
    /// but nothing is lost.
    async fn delay(&self, queue: &str, failed: &[Failed]) -> Result<(), PortError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_whole_seconds() {
        for (millis, expected) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (300_000, 300), (u64::MAX, 43_200)] {
            let failed = Failed { receipt: String::new(), after: Duration::from_millis(millis) };
            assert_eq!(failed.seconds(), expected, "{millis}");
        }
    }
}
