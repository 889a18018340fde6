//! The machine's clock, as the engine and the store ask for it.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use statefun_core::Timestamp;
use statefun_engine::ports::Clock;

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemClock;

impl SystemClock {
    pub(crate) fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Timestamp(since.map_or(0, |since| since.as_millis() as u64))
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Self::now()
    }

    async fn sleep_until(&self, moment: Timestamp) {
        // A millisecond more: a timer that fires early within its millisecond would find that it is not yet time.
        tokio::time::sleep(moment.since(Self::now()) + Duration::from_millis(1)).await;
    }
}
