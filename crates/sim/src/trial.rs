//! One trial: a seed decides the world, the input, the faults and their moments; the oracle judges what is left.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use statefun_core::{
    Address, Budget, Delivered, Envelope, EnvelopeId, LedgerShape, Protocol, Rules, Safeguards, Timestamp, TypedValue,
};
use statefun_engine::{Backoff, Config, Engine, Outcome, Ports};

use crate::{
    executor::{EnvId, Executor, WORLD},
    fifo::{Fifo, Received},
    oracle::{Input, judge},
    ports::{Connection, millis},
    workload::{Calls, Kind, MAX_HOPS, Payload, address, functions},
    world::{Faults, World},
};

const SECOND: u64 = 1_000;
/// Faults strike until then.
pub(crate) const CALM: u64 = 12_000 * SECOND;
/// From then on nothing may fail any more.
const QUIET: u64 = CALM + 4_000 * SECOND;
/// Long enough for what kills its environment to be given up, by way of the queue's own dead letters if need be.
const END: u64 = QUIET + 8_000 * SECOND;
/// Environments that are alive at a time.
const ENVS: usize = 4;
const DEADLINE: Duration = Duration::from_secs(30);
const MARGIN: Duration = Duration::from_secs(60);

/// What a trial came to.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What the oracle found wrong; nothing, if all is well.
    pub problems: Vec<String>,
    /// The same seed gives the same trace, and so the same hash.
    pub trace: u64,
    /// Calls of handlers.
    pub invocations: u64,
    /// Commits that took effect.
    pub commits: u64,
    /// Look-ups in spilled ledger segments.
    pub looks: u64,
    /// Batches found fenced.
    pub fenced: u64,
    /// Dead letters.
    pub letters: usize,
}

/// Runs a seed. With `print`, every event goes to standard output.
#[must_use]
pub fn trial(seed: u64, safeguards: Safeguards, print: bool) -> Report {
    let mut rng = fastrand::Rng::with_seed(seed);
    let executor = Executor::default();
    let max_receive = [8, 12, 1_000, 1_000][rng.usize(0..4)];
    let visibility = [35, 45, 90][rng.usize(0..3)] * SECOND;
    let queue = Fifo::new(visibility, max_receive);
    let world = World::new(executor.clone(), rng.fork(), queue, safeguards, print);
    let input = input(&mut rng, max_receive < 1_000);
    world.lock().settles = rng.u8(0..4) == 0;
    world.lock().faults = Faults::mix(&mut rng);
    let config = config(&mut rng, safeguards);
    let trial = Trial {
        keys: config.rules.protocol.horizon > Duration::from_millis(END),
        config,
        skew: [0, 2, 20][rng.usize(0..3)],
        world: world.clone(),
        calls: Calls::default(),
        envs: Arc::default(),
        next_env: Arc::new(Mutex::new(WORLD)),
    };
    let rng = Arc::new(Mutex::new(rng));
    trial.start(&input, &rng);
    if !executor.run(END) {
        world.lock().problems.push("work goes round and round".to_owned());
    }
    trial.report(seed, &input)
}

fn config(rng: &mut fastrand::Rng, safeguards: Safeguards) -> Config {
    let least = rng.usize(0..4);
    let protocol = Protocol {
        margin: MARGIN,
        horizon: Duration::from_secs([1_500, 30_000, 30_000][rng.usize(0..3)]),
        // Tiny on purpose: everything overflows all the time.
        ledger: LedgerShape { unit: [16, 1_024][least % 2], least, most: 4 },
        safeguards,
        ..Protocol::default()
    };
    let budget = Budget { envelope_messages: rng.usize(2..4), commit_effects: rng.usize(6..16), ..Budget::default() };
    Config {
        rules: Arc::new(Rules { protocol, max_hops: MAX_HOPS, budget, ..Rules::default() }),
        lease_margin: Duration::from_secs(10),
        reserve: Duration::from_secs(2),
        backoff: Backoff { longest: Duration::from_secs(20), ..Backoff::default() },
        sticky_records: [0, 2, 100][rng.usize(0..3)],
        drain_at_once: rng.usize(1..8),
        lazy_finish: rng.bool(),
        ..Config::default()
    }
}

