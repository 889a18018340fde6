//! Batches as an event source mapping would deliver them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use lambda_statefun::{Application, Context, EnvelopeId, Function, FunctionError, Timestamp, TypeName, TypedValue, ValueSpec};
use statefun_aws::{
    Backend, Clients, Options, SystemClock,
    queues::{FunctionQueues, SqsConsumer, create_fifo_queue, create_standard_queue},
    store::create_table,
};
use statefun_core::{Address, Delivered, Envelope};
use statefun_engine::{
    CacheUse, Config, Engine, Outcome, Ports,
    ports::{Clock, Delivery, EnvelopeQueue, QueueConsumer},
};

use super::meter::{Metered, Written};
use crate::{
    http::REGION,
    problem::{Problem, Result},
};

const TABLE: &str = "cost";
/// Whether items are measured: see [`Workload::run`].
const PASSES: [bool; 2] = [false, true];
const COUNT: ValueSpec<u64> = ValueSpec::new("count");
const LAST: ValueSpec<String> = ValueSpec::new("last");

/// What a batch looks like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) addresses: usize,
    /// Per address.
    pub(super) messages: usize,
    /// Whether each message sends one.
    pub(super) sends: bool,
    /// Bytes that a message carries. An instance keeps a count, and the last one.
    pub(super) payload: usize,
}

impl Shape {
    /// Batches that are sent together, so that each send request has ten addresses: a router's batch has many.
    fn at_once(self) -> usize {
        if self.messages > 1 { 10_usize.div_ceil(self.addresses) } else { 1 }
    }
}

/// What the measured batches took.
#[derive(Debug, Clone, Default)]
pub(super) struct Spent {
    pub(super) messages: u64,
    pub(super) invocations: u64,
    pub(super) calls: BTreeMap<String, u64>,
    pub(super) written: Written,
}

pub(super) struct Workload {
    shape: Shape,
    backend: Backend,
    store: Arc<Metered>,
    consumer: SqsConsumer,
    url: String,
}

async fn count(ctx: &mut Context, message: String) -> std::result::Result<(), FunctionError> {
    let count = ctx.get(&COUNT)?.unwrap_or(0) + 1;
    ctx.set(&COUNT, count)?;
    ctx.set(&LAST, message)?;
    Ok(())
}

/// Sends its message on to the instance of the next number.
async fn pass_on(ctx: &mut Context, message: String) -> std::result::Result<(), FunctionError> {
    count(ctx, message.clone()).await?;
    let number: u64 = ctx.address().id().parse().map_err(FunctionError::terminal)?;
    ctx.send(("cost/sink", &*number.to_string()), &message)?;
    Ok(())
}

impl Workload {
    pub(super) async fn new(endpoint: &str, shape: Shape) -> Result<Self> {
        let account = format!("{:012}", fastrand::u64(500_000_000_000..600_000_000_000));
        let clients = Clients::for_endpoint(endpoint, REGION, &account).await;
        let probe = Clients::for_endpoint(endpoint, REGION, &account).await;
        create_table(&probe, TABLE).await?;
        let url = create_fifo_queue(&probe, "functions.fifo").await?;
        let mut queues = FunctionQueues::default();
        queues.namespace("cost", [url.clone()]);
        let sink = create_fifo_queue(&probe, "sink.fifo").await?;
        queues.function(TypeName::parse("cost/sink")?, [sink]);
        let options = Options {
            table: TABLE.to_owned(),
            dead_letters: create_fifo_queue(&probe, "dead-letters.fifo").await?,
            timers: create_standard_queue(&probe, "timers").await?,
            queues,
            egress: BTreeMap::new(),
            marks: None,
        };
        let backend = Backend::new(clients, options);
        let store = Metered::new(backend.store.clone(), backend.clients.calls.clone(), probe, TABLE.to_owned());
        let consumer = SqsConsumer::new(&backend.clients, url.clone());
        Ok(Self { shape, backend, store: Arc::new(store), consumer, url })
    }

    /// Runs batches and says what they took; before them one that is not measured, so that every record is there. A first pass
    /// counts calls. A second measures items: looking at them slows it, so that fewer sends would meet in a request.
    pub(super) async fn run(&self, batches: usize, cold: bool, done: &impl Fn()) -> Result<Spent> {
        let mut spent = Spent::default();
        for metered in PASSES {
            self.pass(batches, cold, metered, &mut spent, done).await?;
        }
        Ok(spent)
    }

