//! The simulated backend: one table, two queues, timers, egress and dead letters, and the faults of every call on them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Display,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use statefun_core::{
    Address, DeadLetter, EgressRecord, EnvelopeId, Record, RefusedRecord, Safeguards, Segment, Timer, Timestamp,
    stored::MalformedRecord,
};
use statefun_engine::{
    backend::Tag,
    ports::{PortError, PortErrorKind},
};

use crate::{
    denial::Denials,
    executor::{EnvId, Executor, WORLD},
    faults::{Faults, Outage, Service, Strikes, Struck},
    fifo::Fifo,
    notes::{Deaths, Noted, Notes},
    workload::Payload,
};

/// What is to be seen of a trial beside its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Nothing.
    Nothing,
    /// The hash of its trace.
    Trace,
    /// Its trace, printed.
    Print,
}

/// Everything there is, shared by all environments.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) executor: Executor,
    watch: Watch,
    state: Arc<Mutex<WorldState>>,
}

/// What survives the environments.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) table: BTreeMap<Address, Record>,
    pub(crate) segments: HashMap<Address, Vec<Segment>>,
    /// An address has one of them; it may be moved to the other.
    pub(crate) queues: [Fifo; 2],
    pub(crate) timers: BTreeMap<(Timestamp, EnvelopeId), Timer>,
    /// Tombstones of cancelled timers.
    pub(crate) buried: BTreeSet<EnvelopeId>,
    pub(crate) egress: Vec<EgressRecord>,
    pub(crate) letters: BTreeMap<EnvelopeId, DeadLetter>,
    /// Letters of what is not an envelope, and of envelopes that came in a way that keeps no order.
    pub(crate) malformed: BTreeMap<EnvelopeId, MalformedRecord>,
    pub(crate) strays: BTreeMap<EnvelopeId, DeadLetter>,
    /// Egress records that became dead letters.
    pub(crate) refused: BTreeMap<EnvelopeId, RefusedRecord>,
    /// Tokens of transactions that took effect.
    pub(crate) tokens: BTreeSet<u64>,
    /// What the last commit of each record left in it.
    pub(crate) tags: BTreeMap<Address, Tag>,
    /// For the oracle: timers that commits scheduled and cancelled, when they cancelled them, and when that reached the timers.
    pub(crate) scheduled: BTreeMap<EnvelopeId, (Timestamp, Payload)>,
    pub(crate) cancelled: BTreeMap<EnvelopeId, u64>,
    pub(crate) unscheduled: BTreeMap<EnvelopeId, u64>,
    /// In which envelope each message was sent: receiver, sender, message.
    pub(crate) sent: BTreeMap<(char, char, u32, u32), EnvelopeId>,
    /// Notes of envelopes that run alone.
    pub(crate) notes: Notes,
    /// When each record was last written to.
    pub(crate) touched: BTreeMap<Address, u64>,
    /// What commits sent that nobody has taken yet.
    pub(crate) unsent: BTreeSet<EnvelopeId>,
}

pub(crate) struct WorldState {
    pub(crate) rng: fastrand::Rng,
    pub(crate) faults: Faults,
    pub(crate) outages: Vec<Outage>,
    pub(crate) denials: Denials,
    pub(crate) safeguards: Safeguards,
    /// Whether the store hands an outbox over in the same step as its commit.
    pub(crate) settles: bool,
    pub(crate) stored: Stored,
    /// What a loss of power leaves, where the store writes behind.
    disk: Option<Box<Stored>>,
    /// Losses of power so far.
    pub(crate) losses: u64,
    pub(crate) environments: Vec<EnvId>,
    pub(crate) dead: BTreeSet<EnvId>,
    /// By how much clocks may be off.
    pub(crate) skew: u64,
    /// Until when environments are frozen.
    frozen: BTreeMap<EnvId, u64>,
    pub(crate) deaths: Deaths,
    /// How often each envelope's handler ended its process.
    pub(crate) kills: Deaths,
    /// How often each envelope was redriven.
    pub(crate) redriven: BTreeMap<EnvelopeId, u32>,
    /// Whose call made the lease that stands.
    pub(crate) leases: BTreeMap<Address, EnvId>,
    /// How often a commit found that somebody else had written the record.
    pub(crate) refusals: BTreeMap<Address, u32>,
    pub(crate) commits: u64,
    /// The event source mapping is switched off.
    pub(crate) mapping_off: bool,
    /// Marks are switched off, where the world has them.
    pub(crate) marks_off: bool,
    /// Messages that a foreign sender sent.
    pub(crate) foreign: BTreeSet<u32>,
    /// Runs under way.
    pub(crate) open: Vec<(EnvId, Address)>,
    /// Environments and records of which a call failed, and none took effect since.
    pub(crate) unsure: BTreeSet<(EnvId, String)>,
    pub(crate) problems: Vec<String>,
    pub(crate) looks: u64,
    pub(crate) strikes: Strikes,
    trace: DefaultHasher,
}

