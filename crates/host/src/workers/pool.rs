//! The threads that run functions: one per core, and one more for each that a handler holds. Tasks wait in one line for any thread, so
//! that none is kept by a thread that is held: tokio's own threads keep what a task woke last for themselves.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use async_task::{Runnable, Task};
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use super::batch::Batch;

/// Threads at most, those that are held included: as many as tokio has for blocking calls.
const MOST_THREADS: usize = 512;

/// How often a thread looks for work before it sleeps.
const LOOKS: usize = 1;

/// How long a thread beyond one per core waits for work before it ends.
const SPARE_PATIENCE: Duration = Duration::from_secs(10);

thread_local! {
    /// The slot of this thread, if it is one of a pool.
    static SLOT: RefCell<Option<Arc<Slot>>> = const { RefCell::new(None) };
}

/// Cheap to clone; all clones are one pool.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    tasks: Mutex<Tasks>,
    /// Threads that are always there.
    cores: usize,
    /// What timers and sockets of tasks belong to.
    io: Handle,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Runnable>,
    threads: Vec<Arc<Slot>>,
    idle: usize,
    /// Threads that will look once more before they are idle.
    looking: usize,
    /// A thread was woken and did not look yet.
    waking: bool,
    closed: bool,
}

impl State {
    /// Whether a thread has to be woken for what waits: there is one, and nobody is about to look. Whoever takes a task asks again.
    fn wakes(&mut self) -> bool {
        let wake = !self.waiting.is_empty() && self.idle > 0 && self.looking == 0 && !self.waking;
        self.waking |= wake;
        wake
    }
}

#[derive(Default)]
struct Tasks {
    running: HashMap<u64, Task<()>>,
    last: u64,
}

/// What one thread does.
#[derive(Default)]
pub(crate) struct Slot {
    /// Where the system says whether it waits, if it does.
    status: OnceLock<PathBuf>,
    /// Odd while it polls a task.
    polls: AtomicU64,
    batch: Mutex<Option<Arc<Batch>>>,
}

impl Slot {
    /// The batch whose task is being polled.
    pub(crate) fn batch(&self) -> Option<Arc<Batch>> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the thread waits, and leaves its core to others; `None` where that is not known.
    pub(crate) fn waits(&self) -> Option<bool> {
        let status = fs::read_to_string(self.status.get()?).ok()?;
        // The state comes after the name, which may hold anything.
        let state = status.rsplit_once(") ")?.1.chars().next()?;
        Some(state != 'R')
    }

    /// Notes which thread this is.
    fn take_thread(&self) {
        // Only Linux has it.
        if let Ok(thread) = fs::read_link("/proc/thread-self") {
            let _ = self.status.set(Path::new("/proc").join(thread).join("stat"));
        }
    }

    /// Whether a task is being polled, as a number that stays the same until that is over.
    pub(crate) fn poll(&self) -> Option<u64> {
        Some(self.polls.load(Ordering::Relaxed)).filter(|polls| polls % 2 == 1)
    }
}

/// Notes for others, while `poll` lasts, that this thread polls a task of the batch.
pub(crate) fn noting<T>(batch: &Arc<Batch>, poll: impl FnOnce() -> T) -> T {
    let note = |noted: Option<Arc<Batch>>| {
        SLOT.with_borrow(|slot| {
            if let Some(slot) = slot {
                *slot.batch.lock().unwrap_or_else(PoisonError::into_inner) = noted;
            }
        });
    };
    note(Some(batch.clone()));
    let polled = poll();
    note(None);
    polled
}

impl Pool {
    /// A pool of `cores` threads, whose tasks may use timers and sockets of `io`.
    pub(crate) fn new(cores: usize, io: Handle) -> std::io::Result<Self> {
        let shared = Shared { state: Mutex::default(), work: Condvar::new(), tasks: Mutex::default(), cores: cores.max(1), io };
        let pool = Self(Arc::new(shared));
        let started = (0..pool.0.cores).try_for_each(|_| pool.add_thread());
        started.inspect_err(|_| pool.close())?;
        Ok(pool)
    }

