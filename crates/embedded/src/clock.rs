//! The clocks of this machine, as the store and the engine ask for them.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use statefun_core::Timestamp;
use statefun_engine::ports::{Clock, Moment};
use tokio::time::Instant;

/// The start of this process's moments.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The clocks of this machine: its wall clock, and the monotonic one of the operating system. All values are the same clock. To
/// sleep it needs a tokio runtime with time.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all others are given")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Timestamp::ZERO.plus(since.unwrap_or(Duration::ZERO))
    }

    fn moment(&self) -> Moment {
        let start = *START;
        Moment::after_start(start.elapsed())
    }

    async fn sleep_until(&self, moment: Moment) {
        tokio::time::sleep(moment.since(self.moment())).await;
    }
}
