//! One trial: a seed decides the world, the input, the faults and their moments; the oracle judges what is left.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use statefun_core::{Address, Rules, Safeguards};
use statefun_engine::{
    Config, Engine, Ports, Receiver, backend,
    ports::{Clock, DueTimers, InstanceStore, Message},
    receive::ANSWER_RESERVE,
};

use crate::{
    calls::Calls,
    dials::{CALM, DEADLINE, Dials, END, MARGIN, QUIET, SECOND, START, World as Kind},
    executor::{EnvId, Executor, WORLD},
    faults::{Faults, Service, Strikes, Struck},
    fifo::Fifo,
    input::{Entry, entries},
    oracle::{count_dropped, judge},
    ports::{Connection, millis},
    router::read_by_newer,
    workload::{Variant, functions},
    world::{Watch, World},
};

/// The queues: addresses have the first one at first.
pub(crate) const QUEUES: [&str; 2] = ["one.fifo", "two.fifo"];

/// What a trial came to.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The kind of world it had.
    pub world: Kind,
    /// What the oracle found wrong; nothing, if all is well.
    pub problems: Vec<String>,
    /// The same seed gives the same trace, and so the same hash; zero if nobody watched.
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
    /// How often each fault struck.
    pub strikes: Strikes,
}

/// Runs a seed, in the world it has or in another one.
#[must_use]
pub fn trial(seed: u64, world: Option<Kind>, safeguards: Safeguards, watch: Watch) -> Report {
    let mut rng = fastrand::Rng::with_seed(seed);
    let executor = Executor::starting(START);
    let dials = Dials::new(world.unwrap_or_else(|| Kind::of(seed)), &mut rng, safeguards);
    let queues = QUEUES.map(|name| Fifo::new(name, dials.visibility, dials.max_receive, dials.retention));
    let world = World::new(executor.clone(), rng.fork(), queues, safeguards, watch);
    {
        let mut state = world.lock();
        (state.settles, state.faults, state.outages) = (dials.settles, dials.faults, dials.outages.clone());
        state.skew = dials.skew_millis();
        state.denials.within = dials.denied;
    }
    let entries = entries(&dials, &mut rng);
    let trial = Trial {
        dials: Arc::new(dials),
        entries: entries.into(),
        world: world.clone(),
        calls: Calls::default(),
        envs: Arc::default(),
        next_env: Arc::new(Mutex::new(WORLD)),
    };
    trial.start(&Arc::new(Mutex::new(rng)));
    if !executor.run(END) {
        world.lock().problems.push("work goes round and round".to_owned());
    }
    trial.report(seed)
}

pub(crate) type SharedRng = Arc<Mutex<fastrand::Rng>>;

#[derive(Clone)]
pub(crate) struct Trial {
    pub(crate) dials: Arc<Dials>,
    pub(crate) entries: Arc<[Entry]>,
    pub(crate) world: World,
    pub(crate) calls: Calls,
    envs: Arc<Mutex<Vec<Environment>>>,
    next_env: Arc<Mutex<EnvId>>,
}

/// An execution environment: one engine, with its cache, its clock, and any number of invocations.
#[derive(Clone)]
struct Environment {
    id: EnvId,
    receiver: Arc<Receiver>,
    rules: Arc<Rules>,
    connection: Connection,
    variant: Variant,
    /// It reads the form of a later version.
    newer: bool,
}

impl Trial {
    fn start(&self, rng: &SharedRng) {
        if self.dials.volatile {
            self.world.write_behind();
            self.world.executor.spawn(WORLD, self.clone().flush(rng.clone()));
        }
        self.route(rng);
        self.remake(rng);
        self.send_foreign(rng);
        self.purge(rng);
        for poller in [self.clone().poll(rng.clone()), self.clone().poll(rng.clone())] {
            self.world.executor.spawn(WORLD, poller);
        }
        self.world.executor.spawn(WORLD, self.clone().fire(rng.clone()));
        self.world.executor.spawn(WORLD, self.clone().redrive());
        if self.dials.marks().is_some() {
            self.world.executor.spawn(WORLD, self.clone().sweep());
        }
        if let Some((_, until)) = self.dials.newer {
            self.world.executor.spawn(WORLD, self.clone().deploy_at(until));
        }
        if let Some((from, until, _)) = self.dials.removal {
            self.world.executor.spawn(WORLD, self.clone().deploy_at(from));
            self.world.executor.spawn(WORLD, self.clone().deploy_at(until));
        }
    }

