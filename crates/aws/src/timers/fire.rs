//! Firing timers: by a wake-up, and by the sweep.

use std::time::Duration;

use statefun_core::{Safeguards, Timestamp};
use statefun_engine::{
    backend::{self, Fired},
    ports::{Moment, PortError, PortErrorKind},
};

use super::{
    DynamoTimers,
    rows::{PAGE, Row, SHARDS, WakeUp},
};
use crate::error::unreadable;

/// How far ahead a sweep arms: more than the time to the next one, which comes every minute.
const ARM_AHEAD: Duration = Duration::from_secs(90);
/// A wake-up that comes before its time by at most this is waited for; clocks differ a little.
const EARLY: Duration = Duration::from_secs(5);

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Timers that were overdue and fired.
    pub fired: usize,
    /// Timers whose wake-up was sent.
    pub armed: usize,
}

impl DynamoTimers {
    /// Fires the timer that a wake-up names; its text is the body of a message of the wake-up queue. A timer that is gone (fired or
    /// cancelled) is not an error. Its envelope is in its queue when this returns.
    ///
    /// # Errors
    /// [`PortError`] if a call failed: let the wake-up come again. A text that is not a wake-up is `Refused`.
    pub async fn wake_up(&self, body: &str) -> Result<(), PortError> {
        let Some(wake_up) = WakeUp::from_json(body) else {
            return Err(PortError::new("wake up", PortErrorKind::Refused, "the message is not a wake-up of a timer"));
        };
        let now = self.clock.now();
        if wake_up.due > now.plus(EARLY) {
            return Err(PortError::new("wake up", PortErrorKind::Unavailable, "the timer is not yet due"));
        }
        self.clock.sleep_until(self.clock.moment_of(wake_up.due)).await;
        let row = self.row(wake_up).await?;
        self.fire(row.into_iter().collect(), self.clock.now().max(wake_up.due)).await.1
    }

    /// Fires what is overdue and sends wake-ups for what falls due before the next sweep. Call it every minute; it stops at
    /// `deadline`, and the next one goes on, with another shard first.
    ///
    /// # Errors
    /// The first [`PortError`], after everything else was done: a timer that cannot fire holds up no other. What is left is found
    /// by the next sweep.
    pub async fn sweep(&self, deadline: Moment) -> Result<Swept, PortError> {
        let mut swept = Swept::default();
        let mut result = Ok(());
        let first = (self.clock.now().0 / 60_000 % u64::from(SHARDS)) as u8;
        for shard in (0..SHARDS).map(|step| (first + step) % SHARDS) {
            result = result.and(self.fire_overdue(shard, deadline, &mut swept).await);
            result = result.and(self.arm(shard, deadline, &mut swept).await);
        }
        result.map(|()| swept)
    }

    async fn fire_overdue(&self, shard: u8, deadline: Moment, swept: &mut Swept) -> Result<(), PortError> {
        let (mut result, mut last) = (Ok(()), None);
        while self.clock.moment() < deadline {
            let items = self.due_rows(shard, last, self.clock.now()).await?;
            let full = items.len() >= PAGE;
            let mut rows = Vec::with_capacity(items.len());
            for item in items {
                match Row::of(item) {
                    Ok(row) => rows.push(row),
                    Err(error) => result = result.and(Err(unreadable("due timers", error))),
                }
            }
            last = rows.last().map(|row| WakeUp { id: row.id, due: row.due });
            let (fired, outcome) = self.fire(rows, self.clock.now()).await;
            swept.fired += fired;
            result = result.and(outcome);
            if !full || last.is_none() {
                break;
            }
        }
        result
    }

    async fn arm(&self, shard: u8, deadline: Moment, swept: &mut Swept) -> Result<(), PortError> {
        if self.clock.moment() >= deadline {
            return Ok(());
        }
        let now = self.clock.now();
        let upcoming = self.unwoken(shard, now, now.plus(ARM_AHEAD)).await?;
        let wakes = upcoming.into_iter().map(|WakeUp { id, due }| self.wake(id, due));
        for woken in futures_util::future::join_all(wakes).await {
            woken?;
            swept.armed += 1;
        }
        Ok(())
    }

    async fn fire(&self, rows: Vec<Row>, now: Timestamp) -> (usize, Result<(), PortError>) {
        let Fired { fired, error } = backend::fire(self, &*self.queue, rows, now, Safeguards::default()).await;
        (fired, error.map_or(Ok(()), Err))
    }
}
