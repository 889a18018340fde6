//! What all handles and the flusher share: the state behind one mutex, the disk outside of it, and who is to be woken.

use std::{
    fs::File,
    ops::Bound,
    sync::{
        Arc, Condvar, LockResult, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use statefun_core::Timestamp;
use statefun_engine::ports::{Clock, PortError, PortErrorKind};
use tokio::sync::{Notify, watch};

use crate::{
    batch::{Key, Table},
    consumer::Consumer,
    disk::{Disk, DiskError},
    durable::{Waiters, Woken},
    heads::Heads,
    lanes::Lanes,
    log::{Log, Op, Scan, Sleep},
    options::Options,
    tables::meta::{Counts, Life},
};

/// Bytes after which a scan stops, so that a page of big rows does not fill the memory.
pub(crate) const SCAN_BYTES: usize = 4 * 1_024 * 1_024;

/// Everything behind the mutex. It is held for microseconds and never during a read or write of the disk.
pub(crate) struct State {
    pub(crate) log: Log,
    pub(crate) lanes: Lanes,
    pub(crate) heads: Heads,
    pub(crate) counts: Counts,
    pub(crate) first_due: FirstDue,
    pub(crate) consumer: Consumer,
    pub(crate) watched: Watched,
    pub(crate) wakes: Wakes,
    pub(crate) waiters: Waiters,
}

/// When the first timer is due.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FirstDue {
    /// Then, or not before: it may have been cancelled.
    Known(Option<Timestamp>),
    /// It has to be looked up; since that is known, this was the earliest to be scheduled.
    Unknown(Option<Timestamp>),
}

/// What callers of `waiting_below` and `idle` wait for.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    pub(crate) below: u64,
    pub(crate) idle: bool,
}

/// Those to wake once the mutex is free.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    /// Lanes that became ready.
    pub(crate) ready: usize,
    pub(crate) egress: bool,
    pub(crate) timers: bool,
}

/// What the flusher reports to those who wait for it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Published {
    pub(crate) down: bool,
    /// The flusher has ended and the files are closed.
    pub(crate) ended: bool,
}

/// Open files; gone once the flusher has ended.
pub(crate) struct Files {
    pub(crate) disk: Disk,
    pub(crate) _lock: File,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) files: RwLock<Option<Files>>,
    /// Wakes the flusher.
    pub(crate) work: Condvar,
    pub(crate) published: watch::Sender<Published>,
    /// Whether so much is pending that writers have to wait.
    full: AtomicBool,
    pub(crate) ready: Notify,
    pub(crate) egress: Notify,
    pub(crate) timers: Notify,
    pub(crate) progress: Notify,
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) life: Life,
    /// The life before this one did not end cleanly.
    pub(crate) after_crash: bool,
}

impl Shared {
    /// `last` is the life before this one.
    pub(crate) fn new(state: State, files: Files, options: Options, clock: Arc<dyn Clock>, last: Life) -> Self {
        Self {
            state: Mutex::new(state),
            files: RwLock::new(Some(files)),
            work: Condvar::new(),
            published: watch::Sender::new(Published::default()),
            full: AtomicBool::new(false),
            ready: Notify::new(),
            egress: Notify::new(),
            timers: Notify::new(),
            progress: Notify::new(),
            options,
            clock,
            life: last.next(),
            after_crash: !last.clean,
        }
    }

