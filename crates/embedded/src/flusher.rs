//! The thread that writes. It takes what is pending, writes it in one durable transaction and says so; meanwhile the next batch
//! gathers. Many operations share one flush, and a row that is overwritten many times is written once.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    batch::{Batch, Table},
    disk::DiskError,
    log::{Sleep, Stop},
    shared::{CLOSED, Shared, State},
    tables::meta,
};

/// Where so many waited for a flush, as many are about to ask for the next: it waits for them, half as long as the last one took, since
/// two small flushes cost more than a bigger one.
const MANY: usize = 16;
const MOST_GATHERED: Duration = Duration::from_micros(300);

pub(crate) fn run(shared: &Shared) {
    if catch_unwind(AssertUnwindSafe(|| write_all(shared))).is_err() {
        let mut state = shared.lock_always();
        state.log.down.get_or_insert_with(|| "the thread that writes panicked: report this".into());
    }
    end(shared);
}

fn write_all(shared: &Shared) {
    let mut last = Last::default();
    while let Some(batch) = next_batch(shared, &last) {
        let started = Instant::now();
        let written = write(shared, &batch);
        let mut state = shared.lock_always();
        match written {
            Ok(()) => state.log.written(),
            Err(error) => fail(&mut state, &error),
        }
        let woken = shared.publish(&mut state);
        drop(state);
        last = Last { took: started.elapsed(), woke: woken.len() };
        woken.wake();
    }
}

/// The flush before.
#[derive(Default)]
struct Last {
    took: Duration,
    /// How many waited for it.
    woke: usize,
}

impl Last {
    /// How long others may still come who share the next flush.
    fn gathers(&self) -> Duration {
        if self.woke < MANY { Duration::ZERO } else { (self.took / 2).min(MOST_GATHERED) }
    }
}

/// Waits until there is something to write, and takes it. `None` if it is time to end.
fn next_batch(shared: &Shared, last: &Last) -> Option<Arc<Batch>> {
    let mut state = shared.lock_always();
    let mut first = None;
    let gathered = Instant::now() + last.gathers();
    loop {
        if state.log.down.is_some() || state.log.stop == Stop::Now {
            return None;
        }
        let stopping = state.log.stop != Stop::No;
        if state.log.stop == Stop::Clean {
            state.log.put(Table::Meta, meta::LIFE.into(), meta::Life { clean: true, ..shared.life }.encode());
            state.log.stop = Stop::Flushed;
        }
        if !state.log.has_pending() {
            if state.log.durable < state.log.op {
                // Everything since the last flush undid itself.
                state.log.durable = state.log.op;
                shared.publish(&mut state).wake();
            }
            if stopping {
                return None;
            }
            first = None;
            state.log.sleep = Sleep::Idle;
            state = State::checked(shared.work.wait(state));
            continue;
        }
        let asked = state.log.wanted > state.log.durable || state.log.pending_bytes() >= shared.options.pending_bytes / 2;
        let until = *first.get_or_insert_with(|| Instant::now() + shared.options.linger);
        let rest = until.saturating_duration_since(Instant::now());
        let gather = gathered.saturating_duration_since(Instant::now());
        if asked && !stopping && !gather.is_zero() && state.waiters.len() < last.woke {
            state.log.sleep = Sleep::Awake;
            state = woken_within(shared, state, gather);
            continue;
        }
        if asked || stopping || rest.is_zero() {
            state.log.sleep = Sleep::Awake;
            return Some(take(shared, &mut state));
        }
        state.log.sleep = Sleep::Lingering;
        state = woken_within(shared, state, rest);
    }
}

fn woken_within<'a>(shared: &Shared, state: MutexGuard<'a, State>, rest: Duration) -> MutexGuard<'a, State> {
    let waited = shared.work.wait_timeout(state, rest);
    State::checked(waited.map(|waited| waited.0).map_err(|poisoned| PoisonError::new(poisoned.into_inner().0)))
}

fn take(shared: &Shared, state: &mut State) -> Arc<Batch> {
    // In the same transaction as what they count.
    let counts = state.counts.encode();
    state.log.put(Table::Meta, meta::COUNTS.into(), counts);
    let was_full = state.log.pending_bytes() >= shared.options.pending_bytes;
    let batch = state.log.take();
    if was_full {
        shared.publish(state).wake();
    }
    batch
}

fn write(shared: &Shared, batch: &Batch) -> Result<(), DiskError> {
    let files = shared.files.read().unwrap_or_else(PoisonError::into_inner);
    match &*files {
        Some(files) => files.disk.apply(batch),
        None => Err(DiskError::Damaged(CLOSED.into())),
    }
}

/// After a failed write nobody knows what is on disk: nothing more is accepted, and nothing that waits is acknowledged.
fn fail(state: &mut State, error: &DiskError) {
    let reason =
        format!("a write to the state folder failed: {error}. Fix the cause and start again; nothing acknowledged is lost");
    tracing::error!(%error, "the state folder cannot be written; the store stops");
    state.log.down = Some(reason.into());
}

fn end(shared: &Shared) {
    drop(shared.files.write().unwrap_or_else(PoisonError::into_inner).take());
    let mut state = shared.lock_always();
    state.log.down.get_or_insert_with(|| CLOSED.into());
    let woken = shared.publish(&mut state);
    drop(state);
    woken.wake();
    shared.published.send_modify(|published| published.ended = true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_flush_that_many_waited_for_lets_the_next_gather() {
        let gathers = |woke, micros| Last { took: Duration::from_micros(micros), woke }.gathers();
        assert_eq!(Last::default().gathers(), Duration::ZERO);
        assert_eq!(gathers(MANY - 1, 400), Duration::ZERO);
        assert_eq!(gathers(MANY, 400), Duration::from_micros(200));
        assert_eq!(gathers(MANY, 50_000), MOST_GATHERED);
    }
}
