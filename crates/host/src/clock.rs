//! The machine's clock, as the engine and the store ask for it.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use statefun_core::Timestamp;
use statefun_engine::ports::Clock;
use tokio::runtime::Handle;

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemClock;

impl SystemClock {
    pub(crate) fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Timestamp(since.map_or(0, |since| since.as_millis() as u64))
    }
}

/// The same for the engine, which runs beside handlers: they may hold up the timers of their runtime, not those of this one.
#[derive(Debug, Clone)]
pub(crate) struct EngineClock(pub(crate) Handle);

#[async_trait]
impl Clock for EngineClock {
    fn now(&self) -> Timestamp {
        SystemClock::now()
    }

    async fn sleep_until(&self, moment: Timestamp) {
        let sleep = {
            let _timers = self.0.enter();
            // A millisecond more: a timer that fires early within its millisecond would find that it is not yet time.
            tokio::time::sleep(moment.since(self.now()) + Duration::from_millis(1))
        };
        sleep.await;
    }
}
