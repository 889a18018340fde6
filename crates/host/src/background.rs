//! Timers and sweeping.

use std::{sync::Arc, time::Duration};

use crate::host::Inner;

/// Timers fired in one step.
const TIMERS_AT_ONCE: usize = 1_000;

/// At most this long the wall clock is trusted to go on as it did: it may be set, and the machine may sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// How often what has expired is swept.
const SWEEP_PAUSE: Duration = Duration::from_secs(10);

/// Expired rows swept in one step.
const SWEPT_AT_ONCE: usize = 10_000;

/// Sends delayed messages when they are due. The store fails only for good.
pub(crate) async fn timers(inner: Arc<Inner>) {
    loop {
        let pause = match inner.store.fire_due(inner.clock.now(), TIMERS_AT_ONCE).await {
            Ok(fired) if fired > 0 => Duration::ZERO,
            Ok(_) => match inner.store.next_due() {
                Ok(Some(due)) => (due.since(inner.clock.now()) + Duration::from_millis(1)).min(LONGEST_SLEEP),
                Ok(None) => LONGEST_SLEEP,
                Err(error) => return inner.fail(&error),
            },
            Err(error) => return inner.fail(&error),
        };
        tokio::select! {
            biased;
            () = inner.stopped() => return,
            () = inner.store.timers_changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Deletes what the retention horizon has passed.
pub(crate) async fn sweeper(inner: Arc<Inner>) {
    loop {
        let pause = match inner.store.sweep(inner.clock.now(), SWEPT_AT_ONCE) {
            Ok(swept) if swept >= SWEPT_AT_ONCE => Duration::from_millis(10),
            Ok(_) => SWEEP_PAUSE,
            Err(error) => return inner.fail(&error),
        };
        tokio::select! {
            () = inner.stopped() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
