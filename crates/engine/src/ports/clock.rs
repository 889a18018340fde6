//! Time, as the engine asks for it: by the wall clock what is stored, by a monotonic one what has to pass.

use async_trait::async_trait;
pub use statefun_core::Moment;
use statefun_core::Timestamp;

/// The clocks of this environment.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The wall clock: for what is stored, or compared with what another process stored. It may be set at any moment, forwards and
    /// backwards. Clocks of different environments may differ by the protocol's margin.
    fn now(&self) -> Timestamp;

    /// The monotonic clock: for deadlines and pauses.
    fn moment(&self) -> Moment;

    /// Returns at `moment` or later, whatever happens to the wall clock.
    async fn sleep_until(&self, moment: Moment);

    /// When the wall clock will show `time`, unless it is set meanwhile; now, if it is past.
    fn moment_of(&self, time: Timestamp) -> Moment {
        self.moment().plus(time.since(self.now()))
    }
}
