//! Stand-ins for routers: at least once, whole batches again, and late; or in order, as from a shard.

use statefun_core::{Timestamp, group_id};
use statefun_engine::ports::Message;

use crate::{
    dials::{CALM, Router, SECOND, START, World},
    executor::WORLD,
    faults::{Service, Struck},
    fifo::Posted,
    input::{Entry, FAULTY, LOOPS},
    trial::{QUEUES, SharedRng, Trial, lock},
    workload::Kind,
};

impl Trial {
    /// Starts to send the records.
    pub(crate) fn route(&self, rng: &SharedRng) {
        let executor = self.world.executor.clone();
        let batches: Vec<Vec<Entry>> = self.entries.chunks(5).map(<[Entry]>::to_vec).collect();
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
        loop {
            let losses = self.world.lock().losses;
            let whole = self.send_once(batch, again, rng).await;
            // Where the store writes behind, nothing counts as accepted before it is on disk.
            let pause = lock(rng).u64(5..200);
            self.world.executor.sleep(pause).await;
            let whole = whole && self.world.lock().losses == losses;
            self.world.flush();
            let late: &[u64] = if self.dials.router == Router::InOrder { &[5, 10, 20] } else { &[10, 70, 290, 310, 900, 2_000] };
            let late = late[lock(rng).usize(0..late.len())];
            let calm = self.world.executor.now() >= CALM;
            let repeat = again < 4 && lock(rng).u8(0..10) == 0 && !calm;
            if whole && !repeat {
                return;
            }
            again += 1;
            self.world.executor.sleep(late * SECOND).await;
        }
    }

    async fn send_once(&self, batch: &[Entry], again: u32, rng: &SharedRng) -> bool {
        for entry in batch {
            let now = self.world.executor.now();
            if self.dials.world == World::Forged && self.forge(entry).await {
                continue;
            }
            let mut envelope = entry.envelope();
            if entry.keyed && again > 0 {
                // The producer sends it anew under its own key: to the queue it arrives now.
                envelope.sent_at = Timestamp(now);
            }
            let queue = self.dials.queue_at(now, &mut lock(rng));
            let newer = self.dials.newer.is_some_and(|(from, until)| (from..until).contains(&now)) && lock(rng).bool();
            let mut world = self.world.lock();
            if world.outages.iter().any(|outage| outage.strikes(Service::Sending, now)) {
                return false;
            }
            let mut posted = Posted::envelope(&envelope);
            if newer && entry.target != 'L' {
                world.struck(Struck::Newer);
                posted.body = as_newer(&posted.body).into();
            }
            world.stored.queues[queue].post(posted, now);
            if again > 0 {
                world.struck(Struck::Copy);
            }
            if entry.payloads[0].number > entry.key && entry.target != 'L' {
                world.struck(Struck::KeyReused);
            }
            if self.dials.router == Router::InOrder {
                world.struck(Struck::OrderedIngress);
            }
            drop(world);
            if lock(rng).u8(0..33) == 0 && now < CALM {
                return false;
            }
        }
        true
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
        // What is enqueued within the margin after that commit cannot be told from what the number covers.
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
fn as_newer(body: &str) -> String {
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
