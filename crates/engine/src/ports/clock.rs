//! Time, as the engine asks for it.

use async_trait::async_trait;
use statefun_core::Timestamp;

/// The clock of this environment.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The time now. Clocks of different environments may differ by the protocol's margin.
    fn now(&self) -> Timestamp;

    /// Returns at `moment` or later.
    async fn sleep_until(&self, moment: Timestamp);
}
