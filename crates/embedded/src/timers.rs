//! Delayed messages: kept in the order of their due time, moved to their lanes when it has come.

use std::{ops::Bound, sync::Arc};

use async_trait::async_trait;
use statefun_core::{EnvelopeId, Timer, Timestamp};
use statefun_engine::ports::{DueTimers, PortError, Timers};

use crate::{
    Embedded,
    append::{NewEnvelope, Prepared},
    batch::{Key, Table},
    shared::{FirstDue, Shared, refused},
    tables::timers,
};

#[async_trait]
impl Timers for Embedded {
    async fn schedule(&self, timer: &Timer) -> Result<(), PortError> {
        let shared = self.shared();
        shared.room("schedule").await?;
        let key = timers::key(timer.due, timer.envelope.id);
        let prepared = Prepared::timer(timer);
        let (mut state, known) = shared.rows("schedule", &[(Table::Timers, &key)])?;
        if known.iter().all(Option::is_none) {
            state.apply(prepared);
        }
        shared.finish(state);
        Ok(())
    }

    async fn remove(&self, timer: EnvelopeId, due: Timestamp) -> Result<(), PortError> {
        let mut state = self.shared().lock("remove")?;
        state.log.delete(Table::Timers, timers::key(due, timer));
        self.shared().finish(state);
        Ok(())
    }
}

#[async_trait]
impl DueTimers for Embedded {
    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Timer>, PortError> {
        due(self.shared(), "due", now, limit)?.into_iter().map(|(_, timer)| Ok(timer)).collect()
    }
}

impl Embedded {
    /// Moves up to `limit` timers that are due at `now` to their lanes, by time and then id, in one step. Returns how many;
    /// fewer than `limit` means that no others are due.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed.
    pub async fn fire_due(&self, now: Timestamp, limit: usize) -> Result<usize, PortError> {
        self.shared().room("fire_due").await?;
        let first = self.shared().lock("fire_due")?.first_due;
        match first {
            FirstDue::Known(first) if first.is_none_or(|first| first > now) => Ok(0),
            _ => fire(self.shared(), now, limit),
        }
    }

    /// When the first timer is due, or a little before that. `None` if there are no timers.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed.
    pub fn next_due(&self) -> Result<Option<Timestamp>, PortError> {
        let shared = self.shared();
        if let FirstDue::Known(first) = shared.lock("next_due")?.first_due {
            return Ok(first);
        }
        let mut from = Key::default();
        loop {
            let (mut state, scan) = shared.scan("next_due", Table::Timers, &from, Bound::Unbounded, 16)?;
            let found = match (scan.rows.first(), scan.next) {
                (Some((key, _)), _) => Some(timers::decode_key(key).map_err(|error| refused("next_due", error))?.0),
                (None, None) => None,
                (None, Some(next)) => {
                    from = next;
                    continue;
                }
            };
            let (FirstDue::Known(scheduled) | FirstDue::Unknown(scheduled)) = state.first_due;
            let first = found.into_iter().chain(scheduled).min();
            state.first_due = FirstDue::Known(first);
            return Ok(first);
        }
    }

    /// Returns when a timer was scheduled that is due before all others since [`next_due`](Self::next_due) was asked. For one
    /// waiter.
    pub async fn timers_changed(&self) {
        self.shared().timers.notified().await;
    }
}

fn fire(shared: &Shared, now: Timestamp, limit: usize) -> Result<usize, PortError> {
    let enqueued_at = shared.now();
    let due = due(shared, "fire_due", now, limit)?;
    let read = due.len();
    let new =
        due.into_iter().map(|(key, timer)| (key, NewEnvelope::new(Arc::new(timer.envelope), enqueued_at, shared.life.crashes)));
    let new: Vec<_> = new.collect();
    let keys: Vec<(Table, &[u8])> = new.iter().map(|(key, _)| (Table::Timers, &key[..])).collect();
    let (mut guard, known) = shared.rows("fire_due", &keys)?;
    let state = &mut *guard;
    for ((key, new), known) in new.into_iter().zip(known) {
        // Some may have been cancelled, or fired by another call, since they were read.
        if known.is_some() {
            state.log.delete(Table::Timers, key);
            state.append(new);
        }
    }
    state.first_due = FirstDue::Unknown(None);
    shared.finish(guard);
    Ok(read)
}

fn due(shared: &Shared, call: &'static str, now: Timestamp, limit: usize) -> Result<Vec<(Key, Timer)>, PortError> {
    let end = timers::key(now, EnvelopeId([0xff; 16]));
    let mut due = Vec::new();
    shared.pages(call, Table::Timers, &[], Bound::Included(&end), |rows| {
        for (key, value) in rows.into_iter().take(limit - due.len()) {
            let timer = timers::decode(&key, &value).map_err(|error| refused(call, error))?;
            due.push((key, timer));
        }
        Ok(due.len() < limit)
    })?;
    Ok(due)
}
