//! Time, as the engine asks for it: by the wall clock what is stored, by a monotonic one what has to pass.

use std::time::Duration;

use async_trait::async_trait;
use statefun_core::Timestamp;

/// A moment of one process, by a clock that nobody sets and that never goes back: for deadlines, pauses and whatever else is about
/// time that passes. It means nothing in another process, so it is never stored and never sent.
///
/// ```
/// # use std::time::Duration;
/// # use statefun_engine::ports::Moment;
/// let start = Moment::after_start(Duration::from_secs(5));
/// let deadline = start.plus(Duration::from_secs(60));
/// assert_eq!(deadline.since(start), Duration::from_secs(60));
/// assert_eq!(start.since(deadline), Duration::ZERO);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// The moment so long after the clock's start, whenever that was.
    #[must_use]
    pub const fn after_start(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// This moment and `duration` later (stops at the end of time instead of wrapping).
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// This moment and `duration` earlier, not before the clock's start.
    #[must_use]
    pub const fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

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
