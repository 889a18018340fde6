//! What a world is like: which faults it has, how its functions give up, where its records go. A seed decides the rest.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use statefun_core::{Budget, LedgerShape, OnFailure, Protocol, Rules, Safeguards, protocol::Marks};
use statefun_engine::{Backoff, CacheUse, Config};

use crate::{
    faults::{Faults, Outage, Service},
    workload::{Kind, MAX_HOPS},
};

pub(crate) const SECOND: u64 = 1_000;
/// When the simulated world begins: a real date. At zero a clock that is behind says zero too, which means *never* in places.
pub(crate) const START: u64 = 1_780_000_000 * SECOND;
/// Faults strike until then.
pub(crate) const CALM: u64 = START + 12_000 * SECOND;
/// From then on nothing may fail any more.
pub(crate) const QUIET: u64 = CALM + 4_000 * SECOND;
/// Long enough for what kills its environment to be given up, by way of the queue's own dead letters if need be.
pub(crate) const END: u64 = QUIET + 8_000 * SECOND;
/// What no queue's retention reaches.
const NEVER: u64 = 14 * 86_400 * SECOND;
/// How long a Lambda may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const MARGIN: Duration = Duration::from_secs(60);

/// A kind of world. Each leans to faults that have to meet for something rare to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum World {
    /// Something of most faults.
    Mixed,
    /// Addresses move between two queues and back.
    Moving,
    /// Many instances that see two bursts of keyed messages each, and environments with old records in their caches.
    Sparse,
    /// Messages that kill and functions that give up early, in environments that nothing else ends.
    Suspicious,
    /// Requests that take effect long after their caller gave up; timers that are cancelled.
    Late,
    /// One process whose store writes behind: its death loses what was not yet flushed.
    Volatile,
    /// The table, the queues or both are out, for minutes or for more than an hour.
    Outages,
    /// Old and new versions run side by side; a function is removed for a while, or renamed.
    Deploying,
    /// A queue is deleted and made anew, with lower numbers.
    RemadeLower,
    /// The same, with higher ones.
    RemadeHigher,
    /// An operator invokes a function with the largest sequence number there is.
    Forged,
    /// Producers use their keys again after the horizon.
    Reused,
    /// Two queues full of messages that fail and kill, and no other fault: what is counted has to be exact.
    Twins,
    /// Nothing can be sent for longer than a queue keeps a message, and many instances see few messages.
    Expiring,
    /// A queue is purged by the procedure, after a time in which nothing could be sent.
    Purged,
    /// The same at once, without the procedure: messages are lost, which is to be seen. Not among those that seeds have.
    PurgedAtOnce,
}

impl World {
    /// All that seeds have.
    pub const ALL: [Self; 15] = [
        Self::Mixed,
        Self::Moving,
        Self::Sparse,
        Self::Suspicious,
        Self::Late,
        Self::Volatile,
        Self::Outages,
        Self::Deploying,
        Self::RemadeLower,
        Self::RemadeHigher,
        Self::Forged,
        Self::Reused,
        Self::Twins,
        Self::Expiring,
        Self::Purged,
    ];

    /// The kind of world that a seed has, if nobody asks for another.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        // Half of them mixed; and what is noted of suspects takes the most meetings.
        let leaning = [&Self::ALL[1..], &[Self::Suspicious; 3]].concat();
        let place = usize::try_from(seed / 2).unwrap_or_default() % leaning.len();
        if seed.is_multiple_of(2) { Self::Mixed } else { leaning[place] }
    }

    /// The world of this name, as [`name`](Self::name) gives it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::PurgedAtOnce]).find(|world| world.name() == name)
    }

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Moving => "moving",
            Self::Sparse => "sparse",
            Self::Suspicious => "suspicious",
            Self::Late => "late",
            Self::Volatile => "volatile",
            Self::Outages => "outages",
            Self::Deploying => "deploying",
            Self::RemadeLower => "remade-lower",
            Self::RemadeHigher => "remade-higher",
            Self::Forged => "forged",
            Self::Reused => "reused",
            Self::Twins => "twins",
            Self::Expiring => "expiring",
            Self::Purged => "purged",
            Self::PurgedAtOnce => "purged-at-once",
        }
    }
}

/// Whether producers name keys of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    Never,
    /// Some do, and no copy comes after the horizon.
    Some,
    /// All do.
    All,
    /// All do, and use each key for another record after the horizon.
    Reused,
}

/// What the router does to the order of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Router {
    /// Batches at the same time; whole batches again, and late.
    Careless,
    /// One batch after the other; what failed comes again before anything later, as of a Kinesis shard.
    InOrder,
}

