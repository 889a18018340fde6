//! Sources of records, and the shipped router between them and the queues: at least once, again and late; or in order, as from a shard.

use std::sync::Arc;

use statefun_core::{Targets, Timestamp, group_id};
use statefun_engine::ports::{Clock, Message};
use statefun_ingress::{Arrival, Dispatcher, IngressRecord, Outcome, kinesis_failures, sqs_failures};

use crate::{
    dials::{CALM, DEADLINE, Router, SECOND, START, World},
    executor::WORLD,
    faults::{Service, Struck},
    input::{Entry, FAULTY, LOOPS, Records},
    trial::{QUEUES, SharedRng, Trial, lock},
    workload::Kind,
};

impl Trial {
    /// Starts to send the records.
    pub(crate) fn route(&self, rng: &SharedRng) {
        let executor = self.world.executor.clone();
        let batches: Vec<Vec<Entry>> =
            self.entries.chunks(if self.dials.world == World::Forged { 1 } else { 5 }).map(<[Entry]>::to_vec).collect();
        if self.dials.router == Router::InOrder {
            let trial = self.clone();
            let rng = rng.clone();
            executor.spawn(WORLD, async move {
                let (loops, others): (Vec<_>, Vec<_>) = batches.into_iter().partition(|batch| batch[0].target == 'L');
                for batch in loops.into_iter().chain(others) {
                    trial.world.executor.sleep_until(arrival(&batch)).await;
                    trial.send_batch(&batch, &rng).await;
                }
            });
            return;
        }
        for batch in batches {
            let start = arrival(&batch) + lock(rng).u64(0..30) * SECOND;
            let (trial, rng) = (self.clone(), rng.clone());
            executor.spawn(WORLD, async move {
                trial.world.executor.sleep_until(start).await;
                trial.send_batch(&batch, &rng).await;
            });
        }
    }

    /// Sends a batch until all of it is accepted; sometimes once more.
    async fn send_batch(&self, batch: &[Entry], rng: &SharedRng) {
        let mut again = 0;
        // What its source delivers, by place.
        let mut rest: Vec<usize> = (0..batch.len()).collect();
        if self.dials.world == World::Forged && self.forge(&batch[0]).await {
            return;
        }
        loop {
            let losses = self.world.lock().losses;
            let left = self.dispatch(batch, &rest, again, rng).await;
            // Where the store writes behind, nothing counts as accepted before it is on disk.
            let pause = lock(rng).u64(5..200);
            self.world.executor.sleep(pause).await;
            let kept = self.world.lock().losses == losses;
            self.world.flush();
            if kept {
                rest = left;
            }
            let late: &[u64] = if self.dials.router == Router::InOrder { &[5, 10, 20] } else { &[10, 70, 290, 310, 900, 2_000] };
            let late = late[lock(rng).usize(0..late.len())];
            let calm = self.world.executor.now() >= CALM;
            let repeat = again < 4 && lock(rng).u8(0..10) == 0 && !calm;
            if rest.is_empty() && !repeat {
                return;
            }
            if rest.is_empty() {
                rest = (0..batch.len()).collect();
            }
            again += 1;
            self.world.executor.sleep(late * SECOND).await;
        }
    }

    /// An invocation of a router Lambda with a part of a batch; returns what has to come again of it.
    async fn dispatch(&self, batch: &[Entry], rest: &[usize], again: u32, rng: &SharedRng) -> Vec<usize> {
        let now = self.world.executor.now();
        let mut connection = self.connect(false);
        connection.newer = self.dials.newer.is_some_and(|(from, until)| (from..until).contains(&now)) && lock(rng).bool();
        let arrivals: Vec<_> =
            rest.iter().map(|place| Arrival::Record(self.arrives(&batch[*place], *place, again > 0))).collect();
        let (env, deadline, safeguards) = (connection.env, connection.moment().plus(DEADLINE), self.world.lock().safeguards);
        let port = Arc::new(connection);
        let dispatcher = Dispatcher {
            router: Arc::new(Records(batch.into())),
            targets: Targets::Any,
            queue: port.clone(),
            malformed: port.clone(),
            clock: port,
            safeguards,
        };
        let outcomes = self.world.executor.run_in(env, async move { dispatcher.dispatch(arrivals, deadline).await }).await;
        // Whoever dies, or answers nothing, gets all of it again.
        let outcomes = outcomes.unwrap_or_else(|| vec![Outcome::Failed; rest.len()]);
        let numbers: Vec<_> = rest.iter().map(ToString::to_string).collect();
        let results = numbers.iter().map(String::as_str).zip(outcomes);
        let failed: Vec<&str> = match self.dials.router {
            Router::InOrder => {
                let first = kinesis_failures(results);
                numbers.iter().map(String::as_str).skip_while(|number| Some(*number) != first).collect()
            }
            Router::Careless => sqs_failures(results.map(|(number, outcome)| (number, None, outcome))),
        };
        failed.into_iter().filter_map(|number| number.parse().ok()).collect()
    }