/// 90 records in the time of faults, 20 plain ones after it.
fn input(rng: &mut fastrand::Rng, reordered: bool) -> Input {
    let mut records = Vec::new();
    for number in 0..110 {
        let target = if rng.bool() { 'A' } else { 'B' };
        let count = if rng.u8(0..4) == 0 { rng.u32(2..6) } else { 1 };
        let (first, place) = if number < 90 { strike(rng, target) } else { (Kind::Plain, target) };
        let payloads = (0..count).map(|part| {
            let (kind, at) = if part == 0 || first == Kind::Lengthy { (first, place) } else { (Kind::Plain, target) };
            Payload { number, part, kind, at }
        });
        records.push((target, payloads.collect()));
    }
    // Late, so that C is not kept from everything else. While faults end most invocations it gets nowhere: a queue that gives messages
    // up after a few receives would do so.
    if rng.u8(0..4) == 0
        && !reordered
        && let Some(last) = records.get_mut(89)
    {
        *last = ('A', vec![Payload { number: 89, part: 0, kind: Kind::Floods, at: 'C' }]);
    }
    Input { records, reordered, loops: 2 }
}

fn strike(rng: &mut fastrand::Rng, target: char) -> (Kind, char) {
    let at = [target, 'C', 'D'][rng.usize(0..3)];
    match rng.u8(0..40) {
        0 => (Kind::Flaky(1), at),
        1 => (Kind::Flaky(2), at),
        2 => (Kind::Panics, at),
        3 => (Kind::Terminal, at),
        4 if rng.u8(0..3) == 0 => (Kind::Deadly, at),
        5 => (Kind::Slow, at),
        23 => (Kind::Lengthy, at),
        6..=10 if target == 'A' => (Kind::Delays, target),
        11..=16 if target == 'A' => (Kind::DelaysWithToken, target),
        17..=22 if target == 'A' => (Kind::Cancels, target),
        _ => (Kind::Plain, target),
    }
}

type SharedRng = Arc<Mutex<fastrand::Rng>>;

#[derive(Clone)]
struct Trial {
    config: Config,
    skew: i64,
    /// Whether producers name their own keys. The ledger remembers these for the horizon; no copy may come later.
    keys: bool,
    world: World,
    calls: Calls,
    envs: Arc<Mutex<Vec<Environment>>>,
    next_env: Arc<Mutex<EnvId>>,
}

/// An execution environment: one engine, with its cache, its clock, and any number of invocations.
#[derive(Clone)]
struct Environment {
    id: EnvId,
    engine: Arc<Engine>,
    connection: Connection,
}

impl Trial {
    fn start(&self, input: &Input, rng: &SharedRng) {
        self.route(input, rng);
        for poller in [self.clone().poll(rng.clone()), self.clone().poll(rng.clone())] {
            self.world.executor.spawn(WORLD, poller);
        }
        self.world.executor.spawn(WORLD, self.clone().fire());
        let (world, executor) = (self.world.clone(), self.world.executor.clone());
        self.world.executor.spawn(WORLD, async move {
            while executor.now() < END - 2_000 * SECOND {
                executor.sleep(900 * SECOND).await;
                world.lock().queue.redrive(executor.now());
                if executor.now() >= CALM {
                    world.lock().faults = Faults::NONE;
                }
            }
        });
    }

    /// A stand-in for the router: at least once, whole batches again, and late.
    fn route(&self, input: &Input, rng: &SharedRng) {
        let mut envelopes: Vec<_> =
            input.records.iter().enumerate().map(|(index, record)| ingress(index, record, self.keys, &mut lock(rng))).collect();
        for index in 0..input.loops {
            let payload = Payload { number: index as u32, part: 0, kind: Kind::Plain, at: 'L' };
            envelopes.push(ingress(1_000 + index, &('L', vec![payload]), false, &mut lock(rng)));
        }
        for batch in envelopes.chunks(5) {
            let arrival = batch.iter().map(|envelope| envelope.sent_at.0).max().unwrap_or(0);
            let start = arrival + lock(rng).u64(0..30) * SECOND;
            self.world.executor.spawn(WORLD, self.clone().send_batch(batch.to_vec(), start, rng.clone()));
        }
    }

    async fn send_batch(self, batch: Vec<Envelope>, start: u64, rng: SharedRng) {
        self.world.executor.sleep_until(start).await;
        let mut again = 0;
        loop {
            let mut whole = true;
            for envelope in &batch {
                let mut envelope = envelope.clone();
                if envelope.keyed && again > 0 {
                    // The producer sends it anew under its own key: to the queue it arrives now.
                    envelope.sent_at = Timestamp(self.world.executor.now());
                }
                self.world.lock().queue.send(&envelope, self.world.executor.now());
                if lock(&rng).u8(0..33) == 0 && self.world.executor.now() < CALM {
                    whole = false;
                    break;
                }
            }
            let late = [10, 70, 290, 310, 900, 2_000][lock(&rng).usize(0..6)];
            let repeat = again < 4 && lock(&rng).u8(0..10) == 0 && self.world.executor.now() < CALM;
            if whole && !repeat {
                return;
            }
            again += 1;
            self.world.executor.sleep(late * SECOND).await;
        }
    }

