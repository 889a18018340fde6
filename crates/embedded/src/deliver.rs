//! Function lanes as the host sees them: take the next ready one, receive its first envelopes, settle them.

use std::{ops::Bound, time::Duration};

use futures_util::future::select;
use statefun_core::{Address, Delivered, LastSeq};
use statefun_engine::ports::{Moment, PortError};

use crate::{
    Embedded, Op,
    batch::{Key, Table},
    lanes::{Entry, Found, Held},
    shared::{Shared, State, refused},
    tables::{
        Unreadable,
        lanes::{FUNCTIONS, LaneName, Queued, decode_key, decode_queued, function_prefix, key, past, seq_of},
    },
};

/// The queue that sequence numbers belong to: all lanes of a store draw from one counter.
pub(crate) const QUEUE: u64 = 1;

/// Rows that one step of the walk reads.
const WALK_ROWS: usize = 64;

enum Next {
    Lane(Address),
    /// Nothing is ready; at this moment a delayed lane will be.
    Wait(Option<Moment>),
}

impl Embedded {
    /// Waits for the next ready function lane and takes it: until it is settled nobody else gets it. Lanes take turns.
    ///
    /// Safe to cancel: a lane is taken only if its address is returned.
    ///
    /// # Errors
    /// If the store is closed or its disk failed.
    pub async fn ready(&self) -> Result<Address, PortError> {
        if let Next::Lane(address) = self.take()? {
            return Ok(address);
        }
        loop {
            let notified = self.shared().ready.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            match self.take()? {
                Next::Lane(address) => return Ok(address),
                Next::Wait(None) => notified.await,
                // Either way, the next round looks.
                Next::Wait(Some(until)) => drop(select(notified, self.shared().clock.sleep_until(until)).await),
            }
        }
    }

    /// Takes the next ready lane, if there is one.
    ///
    /// # Errors
    /// If the store is closed or its disk failed.
    pub fn try_ready(&self) -> Result<Option<Address>, PortError> {
        match self.take()? {
            Next::Lane(address) => Ok(Some(address)),
            Next::Wait(_) => Ok(None),
        }
    }

    /// When the next lane becomes ready that was settled with a retry.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Moment> {
        self.shared().lock_always().lanes.next_wake()
    }

    fn take(&self) -> Result<Next, PortError> {
        let shared = self.shared();
        loop {
            let mut state = shared.lock("ready")?;
            state.lanes.wake(shared.clock.moment());
            if !state.lanes.walk_is_due() {
                return Ok(state.lanes.take().map_or_else(|| Next::Wait(state.lanes.next_wake()), Next::Lane));
            }
            state.lanes.walk.busy = true;
            let from = std::mem::take(&mut state.lanes.walk.from);
            drop(state);
            let walked = walk(shared, from);
            let mut state = shared.lock("ready")?;
            (state.lanes.walk.busy, state.lanes.walk.taken) = (false, 0);
            drop(state);
            walked?;
        }
    }

    /// The first envelopes of a lane that was taken: up to `max_envelopes` and `max_bytes`, but one at least. Calling it again
    /// before the lane is settled counts as another delivery.
    ///
    /// It may be empty, if the lane turns out to have nothing; settle it all the same.
    ///
    /// # Errors
    /// If the lane was not taken, or the store is closed, damaged or failed.
    pub fn receive(&self, address: &Address, max_envelopes: usize, max_bytes: usize) -> Result<Vec<Delivered>, PortError> {
        self.refill(address, max_envelopes)?;
        let mut state = self.shared().lock("receive")?;
        let lane = state.lanes.running(address).ok_or_else(|| not_taken("receive", address))?;
        let count = lane.count(max_envelopes, max_bytes);
        Ok(lane.entries.iter_mut().take(count).map(deliver).collect())
    }

    /// Reads more of a lane, if fewer than `wanted` are held and there may be more.
    fn refill(&self, address: &Address, wanted: usize) -> Result<(), PortError> {
        let shared = self.shared();
        loop {
            let mut state = shared.lock("receive")?;
            let limit = state.lanes.refill(wanted);
            let lane = state.lanes.running(address).ok_or_else(|| not_taken("receive", address))?;
            let held = lane.entries.len();
            if held >= wanted || !lane.unread {
                return Ok(());
            }
            let (prefix, from) = (function_prefix(address), lane.last + 1);
            drop(state);
            let (from, to) = (key(prefix.clone(), from), key(prefix, u64::MAX));
            let (state, scan) =
                shared.scan("receive", Table::Lanes, &from, Bound::Included(&to), limit.saturating_sub(held).max(1))?;
            drop(state);
            let crashes = shared.life.crashes;
            let entries = scan.rows.iter().map(|(key, value)| {
                let queued = decode_queued(value).map_err(|error| refused("receive", error))?;
                Ok(Entry { seq: seq_of(key), bytes: value.len(), item: held_of(queued, crashes) })
            });
            let entries = entries.collect::<Result<Vec<_>, PortError>>()?;
            let whole = scan.next.is_none();
            let found = !entries.is_empty();
            let mut state = shared.lock("receive")?;
            let lane = state.lanes.running(address).ok_or_else(|| not_taken("receive", address))?;
            let bytes = lane.load(entries, whole);
            state.lanes.held_bytes += bytes;
            if found || whole {
                return Ok(());
            }
        }
    }

    /// Deletes the envelopes whose sequence numbers are `done` (the first ones received) and gives the lane back: to be taken
    /// again when its turn comes, or with `retry` not before that time is over.
    ///
    /// # Errors
    /// If the lane was not taken or `done` are not its first envelopes (nothing is changed then), or the store is closed or failed.
    pub fn settle(&self, address: &Address, done: &[u128], retry: Option<Duration>) -> Result<Op, PortError> {
        let shared = self.shared();
        let not_before = retry.map(|after| shared.clock.moment().plus(after));
        let prefix = function_prefix(address);
        let mut guard = shared.lock("settle")?;
        let state = &mut *guard;
        let lane = state.lanes.running(address).ok_or_else(|| not_taken("settle", address))?;
        let first = lane.entries.iter().map(|entry| u128::from(entry.seq)).take(done.len());
        if !first.eq(done.iter().copied()) {
            return Err(refused("settle", format!("{done:?} are not the first envelopes of {address}: settle them in order")));
        }
        for _ in done {
            state.remove(address, &prefix, 0);
        }
        state.free(address, not_before);
        Ok(shared.finish(guard))
    }
}