/// A world's settings.
#[derive(Debug, Clone)]
pub(crate) struct Dials {
    pub(crate) world: World,
    pub(crate) faults: Faults,
    pub(crate) outages: Vec<Outage>,
    pub(crate) visibility: u64,
    pub(crate) max_receive: u32,
    /// How long a queue keeps a message.
    pub(crate) retention: u64,
    /// Addresses move between two queues.
    pub(crate) moves: bool,
    /// The store hands an outbox over in the same step as its commit.
    pub(crate) settles: bool,
    /// What was not flushed is lost with the process.
    pub(crate) volatile: bool,
    /// Clocks are ahead or behind by up to so many seconds.
    pub(crate) skew: i64,
    /// Environments that are alive at a time.
    pub(crate) envs: usize,
    /// Instances of A, and of B.
    pub(crate) instances: u32,
    pub(crate) keys: Keys,
    pub(crate) router: Router,
    pub(crate) policies: BTreeMap<char, OnFailure>,
    /// From when to when new environments lack D, and whether they have another function in its place.
    pub(crate) removal: Option<(u64, u64, bool)>,
    /// From when to when handlers of A and C ask for state in a form that is not the stored one.
    pub(crate) unreadable: Option<(u64, u64)>,
    /// From when to when the egress lacks a permission for some records.
    pub(crate) denied: Option<(u64, u64)>,
    /// What fails for good fails by error, or kills.
    pub(crate) poison: Kind,
    /// New environments may run the version before this one.
    pub(crate) old_versions: bool,
    /// Messages of somebody else.
    pub(crate) foreign: u32,
    /// From when to when routers send in a form that only the deployment at the end of that time can read.
    pub(crate) newer: Option<(u64, u64)>,
    pub(crate) config: Config,
}

impl Dials {
    pub(crate) fn new(world: World, rng: &mut fastrand::Rng, safeguards: Safeguards) -> Self {
        let max_receive = [8, 12, 1_000, 1_000][rng.usize(0..4)];
        let horizon = Duration::from_secs([1_500, 30_000, 30_000][rng.usize(0..3)]);
        let mut dials = Self {
            world,
            faults: Faults::mix(rng),
            outages: Vec::new(),
            visibility: [35, 45, 90][rng.usize(0..3)] * SECOND,
            max_receive,
            retention: NEVER,
            moves: false,
            settles: rng.u8(0..4) == 0,
            volatile: false,
            skew: [0, 2, 20][rng.usize(0..3)],
            envs: 4,
            instances: 1,
            keys: if horizon.as_secs() > 20_000 { Keys::Some } else { Keys::Never },
            router: if rng.u8(0..3) == 0 { Router::InOrder } else { Router::Careless },
            policies: policies(rng, &[1, 2, 3, 3, 3]),
            removal: None,
            unreadable: None,
            denied: None,
            poison: if rng.bool() { Kind::Hopeless } else { Kind::Deadly },
            old_versions: false,
            foreign: 0,
            newer: None,
            config: config(rng, horizon, safeguards),
        };
        dials.lean(rng);
        dials.mark(&mut fastrand::Rng::with_seed(rng.clone().u64(..).rotate_left(7)));
        dials.receive(&mut fastrand::Rng::with_seed(rng.clone().u64(..).rotate_left(11)));
        // Numbers of its own: worlds without it stay as they were.
        let mut own = fastrand::Rng::with_seed(rng.clone().u64(..));
        let often = match world {
            World::Deploying => 2,
            World::Mixed => 8,
            _ => return dials,
        };
        if own.u8(0..often) == 0 {
            let from = START + own.u64(100..1_500) * SECOND;
            dials.unreadable = Some((from, from + own.u64(60..900) * SECOND));
        }
        // What waits behind it must not become too old.
        if own.u8(0..8) == 0 && world == World::Mixed && dials.horizon().as_secs() > 20_000 {
            let from = START + own.u64(100..1_500) * SECOND;
            let until = if own.bool() { CALM } else { from + own.u64(60..3_000) * SECOND };
            dials.denied = Some((from, until));
        }
        dials
    }

