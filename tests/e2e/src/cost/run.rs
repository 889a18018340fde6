//! A case: rounds of messages, one for each address, that environments get in batches, dealt out at random.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use statefun_aws::{
    Clients, Options,
    queues::{FunctionQueues, SqsConsumer, create_fifo_queue, create_standard_queue},
    store::{DynamoStore, create_table},
};
use statefun_core::{
    Address, Delivered, LastSeq, LedgerShape, Protocol, Record, protocol::Marks, queue_hash, stored::record_bytes,
};
use statefun_engine::ports::{Clock, Delivery, QueueConsumer};

use super::{
    bill::chunks,
    case::Case,
    environment::{Counted, Environment},
    meter::Meter,
    price::Spent,
    workload::{FILL, Shifted, addresses, envelope, function, order},
};
use crate::{
    http::REGION,
    problem::{Problem, Result},
};

const TABLE: &str = "cost";
/// The queues' retention in `template.yaml`.
const RETENTION: Duration = Duration::from_secs(14 * 86_400);
/// Rounds before those that are measured: records, outboxes and what caches know of themselves are as they stay.
const WARM_UP: usize = 3;
/// Longer than the protocol's margin and the queue's memory of ids.
const PAUSE: Duration = Duration::from_secs(900);
/// Added to the emulator's sequence numbers, which begin at 1: what filled the ledgers came before.
const AFTER_FILLING: u128 = 1_000_000;

/// A deployment and its environments.
pub(super) struct Run {
    case: Case,
    meter: Meter,
    /// Not metered: what an event source mapping does, and a look at what is there.
    clients: Clients,
    store: Arc<DynamoStore>,
    queues: FunctionQueues,
    urls: Vec<String>,
    addresses: Vec<Address>,
    router: Environment,
    environments: Vec<Environment>,
    clock: Shifted,
    protocol: Protocol,
    number: usize,
}

impl Run {
    pub(super) async fn new(endpoint: &str, case: Case) -> Result<Self> {
        let account = format!("{:012}", fastrand::u64(500_000_000_000..600_000_000_000));
        let clients = Clients::for_endpoint(endpoint, REGION, &account).await;
        create_table(&clients, TABLE).await?;
        let mut urls = Vec::new();
        for shard in 0..case.shards {
            urls.push(create_fifo_queue(&clients, &format!("function-{shard}.fifo")).await?);
        }
        let mut queues = FunctionQueues::default();
        queues.function(function()?, urls.clone());
        let addresses = addresses(&queues, &case)?;
        let options = Options {
            table: TABLE.to_owned(),
            dead_letters: create_fifo_queue(&clients, "dead-letters.fifo").await?,
            timers: create_standard_queue(&clients, "timers").await?,
            queues: queues.clone(),
            egress: BTreeMap::new(),
            marks: case.marks.then(|| Marks::of_retention(RETENTION)),
        };
        let (meter, clock) = (Meter::default(), Shifted::default());
        let metered = meter.clients(&clients);
        let environment = || Environment::new(&metered, &options, &case, &addresses, &clock);
        let router = environment()?;
        let environments = (0..case.environments).map(|_| environment()).collect::<Result<_>>()?;
        let store = Arc::new(DynamoStore::new(&clients, TABLE));
        let protocol = Protocol { marks: options.marks, ..Protocol::default() };
        Ok(Self { case, meter, clients, store, queues, urls, addresses, router, environments, clock, protocol, number: 0 })
    }

    /// Rounds to warm up, and what the measured ones took. `room` is how many ids a ledger has room for: ledgers are filled to different heights
    /// before, so that as many segments are written as over a long time.
    pub(super) async fn spent(mut self, room: usize) -> Result<Spent> {
        self.fill(room).await?;
        self.warm_up().await?;
        let before = self.counted();
        self.meter.take()?;
        let mut spent = Spent::default();
        for _ in 0..self.case.rounds() {
            self.round(&mut spent).await?;
        }
        self.look(&mut spent).await?;
        let after = self.counted();
        spent.handler_runs = after.handler_runs - before.handler_runs;
        spent.commits = after.commits - before.commits;
        spent.proven = after.proven - before.proven;
        Ok(spent)
    }

    /// How many ids a ledger has room for in a record as it is after some rounds.
    pub(super) async fn room(mut self) -> Result<usize> {
        self.warm_up().await?;
        let address = self.addresses.first().ok_or_else(|| Problem::new("no address"))?;
        let record = self.record(address).await?;
        Ok(LedgerShape::default().room(record_bytes(address, &record), self.case.folded, false))
    }

    async fn warm_up(&mut self) -> Result<()> {
        if self.case.sends {
            // The only messages that a router sends: from here on each is caused by one.
            self.send().await?;
        }
        for _ in 0..WARM_UP {
            self.round(&mut Spent::default()).await?;
        }
        Ok(())
    }

    async fn record(&self, address: &Address) -> Result<Record> {
        self.store.peek(address).await?.ok_or_else(|| Problem::new(format!("{address} has no record")))
    }

    /// Gives each ledger another number of ids, up to what it has room for.
    async fn fill(&mut self, room: usize) -> Result<()> {
        let mut batch = Vec::new();
        for (place, address) in self.addresses.iter().enumerate() {
            let queue = self.queue_of(address)?;
            for id in 0..=place * room / self.addresses.len() {
                let now = self.clock.now();
                let envelope = Arc::new(envelope(address, id, FILL, now));
                let seq = LastSeq { queue, seq: 1 + id as u128 };
                batch.push(Delivered { envelope, seq, enqueued_at: now, receive_count: 1 });
            }
        }
        self.router.run(&batch).await?;
        self.clock.forward(PAUSE);
        Ok(())
    }

