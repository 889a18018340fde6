//! Looks after the threads that run functions. A handler that does not yield is named, then given up; for its thread there is another.

use std::{
    collections::HashMap,
    sync::{Arc, Weak, mpsc},
    thread,
    time::{Duration, Instant},
};

use statefun_core::TypeName;

use super::{
    batch::Keeper,
    pool::{Pool, Slot},
};

/// How often it looks while threads are at work, and else.
const BUSY_TICK: Duration = Duration::from_millis(20);
const IDLE_TICK: Duration = Duration::from_millis(100);

/// How long a handler may hold its thread before it is named in the log.
const NAMED_AFTER: Duration = Duration::from_secs(1);

/// How often a function is named.
const NAMED_AGAIN: Duration = Duration::from_secs(60);

/// Ends the thread when it is dropped.
pub(crate) struct Watchdog(#[expect(dead_code, reason = "the other end notices that it is gone")] mpsc::Sender<()>);

impl Watchdog {
    pub(crate) fn start(pool: Pool, keeper: Weak<dyn Keeper>) -> std::io::Result<Self> {
        let (sender, ended) = mpsc::channel();
        let mut looks = Looks { pool, keeper, seen: HashMap::new(), named: HashMap::new() };
        let run = move || {
            let mut tick = IDLE_TICK;
            while ended.recv_timeout(tick) == Err(mpsc::RecvTimeoutError::Timeout) {
                match looks.look(Instant::now()) {
                    Some(next) => tick = next,
                    None => return,
                }
            }
        };
        thread::Builder::new().name("statefun-watch".into()).spawn(run)?;
        Ok(Self(sender))
    }
}

/// What a thread was seen to do, and since when it has been doing that.
struct Seen {
    poll: u64,
    handler: Option<u64>,
    since: Instant,
    named: bool,
}

/// Threads that are held, by what that means for others.
#[derive(Default)]
struct Held {
    /// They leave their cores to others, or were given up.
    waiting: usize,
    /// They compute, and have done so for long.
    computing: usize,
    unknown: usize,
}

impl Held {
    fn count(&mut self, slot: &Slot, held_for: Option<Duration>, is_stuck: bool) {
        let Some(held_for) = held_for else {
            self.waiting += usize::from(is_stuck);
            return;
        };
        match slot.waits() {
            _ if is_stuck => self.waiting += 1,
            Some(true) => self.waiting += 1,
            Some(false) => self.computing += usize::from(held_for >= NAMED_AFTER),
            None => self.unknown += 1,
        }
    }

    /// How many threads are to make up for them. Those that compute share the cores: more of them would only make each slower, until it
    /// takes longer than a handler may. A few are for what has to go on beside those that never end.
    fn missing(&self, cores: usize) -> usize {
        self.waiting + self.computing.min(cores) + self.unknown.min(8 * cores)
    }
}

struct Looks {
    pool: Pool,
    keeper: Weak<dyn Keeper>,
    /// By the thread's slot.
    seen: HashMap<usize, Seen>,
    /// When each function was last named.
    named: HashMap<TypeName, Instant>,
}

impl Looks {
    /// Returns when to look again; `None` if there is nobody left to look for.
    fn look(&mut self, now: Instant) -> Option<Duration> {
        let keeper = self.keeper.upgrade()?;
        let slots = self.pool.slots();
        let (mut held, mut stuck, mut busy) = (Held::default(), 0, false);
        let mut seen = HashMap::with_capacity(slots.len());
        for slot in &slots {
            let Some(poll) = slot.poll() else { continue };
            busy = true;
            let place = Arc::as_ptr(slot) as usize;
            let before = self.seen.remove(&place).filter(|before| before.poll == poll);
            let held_for = before.as_ref().map(|before| now - before.since);
            let (now_seen, is_stuck) = self.look_at(&*keeper, slot, before, poll, now);
            stuck += usize::from(is_stuck);
            held.count(slot, held_for, is_stuck);
            seen.insert(place, now_seen);
        }
        self.seen = seen;
        self.pool.make_up_for(held.missing(self.pool.cores()));
        if stuck > 0 {
            keeper.check_stuck(stuck);
        }
        Some(if busy { BUSY_TICK } else { IDLE_TICK })
    }

    fn look_at(&mut self, keeper: &dyn Keeper, slot: &Slot, before: Option<Seen>, poll: u64, now: Instant) -> (Seen, bool) {
        let anew = |handler| Seen { poll, handler, since: now, named: false };
        let Some(batch) = slot.batch() else { return (anew(None), false) };
        if batch.watch.is_given_up() {
            return (anew(None), true);
        }
        let handler = batch.watch.held();
        let Some(mut seen) = before.filter(|before| handler.is_some() && before.handler == handler) else {
            return (anew(handler), false);
        };
        let held_for = now - seen.since;
        if held_for >= NAMED_AFTER && !std::mem::replace(&mut seen.named, true) {
            self.name(batch.address.function(), now);
        }
        let given_up = held_for >= keeper.handler_timeout() && handler.is_some_and(|handler| keeper.give_up(&batch, handler));
        (seen, given_up)
    }

    fn name(&mut self, function: &TypeName, now: Instant) {
        if self.named.get(function).is_some_and(|last| now - *last < NAMED_AGAIN) {
            return;
        }
        self.named.insert(function.clone(), now);
        tracing::warn!(
            %function,
            "a handler holds its thread for a second or more: it computes for long, or waits in a call that blocks; put that into \
             `tokio::task::spawn_blocking`"
        );
    }
}