    async fn redrive(self) {
        let executor = self.world.executor.clone();
        while executor.now() < END - 2_000 * SECOND {
            executor.sleep(900 * SECOND).await;
            let now = executor.now();
            let mut world = self.world.lock();
            let redriven: Vec<_> = world.stored.queues.iter_mut().flat_map(|queue| queue.redrive(now)).collect();
            for id in redriven {
                *world.redriven.entry(id).or_default() += 1;
                world.struck(Struck::Redrive);
            }
            if now >= CALM {
                world.faults = Faults::NONE;
            }
        }
    }

    /// A deployment: no environment of the former one is used again.
    async fn deploy_at(self, at: u64) {
        self.world.executor.sleep_until(at).await;
        self.retire();
    }

    /// No environment that is alive gets another invocation.
    pub(crate) fn retire(&self) {
        lock(&self.envs).clear();
    }

    async fn flush(self, rng: SharedRng) {
        while self.world.executor.now() < END {
            let pause = lock(&rng).u64(200..10_000);
            self.world.executor.sleep(pause).await;
            self.world.flush();
        }
    }

    /// A stand-in for the event source mapping.
    async fn poll(self, rng: SharedRng) {
        while self.world.executor.now() < END {
            let pause = lock(&rng).u64(200..1_500);
            self.world.executor.sleep(pause).await;
            let now = self.world.executor.now();
            let queue = usize::from(self.dials.moves && lock(&rng).bool());
            let received = {
                let out = self.is_out(Service::Queues);
                let mut world = self.world.lock();
                if world.mapping_off || out {
                    continue;
                }
                if self.dials.expires() {
                    let gone: usize = world.stored.queues.iter_mut().map(|queue| queue.expire(now)).sum();
                    (0..gone).for_each(|_| world.struck(Struck::RetentionOver));
                }
                let (received, died) = world.stored.queues[queue].receive(10, now, &mut lock(&rng));
                (0..died).for_each(|_| world.struck(Struck::QueueDeath));
                received
            };
            if !received.is_empty() {
                let env = self.environment(&rng);
                self.world.executor.spawn(env.id, self.clone().invoke(env, received));
            }
        }
    }

    /// Whether nobody can use it at the moment.
    pub(crate) fn is_out(&self, service: Service) -> bool {
        let now = self.world.executor.now();
        self.world.lock().outages.iter().any(|outage| outage.strikes(service, now))
    }

    /// One Lambda invocation: run the batch, then delete what is done and give back the rest. The report may be lost.
    async fn invoke(self, env: Environment, received: Vec<Message>) {
        if env.variant != Variant::All && addresses(&received).iter().any(|to| to.function().name() == "d") {
            let missing = if env.variant == Variant::RenamedD { Struck::FunctionRenamed } else { Struck::FunctionRemoved };
            self.world.lock().struck(missing);
        }
        if self.world.lock().losses > 0 {
            // As the local host: after a crash nothing runs that the next one would take back.
            let _ = env.connection.barrier().await;
        }
        let failed = self.run(&env, &received).await;
        let answered = self.world.call(env.id, "answer", &received.len(), |_, _| ()).await.is_ok();
        if !answered {
            return;
        }
        for (message, failed) in received.iter().zip(failed) {
            let now = self.world.executor.now();
            let to = Address::parse(&message.group).ok();
            let mut world = self.world.lock();
            match (failed, to) {
                (None, to) => {
                    let of_it = world.stored.queues.iter_mut().filter(|queue| *queue.name() == message.queue);
                    of_it.for_each(|queue| queue.delete(message, now));
                    let Some(to) = &to else { continue };
                    let quiet = world.stored.queues.iter().all(|queue| queue.is_quiet(to));
                    let left = world
                        .stored
                        .table
                        .get(to)
                        .is_some_and(|record| !record.outbox.is_empty() && record.outbox.mark.is_none());
                    if quiet && left && !self.dials.moves && world.open.iter().all(|(_, open)| open != to) {
                        world.problems.push(format!("{to}: all is acknowledged, and its outbox stands"));
                    }
                }
                (Some(_), Some(to)) if now > QUIET && !self.dials.moves => {
                    let receive_count = message.receive_count;
                    world.problems.push(format!("no fault, but an envelope for {to} fails at delivery {receive_count}"));
                }
                (Some(_), _) => {}
            }
        }
    }