impl State {
    /// Deletes the `index`-th held envelope of a running lane.
    pub(crate) fn remove(&mut self, address: &Address, prefix: &[u8], index: usize) {
        let entry = self.lanes.running(address).and_then(|lane| lane.entries.remove(index));
        let Some(entry) = entry else { return };
        self.lanes.held_bytes -= entry.memory();
        self.counts.functions -= 1;
        self.counts.function_bytes -= entry.bytes as u64;
        self.log.delete(Table::Lanes, key(prefix.to_vec(), entry.seq));
    }

    /// Gives a running lane back.
    pub(crate) fn free(&mut self, address: &Address, not_before: Option<Moment>) {
        let ready = self.lanes.free(address, not_before);
        // Where lanes are on disk only, a place that became free is for one of them; a delay may be the first to end.
        if ready || self.lanes.unseen || not_before.is_some() {
            self.wakes.ready += 1;
        }
    }
}

/// One delivery more.
pub(crate) fn deliver(entry: &mut Entry<Held>) -> Delivered {
    entry.item.receives = entry.item.receives.saturating_add(1);
    Delivered {
        envelope: entry.item.envelope.clone(),
        seq: LastSeq { queue: QUEUE, seq: entry.seq.into() },
        enqueued_at: entry.item.enqueued_at,
        receive_count: entry.item.receives,
    }
}

/// Every unclean start since an envelope was enqueued may have been its doing.
fn held_of(queued: Queued, crashes: u64) -> Held {
    let since = crashes.saturating_sub(queued.crashes.into());
    Held { envelope: queued.envelope, enqueued_at: queued.enqueued_at, receives: u32::try_from(since).unwrap_or(u32::MAX) }
}

/// One step of the walk over the lanes on disk: those that are not held get a place, as far as there is room.
fn walk(shared: &Shared, from: Key) -> Result<(), PortError> {
    let from = if from.is_empty() { Key::from(FUNCTIONS.0) } else { from };
    let scanned = shared.scan("ready", Table::Lanes, &from, Bound::Excluded(&FUNCTIONS.1), WALK_ROWS);
    let (mut guard, scan) = scanned.inspect_err(|_| shared.lock_always().lanes.walk.from.clone_from(&from))?;
    let state = &mut *guard;
    let mut next = scan.next;
    let mut last: Option<&Key> = None;
    for (row, _) in &scan.rows {
        if last.is_some_and(|last| last[..last.len() - 8] == row[..row.len() - 8]) {
            continue;
        }
        let address = lane_address(row).map_err(|error| refused("ready", error))?;
        match state.lanes.found(address) {
            Found::Known => {}
            Found::New => state.wakes.ready += 1,
            Found::NoRoom => {
                state.lanes.walk.from = row.clone();
                return Ok(());
            }
        }
        last = Some(row);
    }
    // The rest of the last lane need not be read.
    if let (Some(_), Some(last)) = (&next, last) {
        next = next.max(Some(past(last)));
    }
    match next {
        Some(next) => state.lanes.walk.from = next,
        None => state.lanes.walked_round(),
    }
    let wakes = std::mem::take(&mut state.wakes);
    drop(guard);
    // The walker takes one of them itself.
    (1..wakes.ready).for_each(|_| shared.ready.notify_one());
    Ok(())
}

fn lane_address(key: &[u8]) -> Result<Address, Unreadable> {
    match decode_key(key)?.0 {
        LaneName::Function(address) => Ok(address),
        LaneName::Egress(_) => Err(Unreadable::Form("a lane")),
    }
}

fn not_taken(call: &'static str, address: &Address) -> PortError {
    refused(call, format!("the lane of {address} was not taken: call `ready` first"))
}
