//! Firing timers: by a wake-up, and by the sweep.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use statefun_core::{Safeguards, Timer, protocol::InOrder};
use statefun_engine::{
    backend::{self, TimerRows},
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
/// Calls to the table at a time.
const PARALLEL: usize = 32;

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
        self.clock.sleep_until(self.clock.moment_of(wake_up.due)).await;
        match self.row(wake_up).await? {
            Some(row) => backend::fire(self, &*self.queue, row, self.clock.now().max(wake_up.due), Safeguards::default()).await,
            None => Ok(()),
        }
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
            let (fired, outcome) = self.fire_together(rows).await;
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

    /// As [`backend::fire`] for many rows, with calls that they share: sends the envelopes, each address's in their order, then
    /// deletes the rows; says how many were sent, and the first error. What fails holds up only what is behind it for the same
    /// address.
    async fn fire_together(&self, rows: Vec<Row>) -> (usize, Result<(), PortError>) {
        let read = stream::iter(rows).map(|row| async move {
            let key = Self::key(&row);
            (key, backend::read_unless_cancelled(self, row).await)
        });
        let (mut gone, mut timers, mut result) = (Vec::new(), Vec::new(), Ok(()));
        for (key, timer) in read.buffered(PARALLEL).collect::<Vec<_>>().await {
            match timer {
                Ok(Some(timer)) => timers.push(timer),
                Ok(None) => gone.push(key),
                Err(error) => result = result.and(Err(error)),
            }
        }
        let (sent, outcome) = self.send(&timers).await;
        result = result.and(outcome);
        gone.extend(sent.iter().map(|timer| (timer.envelope.id, timer.due)));
        let deletes = stream::iter(gone).map(|(id, due)| self.delete(id, due));
        for deleted in deletes.buffer_unordered(PARALLEL).collect::<Vec<_>>().await {
            result = result.and(deleted);
        }
        (sent.len(), result)
    }

    /// Sends envelopes, one of an address at a time; returns those that were accepted, and the first error.
    async fn send<'a>(&self, timers: &'a [Timer]) -> (Vec<&'a Timer>, Result<(), PortError>) {
        let (mut sent, mut result) = (Vec::new(), Ok(()));
        let mut order = InOrder::of_groups(timers.iter().map(|timer| Some(&timer.envelope.to)));
        loop {
            let now = order.choose(timers.len());
            if now.is_empty() {
                return (sent, result);
            }
            let call: Vec<_> = now.iter().map(|place| &timers[*place].envelope).collect();
            let results = self.queue.send(&call).await;
            order.called(now.iter().zip(&results).map(|(place, outcome)| (*place, outcome.is_ok())));
            for (place, outcome) in now.into_iter().zip(results) {
                match outcome {
                    Ok(()) => sent.push(&timers[place]),
                    Err(error) => result = result.and(Err(error)),
                }
            }
        }
    }
}