    /// A record as its source delivers it. Of a producer that sends it anew under its own key it is another one.
    fn arrives(&self, entry: &Entry, place: usize, again: bool) -> IngressRecord {
        let mut world = self.world.lock();
        if again {
            world.struck(Struck::Copy);
        }
        if entry.payloads[0].number > entry.key && entry.target != 'L' {
            world.struck(Struck::KeyReused);
        }
        let mut record = entry.record(place, (entry.keyed && again).then(|| self.world.executor.now()));
        if self.dials.router == Router::InOrder {
            world.struck(Struck::OrderedIngress);
        } else {
            record.order = None;
        }
        record
    }

    /// An operator invokes the function by hand with this record, and makes up the largest sequence number there is.
    async fn forge(&self, entry: &Entry) -> bool {
        let number = entry.payloads[0].number;
        // Nobody counts how often an operator tries.
        let plain = entry.payloads.iter().all(|payload| payload.kind == Kind::Plain) && entry.target != 'L';
        if !plain || !(FAULTY / 3..FAULTY / 2).contains(&number) {
            return false;
        }
        // What waits would be taken for a duplicate: its number is lower, and it was there before.
        if !self.world.lock().stored.queues[0].is_quiet(&entry.to) {
            return false;
        }
        self.world.lock().struck(Struck::Forged);
        let message = Message {
            body: entry.envelope().to_wire(),
            group: group_id(&entry.to),
            seq: u128::MAX,
            queue: QUEUES[0].into(),
            sent_at: Timestamp(self.world.executor.now()),
            receive_count: 1,
            id: "by hand".to_owned(),
            receipt: "none".to_owned(),
        };
        self.clone().invoke_by_hand(message).await;
        // What is enqueued within the margin after that commit cannot be distinguished from what the number covers.
        self.world.executor.sleep(100 * SECOND).await;
        true
    }

    /// A queue is deleted and made anew, and what was in it is sent again by hand.
    pub(crate) fn remake(&self, rng: &SharedRng) {
        const AWAY: u64 = 400 * SECOND;
        let first = match self.dials.world {
            World::RemadeLower => 0,
            World::RemadeHigher => 1_000_000,
            _ => return,
        };
        let (trial, from) = (self.clone(), START + lock(rng).u64(200..1_200) * SECOND);
        let outage = crate::faults::Outage { from, until: from + AWAY + SECOND, service: Service::Queues };
        self.world.lock().outages.push(outage);
        self.world.executor.spawn(WORLD, async move {
            let executor = trial.world.executor.clone();
            executor.sleep_until(from).await;
            let kept = trial.world.lock().stored.queues[0].delete_queue();
            executor.sleep_until(from + AWAY).await;
            let mut world = trial.world.lock();
            world.struck(Struck::Remade);
            world.stored.queues[0].make_anew(first, kept, executor.now());
        });
    }
}

/// An envelope's wire form as a later version may write it.
pub(crate) fn as_newer(body: &str) -> String {
    body.replacen("{\"v\":1,", "{\"v\":9,", 1)
}

/// What that version reads of it.
pub(crate) fn read_by_newer(body: &str) -> String {
    body.replacen("{\"v\":9,", "{\"v\":1,", 1)
}

fn arrival(batch: &[Entry]) -> u64 {
    batch.iter().map(|entry| entry.at).max().unwrap_or(START)
}

const _: () = assert!(LOOPS < 5, "loops are a batch of their own");