    fn queue_of(&self, address: &Address) -> Result<u64> {
        let url = self.queues.queue_of(address).ok_or_else(|| Problem::new(format!("{address} has no queue")))?;
        Ok(queue_hash(url))
    }

    /// One message to each address, or as many as are folded.
    async fn round(&mut self, spent: &mut Spent) -> Result<()> {
        // What functions sent waits since the round before.
        let before = self.clock.fork();
        self.clock.forward(self.case.interval);
        let mut delivered: BTreeMap<Address, Vec<Delivered>> = BTreeMap::new();
        for _ in 0..self.case.folded {
            if !self.case.sends {
                self.send().await?;
                spent.bill += self.meter.take()?.0;
            }
            let sent_by = if self.case.sends { &before } else { &self.clock };
            for one in self.receive(sent_by).await? {
                delivered.entry(one.envelope.to.clone()).or_default().push(one);
            }
        }
        for batch in self.batches(delivered)? {
            self.invoke(&batch, spent).await?;
        }
        Ok(())
    }

    /// Sends each address a message, a batch at a time, as a router does.
    async fn send(&mut self) -> Result<()> {
        self.number += 1;
        let mut envelopes: Vec<_> = self.addresses.iter().map(|address| order(address, self.number, self.clock.now())).collect();
        fastrand::shuffle(&mut envelopes);
        for request in envelopes.chunks(self.case.batch) {
            self.router.send(request).await?;
        }
        Ok(())
    }

    /// Receives and deletes what every queue has: one message of each of its addresses. An event source mapping deletes what it was given only after
    /// the invocation; as many requests are made. `sent_by` is the clock by which it was sent.
    async fn receive(&self, sent_by: &Shifted) -> Result<Vec<Delivered>> {
        let mut all = Vec::new();
        for url in &self.urls {
            let consumer = SqsConsumer::new(&self.clients, url.clone());
            let mut left = self.addresses.len() / self.case.shards;
            while left > 0 {
                let received = consumer.receive(10).await?;
                if received.is_empty() || received.len() > left {
                    return Err(Problem::new(format!("{url} gave {} messages in place of {left}", received.len())));
                }
                left -= received.len();
                self.delete(url, &received).await?;
                all.extend(received.into_iter().map(|Delivery { delivered, .. }| Delivered {
                    seq: LastSeq { seq: delivered.seq.seq + AFTER_FILLING, ..delivered.seq },
                    enqueued_at: sent_by.of(delivered.enqueued_at),
                    ..delivered
                }));
            }
        }
        Ok(all)
    }

    async fn delete(&self, url: &str, received: &[Delivery]) -> Result<()> {
        let entry = |(index, delivery): (usize, &Delivery)| {
            DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(&delivery.receipt.0).build()
        };
        let entries = received.iter().enumerate().map(entry).collect::<std::result::Result<Vec<_>, _>>()?;
        self.clients.sqs.delete_message_batch().queue_url(url).set_entries(Some(entries)).send().await?;
        Ok(())
    }

    /// Batches as event source mappings make them: each of one queue, in any order.
    fn batches(&self, delivered: BTreeMap<Address, Vec<Delivered>>) -> Result<Vec<Vec<Delivered>>> {
        let mut by_queue: BTreeMap<u64, Vec<Vec<Delivered>>> = BTreeMap::new();
        for (address, of_one) in delivered {
            by_queue.entry(self.queue_of(&address)?).or_default().push(of_one);
        }
        let mut batches = Vec::new();
        for mut of_queue in by_queue.into_values() {
            fastrand::shuffle(&mut of_queue);
            let addresses = (self.case.batch / self.case.folded).max(1);
            batches.extend(of_queue.chunks(addresses).map(<[_]>::concat));
        }
        fastrand::shuffle(&mut batches);
        Ok(batches)
    }

    /// Gives a batch to one of the environments.
    async fn invoke(&self, batch: &[Delivered], spent: &mut Spent) -> Result<()> {
        let environment = &self.environments[fastrand::usize(..self.environments.len())];
        let before = cpu_ms()?;
        environment.run(batch).await?;
        spent.cpu_ms += cpu_ms()? - before;
        let (bill, chain) = self.meter.take()?;
        spent.bill += bill;
        spent.chain += chain;
        spent.messages += batch.len() as u64;
        spent.batches += 1;
        spent.batch_chunks += chunks(batch.iter().map(|one| one.envelope.to_wire().len()).sum());
        Ok(())
    }

    /// Looks at what is there: whether the meter saw all of it, and whether anything needs more than these messages.
    async fn look(&self, spent: &mut Spent) -> Result<()> {
        self.meter.check(&self.clients, TABLE).await?;
        spent.largest_record = self.meter.largest_record();
        let next = self.clock.now().plus(self.case.interval);
        for address in &self.addresses {
            let outbox = self.record(address).await?.outbox;
            spent.nudges += u64::from(!outbox.is_empty() && self.protocol.needs_nudge(&outbox, next));
        }
        let function = function()?;
        let bytes = self.environments.iter().map(|environment| environment.metrics_bytes(&function)).max();
        spent.log_bytes_a_minute = bytes.unwrap_or_default() as u64;
        Ok(())
    }

    fn counted(&self) -> Counted {
        self.environments.iter().map(Environment::counted).fold(Counted::default(), |sum, counted| sum + counted)
    }
}

/// Milliseconds for which this process had a processor.
fn cpu_ms() -> Result<f64> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        // A thread may end meanwhile.
        let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(nanoseconds as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_on_a_processor_is_measured() {
        let before = cpu_ms().unwrap();
        let mut sum = 0_u64;
        while cpu_ms().unwrap() - before < 5.0 {
            sum = (0..1_000_000).fold(sum, u64::wrapping_add);
        }
        assert!(std::hint::black_box(sum) > 0);
    }
}
