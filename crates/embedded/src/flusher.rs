//! The thread that writes. It takes what is pending, writes it in one durable transaction and says so; meanwhile the next batch
//! gathers. Many operations share one flush, and a row that is overwritten many times is written once.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
    time::Instant,
};

use crate::{
    batch::{Batch, Table},
    disk::DiskError,
    log::{Sleep, Stop},
    shared::{CLOSED, Shared, State},
    tables::meta,
};

pub(crate) fn run(shared: &Shared) {
    if catch_unwind(AssertUnwindSafe(|| write_all(shared))).is_err() {
        let mut state = shared.lock_always();
        state.log.down.get_or_insert_with(|| "the thread that writes panicked: report this".into());
    }
    end(shared);
}

fn write_all(shared: &Shared) {
    while let Some(batch) = next_batch(shared) {
        let written = write(shared, &batch);
        let mut state = shared.lock_always();
        match written {
            Ok(()) => state.log.written(),
            Err(error) => fail(&mut state, &error),
        }
        let woken = shared.publish(&mut state);
        drop(state);
        woken.wake();
    }
}

/// Waits until there is something to write, and takes it. `None` if it is time to end.
fn next_batch(shared: &Shared) -> Option<Arc<Batch>> {
    let mut state = shared.lock_always();
    let mut first = None;
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
        if asked || stopping || rest.is_zero() {
            state.log.sleep = Sleep::Awake;
            return Some(take(shared, &mut state));
        }
        state.log.sleep = Sleep::Lingering;
        let waited = shared.work.wait_timeout(state, rest);
        state = State::checked(waited.map(|waited| waited.0).map_err(|poisoned| PoisonError::new(poisoned.into_inner().0)));
    }
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
        format!("a write to the state folder failed: {error}. Mend the cause and start again; nothing acknowledged is lost");
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
