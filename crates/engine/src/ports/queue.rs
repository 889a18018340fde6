//! FIFO queues of envelopes, one message group per address.

use std::time::Duration;

use async_trait::async_trait;
use statefun_core::{Delivered, Envelope};

use super::PortError;

/// The sending side of the queues.
#[async_trait]
pub trait EnvelopeQueue: Send + Sync {
    /// Sends envelopes, each to the message group of its address; one result per envelope, in order.
    ///
    /// The caller gives at most one envelope per address in a call. Within a group, envelopes are delivered in the order in which
    /// they were accepted. An id that was accepted within the deduplication window is accepted again without effect.
    /// Durable where the result is `Ok`; after an error it may have been accepted.
    async fn send(&self, envelopes: &[&Envelope]) -> Vec<Result<(), PortError>>;
}

/// A delivered envelope and the right to acknowledge this delivery of it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The envelope as delivered.
    pub delivered: Delivered,
    /// Names this delivery.
    pub receipt: Receipt,
}

/// Names one delivery; of no use once the message was delivered again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt(pub String);

/// The receiving side, for hosts that poll by themselves. (On AWS the event source mapping is the receiver.)
///
/// While an envelope of a group is delivered and neither acknowledged nor returned, nothing else of that group is delivered.
#[async_trait]
pub trait QueueConsumer: Send + Sync {
    /// Up to `max` envelopes, of any groups, each group in order. Empty if nothing waits.
    async fn receive(&self, max: usize) -> Result<Vec<Delivery>, PortError>;

    /// Deletes the envelope, unless it was delivered again since.
    async fn acknowledge(&self, receipt: &Receipt) -> Result<(), PortError>;

    /// Gives the envelope back, to be delivered again after `after`; its group waits for it.
    async fn give_back(&self, receipt: &Receipt, after: Duration) -> Result<(), PortError>;
}