    /// What makes the world what it is.
    fn lean(&mut self, rng: &mut fastrand::Rng) {
        match self.world {
            World::Mixed => {
                if rng.u8(0..4) == 0 {
                    self.outages = outages(rng, &[20, 60]);
                }
            }
            World::Moving => (self.moves, self.settles) = (true, false),
            World::Sparse => {
                (self.instances, self.keys, self.settles) = (9, Keys::All, false);
                self.protocol().horizon = Duration::from_secs(30_000);
                self.max_receive = 1_000;
                // Sends fail, and others come by with the record as it was before.
                self.faults = Faults { throttle: 50, lost_request: 10, ..Faults::NONE };
                self.config.sticky_records = 100;
                Arc::make_mut(&mut self.config.rules).budget.commit_effects = 15;
            }
            World::Suspicious => {
                self.faults = Faults { throttle: 20, lost_reply: 20, late: 0, ..Faults::NONE };
                (self.settles, self.max_receive) = (false, 1_000);
                // Much at the same time in few processes.
                (self.envs, self.instances) = (1, 6);
                self.policies = policies(rng, &[1, 1, 2, 3]);
                self.outages = outages(rng, &[20, 40, 60, 60, 60, 100]);
            }
            World::Late => {
                self.faults = Faults { late: 30, freeze: 10, lost_reply: 10, lost_request: 20, ..self.faults };
                (self.settles, self.max_receive) = (false, 1_000);
            }
            World::Volatile => {
                self.faults =
                    Faults { freeze: 0, throttle: 0, lost_reply: 0, late: 0, crash_before: 4, crash_after: 4, lost_request: 0 };
                (self.settles, self.volatile, self.max_receive, self.skew) = (true, true, 1_000, 0);
                self.envs = 1;
            }
            World::Outages => {
                self.settles = false;
                self.protocol().horizon = Duration::from_secs(30_000);
                self.outages = outages(rng, &[30, 200, 400, 4_000]);
            }
            World::Deploying => {
                (self.old_versions, self.settles) = (true, false);
                let from = START + rng.u64(100..1_200) * SECOND;
                self.removal = Some((from, from + rng.u64(200..1_500) * SECOND, rng.bool()));
            }
            World::RemadeLower | World::RemadeHigher | World::Forged => {
                // Clocks within the margin, and nothing that goes on for longer than the queue is away.
                self.faults = Faults { freeze: 0, late: 0, ..self.faults };
                (self.settles, self.max_receive) = (false, 1_000);
                self.skew = self.skew.min(2);
                self.protocol().horizon = Duration::from_secs(30_000);
                if self.world == World::Forged {
                    (self.instances, self.router) = (10, Router::InOrder);
                }
            }
            World::Twins => {
                self.faults = Faults::NONE;
                (self.moves, self.settles, self.max_receive, self.skew) = (true, false, 1_000, 0);
                self.config.sticky_records = 0;
                self.protocol().horizon = Duration::from_secs(30_000);
                self.policies = policies(rng, &[2, 3, 3]);
            }
            World::Expiring => {
                self.faults = Faults { freeze: 0, late: 0, ..self.faults };
                (self.settles, self.max_receive, self.skew) = (false, 1_000, self.skew.min(2));
                (self.instances, self.retention) = (6, 3_000 * SECOND);
                self.protocol().horizon = Duration::from_secs(30_000);
                let from = START + rng.u64(60..1_800) * SECOND;
                let until = from + rng.u64(2_500..5_000) * SECOND;
                self.outages = vec![Outage { from, until, service: Service::Sending }];
            }
            World::Purged | World::PurgedAtOnce => {
                (self.settles, self.max_receive, self.skew) = (false, 1_000, self.skew.min(2));
                self.instances = 4;
                self.protocol().horizon = Duration::from_secs(30_000);
            }
            World::Reused => {
                self.faults = Faults { throttle: 10, lost_reply: 10, ..Faults::NONE };
                (self.instances, self.keys, self.router) = (9, Keys::Reused, Router::InOrder);
                (self.settles, self.max_receive, self.visibility) = (rng.bool(), 1_000, 35 * SECOND);
                self.protocol().horizon = Duration::from_secs(600);
            }
        }
    }

    /// Whether outboxes have marks. They hold only where nothing but an acknowledgement takes a message out of its queue, unless it is too old.
    fn mark(&mut self, rng: &mut fastrand::Rng) {
        let taken_away = matches!(self.world, World::RemadeLower | World::RemadeHigher | World::Forged);
        let chosen = rng.bool() || self.world == World::Expiring || self.purges();
        if self.redrives() || self.settles || self.volatile || taken_away || !chosen {
            return;
        }
        let retention = Duration::from_millis(self.retention);
        let marks = match (self.world, rng.bool()) {
            (World::Expiring, short) => {
                let longest = Duration::from_secs(if short { 900 } else { 20_000 });
                Marks { retention, reserve: Duration::from_secs(300), longest, nudge_before: longest / 2 }
            }
            (_, true) => {
                let longest = Duration::from_secs(rng.u64(600..2_000));
                Marks { longest, nudge_before: longest / 3, ..Marks::of_retention(retention) }
            }
            (_, false) => Marks::of_retention(retention),
        };
        self.protocol().marks = Some(marks);
    }