    /// How many batches [`run`](Self::run) takes for so many measured ones, and so how often it calls `done`.
    pub(super) const fn batches(measured: usize) -> u64 {
        ((measured + 1) * PASSES.len()) as u64
    }

    async fn pass(&self, batches: usize, cold: bool, metered: bool, spent: &mut Spent, done: &impl Fn()) -> Result<()> {
        let mut engine = self.engine(metered)?;
        for number in 0..=batches {
            if cold {
                engine = self.engine(metered)?;
            }
            self.batch(&engine, number + usize::from(metered) * 1_000_000).await?;
            done();
            let (calls, written) = (self.backend.clients.calls.take(), self.store.take()?);
            if number == 0 {
                continue;
            }
            if metered {
                spent.written.units += written.units;
                spent.written.items += written.items;
                spent.written.reads += written.reads;
                continue;
            }
            spent.messages += (self.shape.addresses * self.shape.messages * self.shape.at_once()) as u64;
            spent.invocations += self.shape.at_once() as u64;
            for (operation, count) in calls {
                *spent.calls.entry(operation).or_default() += count.calls;
            }
        }
        Ok(())
    }

    fn engine(&self, metered: bool) -> Result<Engine> {
        let function = match self.shape.sends {
            true => Function::new("cost/function", pass_on),
            false => Function::new("cost/function", count),
        };
        let app = Application::new().function(function.state(&COUNT).state(&LAST)).build()?;
        let ports = match metered {
            true => Ports { store: self.store.clone(), ..self.backend.ports() },
            false => self.backend.ports(),
        };
        Ok(Engine::new(
            app.functions,
            ports,
            Config { rules: app.rules.into(), first_run: fastrand::u64(..), cache: CacheUse::Always, ..Config::default() },
        ))
    }

    /// Batches: sent as the router does, received, run and deleted as an event source mapping does. (SQS would deliver the messages
    /// of an address together where it can; the emulator gives one of each address. As many requests are made.)
    async fn batch(&self, engine: &Engine, number: usize) -> Result<()> {
        let addresses = self.shape.addresses * self.shape.at_once();
        let mut delivered: BTreeMap<Address, Vec<Delivered>> = BTreeMap::new();
        for message in 0..self.shape.messages {
            let envelopes: Vec<_> =
                (0..addresses).map(|address| envelope(address, number, message, self.shape.payload)).collect();
            for sent in self.backend.queues.send(&envelopes.iter().collect::<Vec<_>>()).await {
                sent?;
            }
            let received = self.consumer.receive(10).await?;
            if received.len() != addresses {
                return Err(Problem::new(format!("{} of {addresses} messages were received at once", received.len())));
            }
            for Delivery { delivered: one, .. } in &received {
                delivered.entry(one.envelope.to.clone()).or_default().push(one.clone());
            }
            self.delete(&received).await?;
        }
        let delivered: Vec<_> = delivered.into_values().collect();
        for batch in delivered.chunks(self.shape.addresses) {
            let outcomes = engine.run_batch(&batch.concat(), SystemClock.moment().plus(Duration::from_secs(30))).await;
            if outcomes.iter().any(|outcome| *outcome != Outcome::Done) {
                return Err(Problem::new(format!("a message failed: {outcomes:?}")));
            }
        }
        Ok(())
    }

    async fn delete(&self, received: &[Delivery]) -> Result<()> {
        let entry = |(index, delivery): (usize, &Delivery)| {
            DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(&delivery.receipt.0).build()
        };
        let entries = received.iter().enumerate().map(entry).collect::<std::result::Result<Vec<_>, _>>()?;
        self.backend.clients.sqs.delete_message_batch().queue_url(&self.url).set_entries(Some(entries)).send().await?;
        Ok(())
    }
}

fn envelope(address: usize, batch: usize, message: usize, payload: usize) -> Envelope {
    let to = Address::parse(&format!("cost/function/{}", 1_000_000 + address));
    let to = to.unwrap_or_else(|error| unreachable!("{error}"));
    let id = EnvelopeId::of_ingress("cost", format!("{batch}/{message}/{address}").as_bytes(), to.function());
    let value = TypedValue::of(&"x".repeat(payload)).unwrap_or_else(|error| unreachable!("{error}"));
    let sent_at: Timestamp = SystemClock.now();
    Envelope { id, to, from: None, sent_at, keyed: false, hops: 0, trace: None, messages: vec![value] }
}