    async fn run(&self, env: &Environment, received: &[Message]) -> Vec<Option<Duration>> {
        let addresses = addresses(received);
        self.world.lock().open.extend(addresses.iter().map(|to| (env.id, to.clone())));
        // From then on the engine gives up.
        let deadline = self.world.executor.now() + millis(DEADLINE - ANSWER_RESERVE);
        let failed = env.receiver.serve(&env.read(received), env.connection.moment().plus(DEADLINE)).await;
        let mut world = self.world.lock();
        for to in &addresses {
            world.cut_off(env.id, to, self.world.executor.now(), deadline);
            let mine = (env.id, to.clone());
            if let Some(place) = world.open.iter().position(|open| *open == mine) {
                world.open.swap_remove(place);
            }
            let unsure = world.unsure.contains(&(env.id, to.to_string()));
            let held = world
                .stored
                .table
                .get(to)
                .is_some_and(|record| record.lease.is_some_and(|lease| lease.until.0 > self.world.executor.now()));
            if !held || world.leases.get(to) != Some(&env.id) {
                continue;
            }
            if unsure {
                // Nobody can give it back any more.
                world.leases.remove(to);
            } else if !world.open.contains(&mine) && !self.dials.moves {
                let now = self.world.executor.now() - START;
                world.problems.push(format!("{to}: a lease outlives its run at {now} of {}", env.id));
            }
        }
        failed
    }

    /// Somebody invokes the function with one message, until it is done.
    pub(crate) async fn invoke_by_hand(self, message: Message) {
        // No queue has it: what its outbox holds waits for this message all the time.
        let open = Address::parse(&message.group).ok().map(|to| (WORLD, to));
        self.world.lock().open.extend(open.clone());
        loop {
            let env = self.new_environment();
            let (trial, message) = (self.clone(), message.clone());
            let done = Arc::new(Mutex::new(false));
            let result = done.clone();
            self.world.executor.spawn(env.id, async move {
                let failed = trial.run(&env, &[message]).await;
                *lock(&result) = failed == [None];
            });
            self.world.executor.sleep(60 * SECOND).await;
            if *lock(&done) {
                break;
            }
        }
        let mut world = self.world.lock();
        if let Some(place) = world.open.iter().position(|held| Some(held) == open.as_ref()) {
            world.open.swap_remove(place);
        }
    }

    /// Timers fire from whatever environment the schedule happens to start.
    async fn fire(self, rng: SharedRng) {
        while self.world.executor.now() < END {
            self.world.executor.sleep(20 * SECOND).await;
            let env = if self.dials.volatile { self.environment(&rng) } else { self.new_environment() };
            let (connection, safeguards) = (env.connection.clone(), self.world.lock().safeguards);
            self.world.executor.spawn(env.id, async move {
                // As the sweep on AWS, it also finds what falls due soon. Whatever fails is found again by the next one.
                let due = connection.due(connection.now().plus(MARGIN), 10).await.unwrap_or_default();
                backend::fire(&connection, &connection, due, connection.now(), safeguards).await;
            });
        }
    }

    /// Looks after what stands, from whatever environment the schedule happens to start.
    async fn sweep(self) {
        while self.world.executor.now() < END {
            self.world.executor.sleep(240 * SECOND).await;
            let env = self.new_environment();
            let rules = env.rules.clone();
            self.world.executor.spawn(env.id, async move {
                let standing = env.connection.standing().await.unwrap_or_default();
                backend::nudge(&env.connection, &standing, &rules.protocol, env.connection.now()).await;
            });
        }
    }

