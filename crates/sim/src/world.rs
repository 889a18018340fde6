//! The simulated backend: one table, one queue, timers, egress and dead letters, and the faults of every call on them.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use statefun_core::{Address, DeadLetter, EgressRecord, EnvelopeId, Record, Safeguards, Segment, Timer, Timestamp};
use statefun_engine::ports::{PortError, PortErrorKind};

use crate::{
    executor::{EnvId, Executor},
    fifo::Fifo,
};

/// How often each fault strikes a call, in thousandths.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// The environment is frozen, up to 400 s, and goes on as if nothing had been.
    pub freeze: u32,
    /// The environment dies before the call.
    pub crash_before: u32,
    /// The call is refused and has no effect.
    pub throttle: u32,
    /// The environment dies after the call took effect.
    pub crash_after: u32,
    /// The call takes effect, but its reply is lost.
    pub lost_reply: u32,
}

impl Faults {
    /// None.
    pub const NONE: Self = Self { freeze: 0, crash_before: 0, throttle: 0, crash_after: 0, lost_reply: 0 };

    /// A mix that one seed lives with: each kind between never and often.
    pub(crate) fn mix(rng: &mut fastrand::Rng) -> Self {
        let mut often = || [0, 10, 20, 40][rng.usize(0..4)];
        Self { freeze: often() / 2, crash_before: often(), throttle: often(), crash_after: often(), lost_reply: often() }
    }
}

/// Everything there is, shared by all environments.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) executor: Executor,
    state: Arc<Mutex<WorldState>>,
}

pub(crate) struct WorldState {
    pub(crate) rng: fastrand::Rng,
    pub(crate) faults: Faults,
    pub(crate) safeguards: Safeguards,
    /// Whether the store hands an outbox over in the same step as its commit.
    pub(crate) settles: bool,
    pub(crate) table: BTreeMap<Address, Record>,
    pub(crate) segments: HashMap<Address, Vec<Segment>>,
    pub(crate) queue: Fifo,
    pub(crate) timers: BTreeMap<(Timestamp, EnvelopeId), Timer>,
    pub(crate) egress: Vec<EgressRecord>,
    pub(crate) letters: BTreeMap<EnvelopeId, DeadLetter>,
    pub(crate) problems: Vec<String>,
    pub(crate) looks: u64,
    trace: DefaultHasher,
    print: bool,
}

/// What strikes a call.
enum Fault {
    None,
    CrashBefore,
    Throttle,
    CrashAfter,
    LostReply,
}

impl World {
    pub(crate) fn new(executor: Executor, rng: fastrand::Rng, queue: Fifo, safeguards: Safeguards, print: bool) -> Self {
        let state = WorldState {
            rng,
            faults: Faults::NONE,
            safeguards,
            settles: false,
            table: BTreeMap::new(),
            segments: HashMap::new(),
            queue,
            timers: BTreeMap::new(),
            egress: Vec::new(),
            letters: BTreeMap::new(),
            problems: Vec::new(),
            looks: 0,
            trace: DefaultHasher::new(),
            print,
        };
        Self { executor, state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call of an environment on the backend: latency, then `operation`, with a fault before or after it.
    pub(crate) async fn call<T>(
        &self,
        env: EnvId,
        name: &'static str,
        subject: &(dyn std::fmt::Display + Sync),
        operation: impl FnOnce(&mut WorldState, u64) -> T,
    ) -> Result<T, PortError> {
        let (latency, fault) = self.lock().strike();
        self.executor.sleep(latency).await;
        match fault {
            Fault::CrashBefore => self.crash(env, name).await,
            Fault::Throttle => {
                self.note(env, name, subject, "throttled");
                return Err(PortError::new(name, PortErrorKind::Throttled, "simulated"));
            }
            Fault::None | Fault::CrashAfter | Fault::LostReply => {}
        }
        let result = operation(&mut self.lock(), self.executor.now());
        if let Fault::CrashAfter = fault {
            self.crash(env, name).await;
        }
        match fault {
            Fault::LostReply => {
                self.note(env, name, subject, "reply lost");
                Err(PortError::new(name, PortErrorKind::Unavailable, "simulated"))
            }
            _ => {
                self.note(env, name, subject, "ok");
                Ok(result)
            }
        }
    }

    /// The environment dies here: whoever awaits this never goes on.
    pub(crate) async fn crash(&self, env: EnvId, at: &str) {
        self.note(env, "crash", &at, "");
        self.executor.kill(env);
        std::future::pending::<()>().await;
    }

    /// Adds a line to the trace.
    pub(crate) fn note(&self, env: EnvId, what: &str, subject: &dyn std::fmt::Display, result: &str) {
        let now = self.executor.now();
        let line = format!("{:>10.3} env {env:<3} {what:<10} {subject} {result}", now as f64 / 1_000.0);
        let mut state = self.lock();
        line.hash(&mut state.trace);
        if state.print {
            use std::io::Write;
            // A trace that cannot be printed is not worth failing for.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}

impl WorldState {
    /// The latency of a call, and what happens to it.
    fn strike(&mut self) -> (u64, Fault) {
        let latency = self.rng.u64(5..50);
        let mut roll = self.rng.u32(0..1_000);
        let faults = self.faults;
        let mut hit = |often: u32| {
            let hit = roll < often;
            roll = roll.wrapping_sub(often);
            hit
        };
        if hit(faults.freeze) {
            return (latency + [20_000, 60_000, 200_000, 400_000][self.rng.usize(0..4)], Fault::None);
        }
        let fault = if hit(faults.crash_before) {
            Fault::CrashBefore
        } else if hit(faults.throttle) {
            Fault::Throttle
        } else if hit(faults.crash_after) {
            Fault::CrashAfter
        } else if hit(faults.lost_reply) {
            Fault::LostReply
        } else {
            Fault::None
        };
        (latency, fault)
    }

    pub(crate) fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }
}