/// What strikes a call.
enum Fault {
    None,
    Freeze,
    CrashBefore,
    Throttle,
    CrashAfter,
    LostReply,
    LostRequest,
    Late(u64),
}

/// What ended an environment.
pub(crate) enum Killer {
    /// Something outside.
    Outside,
    /// The handler of this envelope.
    Handler(Address, EnvelopeId),
}

impl World {
    pub(crate) fn new(executor: Executor, rng: fastrand::Rng, queues: [Fifo; 2], safeguards: Safeguards, watch: Watch) -> Self {
        let state = WorldState {
            rng,
            faults: Faults::NONE,
            outages: Vec::new(),
            denials: Denials::default(),
            safeguards,
            settles: false,
            stored: Stored::of(queues),
            disk: None,
            losses: 0,
            environments: Vec::new(),
            dead: BTreeSet::new(),
            skew: 0,
            frozen: BTreeMap::new(),
            deaths: Deaths::new(),
            kills: Deaths::new(),
            redriven: BTreeMap::new(),
            leases: BTreeMap::new(),
            refusals: BTreeMap::new(),
            commits: 0,
            mapping_off: false,
            marks_off: false,
            foreign: BTreeSet::new(),
            open: Vec::new(),
            unsure: BTreeSet::new(),
            problems: Vec::new(),
            looks: 0,
            strikes: Strikes::new(),
            trace: DefaultHasher::new(),
        };
        Self { executor, watch, state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call of an environment on the backend: latency, then `operation`, with a fault before or after it.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        env: EnvId,
        name: &'static str,
        subject: &(dyn Display + Sync),
        operation: impl FnOnce(&mut WorldState, u64) -> T + Send + 'static,
    ) -> Result<T, PortError> {
        let (latency, fault) = self.lock().strike(env, self.executor.now());
        self.executor.sleep(latency).await;
        let result = self.carry_out(env, name, subject, fault, operation).await;
        if result.is_err() && ["lease", "commit", "finish", "free"].contains(&name) {
            self.lock().unsure.insert((env, subject.to_string()));
        }
        result
    }

    async fn carry_out<T: Send + 'static>(
        &self,
        env: EnvId,
        name: &'static str,
        subject: &(dyn Display + Sync),
        fault: Fault,
        operation: impl FnOnce(&mut WorldState, u64) -> T + Send + 'static,
    ) -> Result<T, PortError> {
        if self.lock().is_out(name, self.executor.now()) {
            self.note(env, name, subject, "out");
            return Err(PortError::new(name, PortErrorKind::Unavailable, "an outage"));
        }
        match fault {
            Fault::CrashBefore => self.crash(env, name, Killer::Outside).await,
            Fault::Throttle => {
                self.note(env, name, subject, "throttled");
                return Err(PortError::new(name, PortErrorKind::Throttled, "simulated"));
            }
            Fault::LostRequest => {
                self.note(env, name, subject, "request lost");
                return Err(PortError::new(name, PortErrorKind::Unavailable, "simulated"));
            }
            Fault::Late(delay) => {
                self.later(env, name, subject.to_string(), delay, operation);
                let patience = self.lock().rng.u64(5..5_000);
                self.executor.sleep(patience.min(delay)).await;
                self.note(env, name, subject, "timed out");
                return Err(PortError::new(name, PortErrorKind::Unavailable, "simulated"));
            }
            Fault::None | Fault::Freeze | Fault::CrashAfter | Fault::LostReply => {}
        }
        let result = operation(&mut self.lock(), self.executor.now());
        match fault {
            Fault::CrashAfter => self.crash(env, name, Killer::Outside).await,
            Fault::LostReply => {
                self.note(env, name, subject, "reply lost");
                return Err(PortError::new(name, PortErrorKind::Unavailable, "simulated"));
            }
            _ => {}
        }
        self.note(env, name, subject, "ok");
        Ok(result)
    }