    /// A living environment, or a new one in its place.
    fn environment(&self, rng: &SharedRng) -> Environment {
        let (index, retire) = {
            let mut rng = lock(rng);
            (rng.usize(0..self.dials.envs), rng.u8(0..if self.dials.moves { 12 } else { 50 }) == 0 && !self.dials.volatile)
        };
        let mut envs = lock(&self.envs);
        let living = envs.get(index).filter(|env| !retire && !self.world.lock().dead.contains(&env.id));
        if let Some(env) = living {
            return env.clone();
        }
        let env = self.new_environment();
        match envs.get_mut(index) {
            Some(place) => *place = env.clone(),
            None => envs.push(env.clone()),
        }
        env
    }

    /// A new environment's connection to the world.
    pub(crate) fn connect(&self, old: bool) -> Connection {
        let id = {
            let mut next = lock(&self.next_env);
            *next += 1;
            *next
        };
        let now = self.world.executor.now();
        let (skew, queue) = {
            let mut world = self.world.lock();
            world.environments.push(id);
            let skew = world.rng.i64(-self.dials.skew..=self.dials.skew) * SECOND as i64;
            (skew, self.dials.queue_at(now, &mut world.rng))
        };
        Connection::new(self.world.clone(), id, skew, queue, old)
    }

    fn new_environment(&self) -> Environment {
        let now = self.world.executor.now();
        let old = self.dials.old_versions && now < CALM && self.world.lock().rng.bool();
        let connection = self.connect(old);
        let id = connection.env;
        let variant = match self.dials.removal {
            Some((from, until, true)) if (from..until).contains(&now) => Variant::RenamedD,
            Some((from, until, false)) if (from..until).contains(&now) => Variant::WithoutD,
            _ => Variant::All,
        };
        let port = Arc::new(connection.clone());
        let ports = Ports {
            store: port.clone(),
            queue: port.clone(),
            timers: port.clone(),
            egress: port.clone(),
            dead_letters: port.clone(),
            clock: port.clone(),
        };
        let functions = functions(&self.world, id, &self.calls, &self.dials, variant);
        let mut config = Config { first_run: id << 32, ..self.dials.config.clone() };
        if old || self.world.lock().marks_off {
            // An old one knows none.
            Arc::make_mut(&mut config.rules).protocol.marks = None;
        }
        let rules = config.rules.clone();
        let receiver = Receiver::new(Engine::new(functions, ports, config), port.clone(), port);
        let newer = self.dials.newer.is_some_and(|(_, until)| now >= until);
        Environment { id, receiver: Arc::new(receiver), rules, connection, variant, newer }
    }

    fn report(&self, seed: u64) -> Report {
        let mut world = self.world.lock();
        count_dropped(self, &mut world);
        let proven: u64 =
            lock(&self.envs).iter().map(|env| env.receiver.engine().metrics().total(|counters| &counters.proven)).sum();
        (0..proven).for_each(|_| world.struck(Struck::Proven));
        let total = |counter: fn(&statefun_engine::metrics::FunctionCounters) -> &std::sync::atomic::AtomicU64| {
            lock(&self.envs).iter().map(|env| env.receiver.engine().metrics().total(counter)).sum()
        };
        Report {
            seed,
            world: self.dials.world,
            problems: judge(self, &world),
            trace: world.trace_hash(),
            invocations: self.calls.total(),
            commits: world.commits,
            looks: world.looks,
            fenced: total(|counters| &counters.fenced),
            letters: world.stored.letters.len(),
            strikes: world.strikes.clone(),
        }
    }
}

/// Whom the messages are for, as far as their groups say so.
fn addresses(received: &[Message]) -> BTreeSet<Address> {
    received.iter().filter_map(|message| Address::parse(&message.group).ok()).collect()
}

impl Environment {
    /// The messages as its version reads them.
    fn read(&self, received: &[Message]) -> Vec<Message> {
        let body = |message: &Message| if self.newer { read_by_newer(&message.body) } else { message.body.clone() };
        received.iter().map(|message| Message { body: body(message), ..message.clone() }).collect()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
