//! The conformance kit: what every adapter has to do, as code that runs on it. An adapter's tests implement [`Backend`] and call
//! [`check`]; each finding says which rule of [`ports`](crate::ports) was broken.

mod outlets;
mod queue;
mod sample;
mod store;

use std::sync::Arc;

use async_trait::async_trait;
use statefun_core::{DeadLetter, EgressRecord, RefusedRecord, Timestamp, TypeName};

use crate::ports::{DeadLetters, DueTimers, Egress, EnvelopeQueue, InstanceStore, QueueConsumer};

/// An adapter under test: empty at first, and used by nobody else. A port that was handed out is of no use after
/// [`lose_power`](Self::lose_power); the kit then asks for it again.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The instance store.
    fn store(&self) -> Arc<dyn InstanceStore>;
    /// The sending side of the queues.
    fn queue(&self) -> Arc<dyn EnvelopeQueue>;
    /// The receiving side of the queues.
    fn consumer(&self) -> Arc<dyn QueueConsumer>;
    /// Timers.
    fn timers(&self) -> Arc<dyn DueTimers>;
    /// Egress.
    fn egress(&self) -> Arc<dyn Egress>;
    /// Dead letters.
    fn dead_letters(&self) -> Arc<dyn DeadLetters>;
    /// The time now, for envelopes.
    fn now(&self) -> Timestamp;
    /// What an egress received so far, in order, repeated records included.
    async fn emitted(&self, egress: &TypeName) -> Vec<EgressRecord>;
    /// The dead letters, in any order.
    async fn parked(&self) -> Vec<DeadLetter>;
    /// The egress records that became dead letters, in any order.
    async fn refused(&self) -> Vec<RefusedRecord>;
    /// Loses everything that is not durable, as a power cut does, and goes on: the ports that are asked for afterwards work. There is
    /// nothing to do where a write is durable when it returns.
    async fn lose_power(&self);
}

/// A rule that was broken.
pub type Finding = String;

/// Runs every check; no finding means that the adapter conforms.
pub async fn check(backend: &dyn Backend) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(store::check(backend).await.err());
    findings.extend(queue::check(backend).await.err());
    findings.extend(outlets::check(backend).await.err());
    findings
}

/// What a check comes to: the first rule it found broken.
type Check = Result<(), Finding>;

/// Fails the check with a text if the condition does not hold.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}
use ensure;

/// A port call that must not fail here.
fn works<T>(what: &str, result: Result<T, crate::ports::PortError>) -> Result<T, Finding> {
    result.map_err(|error| format!("{what}: {error}: {}", error.source))
}