    fn later<T: Send + 'static>(
        &self,
        env: EnvId,
        name: &'static str,
        subject: String,
        delay: u64,
        operation: impl FnOnce(&mut WorldState, u64) -> T + Send + 'static,
    ) {
        let world = self.clone();
        self.executor.spawn(WORLD, async move {
            world.executor.sleep(delay).await;
            drop(operation(&mut world.lock(), world.executor.now()));
            if let Ok(address) = Address::parse(&subject) {
                // Whoever made this call does not know of a lease that it took.
                world.lock().leases.remove(&address);
            }
            world.note(env, name, &subject, "takes effect late");
        });
    }

    /// The environment dies here: whoever awaits this never goes on.
    pub(crate) async fn crash(&self, env: EnvId, at: &str, killer: Killer) {
        self.note(env, "crash", &at, "");
        let gone = self.lock().die(env, killer, self.executor.now());
        gone.into_iter().for_each(|env| self.executor.kill(env));
        std::future::pending::<()>().await;
    }

    /// Everything that was written is on disk from now on.
    pub(crate) fn flush(&self) {
        let mut state = self.lock();
        if state.disk.is_some() {
            state.disk = Some(Box::new(state.stored.clone()));
        }
    }

    /// What was not flushed is lost.
    #[cfg(feature = "conformance")]
    pub(crate) fn lose_power(&self) {
        let now = self.executor.now();
        self.lock().restore(now);
    }

    /// From now on a death loses what was not flushed.
    pub(crate) fn write_behind(&self) {
        let mut state = self.lock();
        state.disk = Some(Box::new(state.stored.clone()));
    }

    /// Adds a line to the trace.
    pub(crate) fn note(&self, env: EnvId, what: &str, subject: &dyn Display, result: &str) {
        if self.watch == Watch::Nothing {
            return;
        }
        let now = (self.executor.now() - crate::dials::START) as f64 / 1_000.0;
        let line = format!("{now:>10.3} env {env:<3} {what:<10} {subject} {result}");
        let mut state = self.lock();
        line.hash(&mut state.trace);
        if self.watch == Watch::Print {
            use std::io::Write;
            // A trace that cannot be printed is not worth failing for.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}

impl Stored {
    fn of(queues: [Fifo; 2]) -> Self {
        Self {
            table: BTreeMap::new(),
            segments: HashMap::new(),
            queues,
            timers: BTreeMap::new(),
            buried: BTreeSet::new(),
            egress: Vec::new(),
            letters: BTreeMap::new(),
            malformed: BTreeMap::new(),
            strays: BTreeMap::new(),
            refused: BTreeMap::new(),
            tokens: BTreeSet::new(),
            tags: BTreeMap::new(),
            scheduled: BTreeMap::new(),
            cancelled: BTreeMap::new(),
            unscheduled: BTreeMap::new(),
            sent: BTreeMap::new(),
            notes: Notes::default(),
            touched: BTreeMap::new(),
            unsent: BTreeSet::new(),
        }
    }
}

impl WorldState {
    /// The latency of a call, and what happens to it.
    fn strike(&mut self, env: EnvId, now: u64) -> (u64, Fault) {
        let latency = self.rng.u64(5..50);
        let mut roll = self.rng.u32(0..1_000);
        let faults = self.faults;
        let mut hit = |often: u32| {
            let hit = roll < often;
            roll = roll.wrapping_sub(often);
            hit
        };
        let (fault, name) = if hit(faults.freeze) {
            (Fault::Freeze, Struck::Freeze)
        } else if hit(faults.crash_before) {
            (Fault::CrashBefore, Struck::CrashBefore)
        } else if hit(faults.throttle) {
            (Fault::Throttle, Struck::Throttle)
        } else if hit(faults.crash_after) {
            (Fault::CrashAfter, Struck::CrashAfter)
        } else if hit(faults.lost_reply) {
            (Fault::LostReply, Struck::LostReply)
        } else if hit(faults.lost_request) {
            (Fault::LostRequest, Struck::LostRequest)
        } else if hit(faults.late) {
            let delay = [50, 500, 3_000, 9_000, 40_000, 120_000][self.rng.usize(0..6)];
            (Fault::Late(delay), Struck::Late)
        } else {
            return (latency, Fault::None);
        };
        self.struck(name);
        if let Fault::Freeze = fault {
            // What it has noted stands while others take over.
            self.excuse(env, None);
            let latency = latency + [20_000, 60_000, 200_000, 400_000][self.rng.usize(0..4)];
            self.frozen.insert(env, now + latency);
            return (latency, fault);
        }
        (latency, fault)
    }

    /// Whether an outage takes the call.
    fn is_out(&mut self, call: &str, now: u64) -> bool {
        let service = service_of(call);
        let Some(outage) = self.outages.iter().find(|outage| outage.strikes(service, now)) else { return false };
        let name = outage.name();
        self.struck(name);
        true
    }

    /// A run ended while the table is away, or has only just come back, or when its time was over: it could not take its notes back.
    pub(crate) fn cut_off(&mut self, env: EnvId, address: &Address, now: u64, deadline: u64) {
        if self.table_is_away(now) || now >= deadline {
            self.stored.notes.cut_off(env, address, &mut self.deaths);
        }
    }

    /// Whether an outage has the table, or had it a moment ago.
    fn table_is_away(&self, now: u64) -> bool {
        const JUST: u64 = 5_000;
        let away =
            |outage: &Outage| outage.strikes(Service::Table, now) || outage.strikes(Service::Table, now.saturating_sub(JUST));
        self.outages.iter().any(away)
    }

    /// Ends an environment; where all of them are one process, all. Returns whose tasks are to go.
    fn die(&mut self, env: EnvId, killer: Killer, now: u64) -> Vec<EnvId> {
        let only = match killer {
            Killer::Outside => None,
            Killer::Handler(address, id) => {
                self.struck(Struck::KilledByHandler);
                *self.kills.entry((address.clone(), id)).or_default() += 1;
                let killer = (address, id);
                if self.table_is_away(now) {
                    self.stored.notes.cut_off_beside(env, &killer, &mut self.deaths);
                }
                Some(killer)
            }
        };
        let gone = if self.restore(now) { std::mem::take(&mut self.environments) } else { vec![env] };
        gone.iter().for_each(|env| self.excuse(*env, only.as_ref()));
        self.dead.extend(&gone);
        gone
    }

    /// Goes back to what is on disk, where the store writes behind.
    fn restore(&mut self, now: u64) -> bool {
        let Some(disk) = &self.disk else { return false };
        self.stored = (**disk).clone();
        self.stored.queues.iter_mut().for_each(|queue| queue.reopen(now));
        self.losses += 1;
        self.struck(Struck::PowerLoss);
        true
    }

    /// The environment died, was frozen or was cut off: what it has noted may be blamed for it, or only this one.
    pub(crate) fn excuse(&mut self, env: EnvId, only: Option<&Noted>) {
        self.stored.notes.excuse(env, only, &mut self.deaths);
    }

    /// Whether the environment can do nothing about what it has noted.
    pub(crate) fn is_gone(&self, env: EnvId, now: u64) -> bool {
        self.dead.contains(&env) || self.frozen.get(&env).is_some_and(|until| *until > now)
    }

    pub(crate) fn struck(&mut self, what: Struck) {
        *self.strikes.entry(what).or_default() += 1;
    }

    pub(crate) fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }
}

/// Which service a call is on.
fn service_of(call: &str) -> Service {
    match call {
        "send" | "emit" | "park" | "park refused" | "park malformed" => Service::Sending,
        "answer" | "delay" => Service::Queues,
        _ => Service::Table,
    }
}