    /// Runs a task to its end, or until the pool is closed.
    pub(crate) fn spawn(&self, task: BoxFuture<'static, ()>) {
        let mut tasks = self.0.tasks();
        tasks.last += 1;
        let number = tasks.last;
        let ended = Ended { pool: self.clone(), number };
        let task = async move {
            let _ended = ended;
            task.await;
        };
        let shared = self.0.clone();
        let (runnable, task) = async_task::spawn(task, move |runnable| shared.push(runnable));
        tasks.running.insert(number, task);
        drop(tasks);
        runnable.schedule();
    }

    /// Drops all tasks: those being polled once that is over. Nothing runs here any more.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut state = self.0.state();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        self.0.work.notify_all();
        let tasks = std::mem::take(&mut self.0.tasks().running);
        // What is dropped may wake others, which takes the locks.
        drop((tasks, waiting));
    }

    /// Threads that are always there.
    pub(crate) fn cores(&self) -> usize {
        self.0.cores
    }

    /// What its threads do.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
        self.0.state().threads.clone()
    }

    /// Sees to it that what waits is run though `held` threads are held: by waking one, or by starting others.
    pub(crate) fn make_up_for(&self, held: usize) {
        let missing = {
            let state = self.0.state();
            if state.waiting.is_empty() || state.closed {
                return;
            }
            if state.idle > 0 {
                self.0.work.notify_one();
                return;
            }
            let threads = state.threads.len();
            (self.0.cores + held).min(MOST_THREADS).saturating_sub(threads)
        };
        for _ in 0..missing {
            if let Err(error) = self.add_thread() {
                tracing::warn!(%error, "handlers hold threads, and no other can be started");
                return;
            }
        }
    }

    fn add_thread(&self) -> std::io::Result<()> {
        let (shared, slot) = (self.0.clone(), Arc::new(Slot::default()));
        self.0.state().threads.push(slot.clone());
        let started = thread::Builder::new().name("statefun-handler".into()).spawn({
            let slot = slot.clone();
            move || shared.run(&slot)
        });
        started.map(drop).inspect_err(|_| self.0.forget(&slot))
    }
}

/// Forgets a task that has come to its end.
struct Ended {
    pool: Pool,
    number: u64,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let task = self.pool.0.tasks().running.remove(&self.number);
        if let Some(task) = task {
            task.detach();
        }
    }
}

impl Shared {
    // All are whole between calls, whatever panicked elsewhere.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, runnable: Runnable) {
        // A thread of the pool looks itself as soon as its task yields; for one task it need not wake another.
        let looks = SLOT.with_borrow(Option::is_some);
        let mut state = self.state();
        if state.closed {
            drop(state);
            drop(runnable);
            return;
        }
        state.waiting.push_back(runnable);
        let wake = (!looks || state.waiting.len() > 1) && state.wakes();
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    /// Polls tasks until the pool is closed, or there is no need for this thread.
    fn run(&self, slot: &Arc<Slot>) {
        let _io = self.io.enter();
        slot.take_thread();
        SLOT.set(Some(slot.clone()));
        while let Some(runnable) = self.next(slot) {
            slot.polls.fetch_add(1, Ordering::Relaxed);
            // Handlers' panics are caught long before.
            if catch_unwind(AssertUnwindSafe(|| runnable.run())).is_err() {
                tracing::error!("a task of the host panicked: please report this");
            }
            slot.polls.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn next(&self, slot: &Arc<Slot>) -> Option<Runnable> {
        let mut state = self.state();
        let mut looks = LOOKS;
        loop {
            if state.closed {
                return None;
            }
            if let Some(runnable) = state.waiting.pop_front() {
                let wake = state.wakes();
                drop(state);
                if wake {
                    self.work.notify_one();
                }
                return Some(runnable);
            }
            if looks > 0 {
                // Whoever makes work is often about to make more: to sleep and to be woken for each costs more than the work.
                looks -= 1;
                state.looking += 1;
                drop(state);
                thread::yield_now();
                state = self.state();
                state.looking -= 1;
                continue;
            }
            state.idle += 1;
            let waited = self.work.wait_timeout(state, SPARE_PATIENCE).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            state.idle -= 1;
            state.waking = false;
            looks = LOOKS;
            if waited.1.timed_out() && state.waiting.is_empty() && state.threads.len() > self.cores {
                state.threads.retain(|other| !Arc::ptr_eq(other, slot));
                return None;
            }
        }
    }

    fn forget(&self, slot: &Arc<Slot>) {
        self.state().threads.retain(|other| !Arc::ptr_eq(other, slot));
    }
}