    /// A stand-in for the event source mapping.
    async fn poll(self, rng: SharedRng) {
        while self.world.executor.now() < END {
            let pause = lock(&rng).u64(200..1_500);
            self.world.executor.sleep(pause).await;
            let received = {
                let mut world = self.world.lock();
                world.queue.receive(10, self.world.executor.now(), &mut lock(&rng))
            };
            if !received.is_empty() {
                let env = self.environment(&rng);
                self.world.executor.spawn(env.id, self.clone().invoke(env, received));
            }
        }
    }

    /// One Lambda invocation: run the batch, then delete what is done and give back the rest. The report may be lost.
    async fn invoke(self, env: Environment, received: Vec<Received>) {
        let batch: Vec<Delivered> = received.iter().map(|message| message.delivered.clone()).collect();
        let now = Timestamp(self.world.executor.now().saturating_add_signed(env.connection.skew));
        let outcomes = env.engine.run_batch(&batch, now.plus(DEADLINE)).await;
        let answered = self.world.call(env.id, "answer", &received.len(), |_, _| ()).await.is_ok();
        for (message, outcome) in received.iter().zip(outcomes) {
            let now = self.world.executor.now();
            let to = &message.delivered.envelope.to;
            let mut world = self.world.lock();
            match outcome {
                Outcome::Done if answered => world.queue.delete(message, now),
                Outcome::Retry(pause) if answered => {
                    world.queue.change_visibility(message, now, millis(pause).max(1));
                    if now > QUIET {
                        let receive_count = message.delivered.receive_count;
                        world.problems.push(format!("no fault, but an envelope for {to} fails at delivery {receive_count}"));
                    }
                }
                _ => {}
            }
        }
    }

    /// Timers fire from whatever environment the schedule happens to start.
    async fn fire(self) {
        while self.world.executor.now() < END {
            self.world.executor.sleep(20 * SECOND).await;
            let env = self.new_environment();
            let connection = env.connection.clone();
            self.world.executor.spawn(env.id, async move {
                // Whatever failed is due again at the next sweep.
                let _ = env.engine.fire_due(&connection, 10).await;
            });
        }
    }

    /// A living environment, or a new one in its place.
    fn environment(&self, rng: &SharedRng) -> Environment {
        let mut rng = lock(rng);
        let index = rng.usize(0..ENVS);
        let retire = rng.u8(0..50) == 0;
        drop(rng);
        let mut envs = lock(&self.envs);
        if envs.get(index).is_none() || retire {
            let env = self.new_environment();
            let index = index.min(envs.len());
            if index < envs.len() {
                envs[index] = env.clone()
            } else {
                envs.push(env.clone())
            }
            return env;
        }
        envs[index].clone()
    }

    fn new_environment(&self) -> Environment {
        let mut next = lock(&self.next_env);
        *next += 1;
        let id = *next;
        let skew = self.world.lock().rng.i64(-self.skew..=self.skew) * SECOND as i64;
        let connection = Connection { world: self.world.clone(), env: id, skew };
        let port = Arc::new(connection.clone());
        let ports = Ports {
            store: port.clone(),
            queue: port.clone(),
            timers: port.clone(),
            egress: port.clone(),
            dead_letters: port.clone(),
            clock: port,
        };
        let engine = Arc::new(Engine::new(functions(&self.world, id, &self.calls), ports, self.config.clone()));
        Environment { id, engine, connection }
    }

    fn report(&self, seed: u64, input: &Input) -> Report {
        let world = self.world.lock();
        let calls = lock(&self.calls);
        let total = |counter: fn(&statefun_engine::metrics::FunctionCounters) -> &std::sync::atomic::AtomicU64| {
            lock(&self.envs).iter().map(|env| env.engine.metrics().total(counter)).sum()
        };
        Report {
            seed,
            problems: judge(input, &world),
            trace: world.trace_hash(),
            invocations: calls.values().map(|count| u64::from(*count)).sum(),
            commits: world.table.values().map(|record| record.version).sum(),
            looks: world.looks,
            fenced: total(|counters| &counters.fenced),
            letters: world.letters.len(),
        }
    }
}

fn ingress(index: usize, (target, payloads): &(char, Vec<Payload>), keys: bool, rng: &mut fastrand::Rng) -> Envelope {
    let to: Address = address(*target);
    let when = if index < 90 { index as u64 * 20 * SECOND } else { QUIET + index as u64 };
    Envelope {
        id: EnvelopeId::of_ingress("sim", &index.to_be_bytes(), to.function()),
        to,
        from: None,
        sent_at: Timestamp(if index >= 1_000 { 5 * SECOND } else { when }),
        keyed: keys && index < 90 && rng.u8(0..4) == 0,
        hops: 0,
        trace: None,
        messages: payloads.iter().filter_map(|payload| TypedValue::of(payload).ok()).collect(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