    /// The state, whatever happened.
    pub(crate) fn lock_always(&self) -> MutexGuard<'_, State> {
        let locked = self.state.lock();
        let poisoned = locked.is_err();
        let mut state = State::checked(locked);
        if poisoned && !self.published.borrow().down {
            // Whoever waits for something else has to learn of it, too.
            self.publish(&mut state).wake();
        }
        state
    }

    /// The state, if the store works.
    pub(crate) fn lock(&self, call: &'static str) -> Result<MutexGuard<'_, State>, PortError> {
        let state = self.lock_always();
        match &state.log.down {
            None => Ok(state),
            Some(reason) => Err(refused(call, reason.to_string())),
        }
    }

    /// Ends an operation: gives it its number and wakes whom it concerns.
    pub(crate) fn finish(&self, mut guard: MutexGuard<'_, State>) -> Op {
        let state = &mut *guard;
        state.log.op += 1;
        let op = Op(state.log.op);
        let pending = state.log.pending_bytes();
        self.full.store(pending >= self.options.pending_bytes, Ordering::Relaxed);
        let flush = match state.log.sleep {
            Sleep::Awake => false,
            Sleep::Idle => pending > 0,
            Sleep::Lingering => pending >= self.options.pending_bytes / 2,
        };
        if flush {
            state.log.sleep = Sleep::Awake;
        }
        let progress = state.made_progress();
        let wakes = std::mem::take(&mut state.wakes);
        drop(guard);
        if flush {
            self.work.notify_one();
        }
        for _ in 0..wakes.ready {
            self.ready.notify_one();
        }
        if wakes.egress {
            self.egress.notify_waiters();
        }
        if wakes.timers {
            self.timers.notify_one();
        }
        if progress {
            self.progress.notify_waiters();
        }
        op
    }

    /// Returns once there is room for more changes.
    pub(crate) async fn room(&self, call: &'static str) -> Result<(), PortError> {
        while self.full.load(Ordering::Relaxed) {
            let mut published = {
                let mut state = self.lock(call)?;
                if state.log.pending_bytes() < self.options.pending_bytes {
                    self.full.store(false, Ordering::Relaxed);
                    break;
                }
                state.log.wanted = state.log.op;
                self.published.subscribe()
            };
            self.work.notify_one();
            // The sender lives as long as `self`.
            let _ = published.changed().await;
        }
        Ok(())
    }

    /// Tells those who wait where the flusher is. The state has to be locked, so that nobody misses it. Whom that returns is to be woken
    /// when it is not locked any more.
    pub(crate) fn publish(&self, state: &mut State) -> Woken {
        let log = &state.log;
        let full = log.pending_bytes() >= self.options.pending_bytes;
        self.full.store(full && log.down.is_none(), Ordering::Relaxed);
        self.published.send_modify(|published| published.down = log.down.is_some());
        if log.down.is_some() {
            for waiters in [&self.ready, &self.egress, &self.timers, &self.progress] {
                waiters.notify_waiters();
            }
        }
        state.waiters.take(&state.log)
    }

    /// The current values of `keys`, with the state locked: what is done under this lock sees them as they are.
    pub(crate) fn rows(
        &self,
        call: &'static str,
        keys: &[(Table, &[u8])],
    ) -> Result<(MutexGuard<'_, State>, Vec<Option<Bytes>>), PortError> {
        let look = |state: &State| -> Vec<_> { keys.iter().map(|(table, key)| state.log.look(*table, key)).collect() };
        loop {
            let state = self.lock(call)?;
            let known = look(&state);
            if known.iter().all(Option::is_some) {
                return Ok((state, known.into_iter().flatten().collect()));
            }
            let flushes = state.log.flushes;
            drop(state);
            let missing = keys.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(key, _)| *key);
            let mut read = self.disk(call, |disk| disk.get(&missing.collect::<Vec<_>>()))?.into_iter();
            let on_disk: Vec<_> = known.iter().map(|known| if known.is_none() { read.next().flatten() } else { None }).collect();
            let state = self.lock(call)?;
            if state.log.flushes == flushes {
                let rows = look(&state).into_iter().zip(on_disk).map(|(known, on_disk)| known.unwrap_or(on_disk)).collect();
                return Ok((state, rows));
            }
        }
    }

    /// The current rows of a range, with the state locked; at most `limit`, fewer if they are big.
    pub(crate) fn scan(
        &self,
        call: &'static str,
        table: Table,
        from: &[u8],
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<(MutexGuard<'_, State>, Scan), PortError> {
        loop {
            let flushes = self.lock(call)?.log.flushes;
            let rows = self.disk(call, |disk| disk.scan(table, from, to, limit, SCAN_BYTES))?;
            let state = self.lock(call)?;
            if state.log.flushes == flushes {
                let scan = state.log.merge(table, from, to, rows, limit, SCAN_BYTES);
                return Ok((state, scan));
            }
        }
    }

    /// All rows of a range, page by page and unlocked in between; `page` says whether to go on.
    pub(crate) fn pages(
        &self,
        call: &'static str,
        table: Table,
        from: &[u8],
        to: Bound<&[u8]>,
        mut page: impl FnMut(Vec<(Key, Bytes)>) -> Result<bool, PortError>,
    ) -> Result<(), PortError> {
        let mut from: Key = from.into();
        loop {
            let (state, Scan { rows, next }) = self.scan(call, table, &from, to, 256)?;
            drop(state);
            match (page(rows)?, next) {
                (true, Some(next)) => from = next,
                _ => return Ok(()),
            }
        }
    }

    fn disk<T>(&self, call: &'static str, read: impl FnOnce(&Disk) -> Result<T, DiskError>) -> Result<T, PortError> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let Some(files) = &*files else { return Err(refused(call, CLOSED)) };
        read(&files.disk).map_err(|error| PortError::new(call, PortErrorKind::Refused, error))
    }

    /// By the wall clock, for what is stored.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl State {
    /// The locked state. A change that panicked half way must never become durable.
    pub(crate) fn checked(locked: LockResult<MutexGuard<'_, Self>>) -> MutexGuard<'_, Self> {
        locked.unwrap_or_else(|poisoned| {
            let mut state = PoisonError::into_inner(poisoned);
            state.log.down.get_or_insert_with(|| "a change of the store panicked: report this".into());
            state
        })
    }

    /// Whether somebody waits for what is reached now.
    fn made_progress(&mut self) -> bool {
        let below = self.watched.below > self.counts.functions;
        let idle = self.watched.idle && self.is_idle();
        if below {
            self.watched.below = 0;
        }
        if idle {
            self.watched.idle = false;
        }
        below || idle
    }

    /// Whether nothing waits or runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.counts.functions == 0 && self.lanes.running == 0 && self.counts.egress == 0
    }
}

pub(crate) const CLOSED: &str = "the store is closed";

/// An error that nobody but the operator can fix.
pub(crate) fn refused(call: &'static str, reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> PortError {
    PortError::new(call, PortErrorKind::Refused, reason)
}