    /// What comes to the queues beside envelopes of this version.
    fn receive(&mut self, rng: &mut fastrand::Rng) {
        // Where a queue loses messages, nobody knows which of these are lost with them.
        let keeps = !self.volatile && !self.expires() && !self.purges();
        if keeps && rng.u8(0..3) == 0 {
            self.foreign = rng.u32(2..12);
        }
        if matches!(self.world, World::Mixed | World::Deploying | World::Moving) && rng.u8(0..4) == 0 {
            let from = START + rng.u64(60..1_200) * SECOND;
            self.newer = Some((from, from + rng.u64(60..900) * SECOND));
        }
    }

    /// Whether outboxes have marks.
    pub(crate) fn marks(&self) -> Option<Marks> {
        self.config.rules.protocol.marks
    }

    fn protocol(&mut self) -> &mut Protocol {
        &mut Arc::make_mut(&mut self.config.rules).protocol
    }

    /// Whether a sender's messages may be applied out of order: a redrive, or a move to another queue.
    pub(crate) fn reorders(&self) -> bool {
        self.redrives() || self.moves || self.expires()
    }

    /// Whether the queue is purged.
    pub(crate) fn purges(&self) -> bool {
        matches!(self.world, World::Purged | World::PurgedAtOnce)
    }

    /// Whether queues remove what is too old.
    pub(crate) fn expires(&self) -> bool {
        self.retention != NEVER
    }

    /// Whether a queue gives messages up, to be redriven later.
    pub(crate) fn redrives(&self) -> bool {
        self.max_receive < 1_000
    }

    pub(crate) fn horizon(&self) -> Duration {
        self.config.rules.protocol.horizon
    }

    pub(crate) fn skew_millis(&self) -> u64 {
        self.skew.unsigned_abs() * SECOND
    }

    /// The queue that a configuration of that time names: it changes several times, not everywhere at once.
    pub(crate) fn queue_at(&self, now: u64, rng: &mut fastrand::Rng) -> usize {
        if !self.moves {
            return 0;
        }
        let (phase, within) = ((now - START) / (600 * SECOND), (now - START) % (600 * SECOND));
        let new = phase % 2 == 1;
        usize::from(if within < 200 * SECOND && phase > 0 && rng.bool() { !new } else { new })
    }
}

fn policies(rng: &mut fastrand::Rng, attempts: &[u32]) -> BTreeMap<char, OnFailure> {
    let mut policies = BTreeMap::new();
    for letter in ['A', 'B', 'C', 'D', 'T', 'L'] {
        let max_attempts = attempts[rng.usize(0..attempts.len())];
        let policy = match (letter, rng.u8(0..4)) {
            ('C', 0) => OnFailure::RetryForever,
            ('D', 0) => OnFailure::Drop { max_attempts },
            _ => OnFailure::DeadLetter { max_attempts },
        };
        policies.insert(letter, policy);
    }
    policies
}

/// Some outages in the time of faults, of these lengths in seconds.
fn outages(rng: &mut fastrand::Rng, lengths: &[u64]) -> Vec<Outage> {
    let one = |seconds: &u64| {
        let from = START + rng.u64(20..2_200) * SECOND;
        let service = [Service::Table, Service::Table, Service::Queues, Service::All][rng.usize(0..4)];
        Outage { from, until: from + seconds * SECOND, service }
    };
    lengths.iter().map(one).collect()
}

fn config(rng: &mut fastrand::Rng, horizon: Duration, safeguards: Safeguards) -> Config {
    let least = rng.usize(0..4);
    let protocol = Protocol {
        margin: MARGIN,
        horizon,
        // Tiny on purpose: everything overflows all the time.
        ledger: LedgerShape { unit: [16, 1_024][least % 2], least, most: 4 },
        safeguards,
        ..Protocol::default()
    };
    let budget = Budget { envelope_messages: rng.usize(2..4), commit_effects: rng.usize(6..16), ..Budget::default() };
    Config {
        rules: Arc::new(Rules { protocol, max_hops: MAX_HOPS, budget, ..Rules::default() }),
        lease_margin: Duration::from_secs(10),
        cache: [CacheUse::Always, CacheUse::Always, CacheUse::WhereItPays][rng.usize(0..3)],
        reserve: Duration::from_secs(2),
        backoff: Backoff { longest: Duration::from_secs(20), unreadable: Duration::from_secs(40), ..Backoff::default() },
        sticky_records: [0, 2, 100][rng.usize(0..3)],
        drain_at_once: rng.usize(1..8),
        ..Config::default()
    }
}
