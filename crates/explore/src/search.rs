//! The search: every world that can be reached, each once.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use foldhash::fast::FixedState;
use statefun_core::Safeguards;

use crate::{
    moves::{Move, What, moves},
    setting::Setting,
    world::World,
};

/// How far a search goes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Faults that strike at most.
    pub faults: u8,
    /// A search that takes longer is given up, and is not exhausted.
    pub time: Duration,
    /// Outboxes are proven by later deliveries, instead of being cleared.
    pub marks: bool,
    /// The messages for the first address come in one envelope, instead of in one each.
    pub together: bool,
    /// Steps that commute are taken in every order, too. Nothing more is found by that, which a test shows; it takes much longer.
    pub every_order: bool,
}

/// What is wrong, and how it came about.
#[derive(Debug, Clone)]
pub struct Found {
    /// What is wrong.
    pub problem: String,
    /// What happened, in order.
    pub path: Vec<String>,
}

/// What a search came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// Different worlds that were reached.
    pub states: usize,
    /// Worlds in which nothing can happen any more.
    pub ends: usize,
    /// The sum of their hashes, by which the ends of two searches are compared.
    pub ends_sum: u128,
    /// No world is left unexplored within the limits.
    pub exhausted: bool,
    /// The first violation, which ends the search.
    pub found: Option<Found>,
}

/// How a world came about.
struct Path {
    what: What,
    before: Option<Arc<Path>>,
}

/// Worlds that were seen, in parts that threads lock one at a time.
struct Seen(Vec<Mutex<HashSet<u128, FixedState>>>);

impl Seen {
    fn new() -> Self {
        Self((0..256).map(|_| Mutex::default()).collect())
    }

    /// Whether it is new.
    fn insert(&self, hash: u128) -> bool {
        lock(&self.0[(hash % 256) as usize]).insert(hash)
    }
}

/// What the threads of a search share.
struct Shared {
    setting: Setting,
    limits: Limits,
    started: Instant,
    seen: Seen,
    waiting: Mutex<Waiting>,
    states: AtomicUsize,
    ends: Mutex<(usize, u128)>,
    over: AtomicBool,
    found: Mutex<Option<Found>>,
}

#[derive(Default)]
struct Waiting {
    worlds: Vec<(World, Option<Arc<Path>>)>,
    /// Threads that may still add some.
    busy: usize,
}

/// Explores all worlds, on all cores; `progress` is called with how many were reached, now and then.
#[must_use]
pub fn explore(safeguards: Safeguards, limits: Limits, progress: impl Fn(usize) + Sync) -> Report {
    let setting = Setting::new(safeguards, limits);
    let mut first = World::first(&setting, limits.faults);
    let seen = Seen::new();
    seen.insert(first.hash());
    let shared = Shared {
        setting,
        limits,
        started: Instant::now(),
        seen,
        waiting: Mutex::new(Waiting { worlds: vec![(first, None)], busy: 0 }),
        states: AtomicUsize::new(1),
        ends: Mutex::default(),
        over: AtomicBool::new(false),
        found: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| shared.work(&progress));
        }
    });
    let found = lock(&shared.found).take();
    let (states, (ends, ends_sum)) = (shared.states.load(Ordering::Relaxed), *lock(&shared.ends));
    Report { states, ends, ends_sum, exhausted: found.is_none() && !shared.over.load(Ordering::Relaxed), found }
}

impl Shared {
    fn work(&self, progress: &(impl Fn(usize) + Sync)) {
        while let Some(next) = self.next() {
            let mut follow = Vec::new();
            for (world, path) in next {
                if self.over.load(Ordering::Relaxed) {
                    break;
                }
                self.visit(&world, path, &mut follow, progress);
            }
            let mut waiting = lock(&self.waiting);
            waiting.worlds.append(&mut follow);
            waiting.busy -= 1;
        }
    }

    /// Some worlds to go on from; `None` once there will be none any more.
    fn next(&self) -> Option<Vec<(World, Option<Arc<Path>>)>> {
        /// Worlds that a thread takes at a time.
        const SOME: usize = 64;
        loop {
            let mut waiting = lock(&self.waiting);
            if self.over.load(Ordering::Relaxed) {
                return None;
            }
            if !waiting.worlds.is_empty() {
                waiting.busy += 1;
                let from = waiting.worlds.len().saturating_sub(SOME).max(waiting.worlds.len() / 2);
                return Some(waiting.worlds.split_off(from));
            }
            if waiting.busy == 0 {
                return None;
            }
            drop(waiting);
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn visit(
        &self,
        world: &World,
        path: Option<Arc<Path>>,
        follow: &mut Vec<(World, Option<Arc<Path>>)>,
        progress: &(impl Fn(usize) + Sync),
    ) {
        let (moves, goes_on) = moves(&self.setting, world);
        let problem = world.problem().or_else(|| if goes_on { None } else { world.problem_at_the_end() });
        if let Some(problem) = problem {
            lock(&self.found).get_or_insert(Found { problem, path: told(path.as_deref()) });
            self.over.store(true, Ordering::Relaxed);
            return;
        }
        if !goes_on {
            let mut ends = lock(&self.ends);
            *ends = (ends.0 + 1, ends.1.wrapping_add(world.clone().hash()));
        }
        for Move { what, mut world } in moves {
            if self.seen.insert(world.hash()) {
                let states = self.states.fetch_add(1, Ordering::Relaxed) + 1;
                if states.is_multiple_of(10_000) {
                    progress(states);
                    if self.started.elapsed() > self.limits.time {
                        self.over.store(true, Ordering::Relaxed);
                    }
                }
                follow.push((world, Some(Arc::new(Path { what, before: path.clone() }))));
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn told(mut path: Option<&Path>) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(Path { what, before }) = path {
        told.push(what.to_string());
        path = before.as_deref();
    }
    told.reverse();
    told
}
