//! The engine's clock, which handlers cannot hold up.

use std::{fmt, future::poll_fn, sync::Arc};

use async_trait::async_trait;
use statefun_core::Timestamp;
use statefun_engine::ports::{Clock, Moment};
use tokio::runtime::Handle;

/// A clock for the engine, which runs beside handlers: they may hold up the timers of their runtime, not those of this one.
pub(crate) struct EngineClock {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) timers: Handle,
}

impl fmt::Debug for EngineClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineClock").finish_non_exhaustive()
    }
}

#[async_trait]
impl Clock for EngineClock {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn moment(&self) -> Moment {
        self.clock.moment()
    }

    async fn sleep_until(&self, moment: Moment) {
        let mut sleep = self.clock.sleep_until(moment);
        poll_fn(|context| {
            let _timers = self.timers.enter();
            sleep.as_mut().poll(context)
        })
        .await;
    }
}
