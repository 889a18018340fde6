//! Firing timers: by a wake-up, and by the sweep.

use std::time::Duration;

use statefun_core::{Timer, Timestamp};
use statefun_engine::{
    ports::{PortError, PortErrorKind},
    send_in_order,
};

use super::{
    DynamoTimers,
    rows::{Row, SHARDS, WakeUp},
};

/// How far ahead a sweep arms: more than the time to the next one, which comes every minute.
const ARM_AHEAD: Duration = Duration::from_secs(90);
/// Rows that a sweep reads of a shard at a time.
const PAGE: usize = 100;
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
    /// cancelled) is no error. Its envelope is in its queue when this returns.
    ///
    /// # Errors
    /// [`PortError`] if a call failed: let the wake-up come again. A text that is no wake-up is `Refused`.
    pub async fn wake_up(&self, body: &str) -> Result<(), PortError> {
        let Some(wake_up) = WakeUp::from_json(body) else {
            return Err(PortError::new("wake up", PortErrorKind::Refused, "the message is no wake-up of a timer"));
        };
        let now = self.clock.now();
        if wake_up.due > now.plus(EARLY) {
            return Err(PortError::new("wake up", PortErrorKind::Unavailable, "the timer is not yet due"));
        }
        self.clock.sleep_until(wake_up.due).await;
        match self.row(wake_up).await? {
            Some(row) => self.fire(vec![row]).await.map(drop),
            None => Ok(()),
        }
    }

    /// Fires what is overdue and sends wake-ups for what falls due before the next sweep. Call it every minute; it stops at
    /// `deadline`, and the next one goes on.
    ///
    /// # Errors
    /// [`PortError`] if a call failed; what is left is found by the next sweep.
    pub async fn sweep(&self, deadline: Timestamp) -> Result<Swept, PortError> {
        let mut swept = Swept::default();
        for shard in 0..SHARDS {
            while self.clock.now() < deadline {
                let overdue = self.rows(shard, self.clock.now(), PAGE).await?;
                let found = overdue.len();
                swept.fired += self.fire(overdue).await?;
                if found < PAGE {
                    break;
                }
            }
            let now = self.clock.now();
            let upcoming = self.rows(shard, now.plus(ARM_AHEAD), usize::MAX).await?;
            let upcoming = upcoming.into_iter().filter(|row| row.due > now);
            let wakes: Vec<_> = upcoming.map(|row| self.wake(row.id, row.due)).collect();
            swept.armed += wakes.len();
            futures_util::future::join_all(wakes).await.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(swept)
    }

    /// Sends the envelopes in their order, then deletes the rows; says how many there were. Cancelled ones are only deleted.
    async fn fire(&self, rows: Vec<Row>) -> Result<usize, PortError> {
        let (mut timers, mut gone) = (Vec::new(), Vec::new());
        for row in rows {
            let key = (row.id, row.due);
            if self.is_buried(row.id).await? {
                gone.push(key);
            } else if let Some(timer) = self.read(row).await? {
                timers.push(timer);
            }
        }
        send_in_order(&*self.queue, timers.iter().map(|timer: &Timer| &timer.envelope).collect()).await?;
        gone.extend(timers.iter().map(|timer| (timer.envelope.id, timer.due)));
        let deletes = gone.into_iter().map(|(id, due)| self.delete(id, due));
        futures_util::future::join_all(deletes).await.into_iter().collect::<Result<(), _>>()?;
        Ok(timers.len())
    }
}
