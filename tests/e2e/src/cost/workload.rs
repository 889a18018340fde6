//! The function whose messages are measured, and the addresses that they go to.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use lambda_statefun::{
    Application, BuiltApplication, Context, EnvelopeId, Function, FunctionError, Timestamp, TypeName, TypedValue, ValueSpec,
};
use statefun_aws::{SystemClock, queues::FunctionQueues};
use statefun_core::{Address, Envelope};
use statefun_engine::ports::{Clock, Moment};

use super::case::Case;
use crate::problem::{Problem, Result};

const FUNCTION: &str = "cost/function";
const COUNT: ValueSpec<u64> = ValueSpec::new("count");
const STATE: ValueSpec<String> = ValueSpec::new("state");

/// A small message: an order, a click. 44 bytes.
const MESSAGE: &str = "an order of a customer, or a click of a user";
/// One that only fills ledgers, and sends nothing.
pub(super) const FILL: &str = "fill";

/// What the handler knows.
struct Known {
    /// Whom the instance with an id sends to. A permutation: each gets one message a round.
    next: BTreeMap<String, String>,
    state: String,
}

async fn handle(known: &Known, ctx: &mut Context, message: String) -> std::result::Result<(), FunctionError> {
    let count = ctx.get(&COUNT)?.unwrap_or(0) + 1;
    ctx.set(&COUNT, count)?;
    ctx.set(&STATE, known.state.clone())?;
    if message == FILL {
        return Ok(());
    }
    let next = known.next.get(ctx.address().id()).cloned();
    if let Some(next) = next {
        ctx.send((FUNCTION, &*next), &message)?;
    }
    Ok(())
}

/// The application of an environment.
pub(super) fn application(case: &Case, addresses: &[Address]) -> Result<BuiltApplication> {
    // Some seven places further, so that what is in one batch goes to another.
    let next = addresses.iter().cycle().skip(7);
    let next = addresses.iter().zip(next).map(|(from, to)| (from.id().to_owned(), to.id().to_owned()));
    let next = if case.sends { next.collect() } else { BTreeMap::new() };
    let known = Known { next, state: "x".repeat(case.record.state()) };
    Ok(Application::new().function(Function::with_clients(FUNCTION, known, handle).state(&COUNT).state(&STATE)).build()?)
}

pub(super) fn function() -> Result<TypeName> {
    Ok(TypeName::parse(FUNCTION)?)
}

/// As many addresses for each queue.
pub(super) fn addresses(queues: &FunctionQueues, case: &Case) -> Result<Vec<Address>> {
    let each = case.addresses() / case.shards;
    let mut by_queue: BTreeMap<Arc<str>, Vec<Address>> = BTreeMap::new();
    for number in 1_000_000..1_100_000 {
        let address = Address::parse(&format!("{FUNCTION}/{number}"))?;
        let queue = queues.queue_of(&address).ok_or_else(|| Problem::new("the function has no queue"))?;
        let found = by_queue.entry(queue.clone()).or_default();
        if found.len() < each {
            found.push(address);
        }
        if by_queue.values().map(Vec::len).sum::<usize>() == case.addresses() {
            // Neighbours are of any queue.
            let mut all: Vec<_> = by_queue.into_values().flatten().collect();
            fastrand::shuffle(&mut all);
            return Ok(all);
        }
    }
    Err(Problem::new("the queues get no addresses"))
}

/// A message as a router makes it; `number` makes it another one.
pub(super) fn envelope(to: &Address, number: usize, text: &str, now: Timestamp) -> Envelope {
    let id = EnvelopeId::of_ingress("cost", format!("{text}/{number}/{to}").as_bytes(), to.function());
    let value = TypedValue::of(&text.to_owned()).unwrap_or_else(|error| unreachable!("{error}"));
    Envelope { id, to: to.clone(), from: None, sent_at: now, keyed: false, hops: 0, trace: None, messages: vec![value] }
}

/// The same, of a small order.
pub(super) fn order(to: &Address, number: usize, now: Timestamp) -> Envelope {
    envelope(to, number, MESSAGE, now)
}

/// The wall clock of all, which can be put forward: an hour takes no time.
#[derive(Debug, Clone, Default)]
pub(super) struct Shifted(Arc<AtomicU64>);

impl Shifted {
    pub(super) fn forward(&self, by: std::time::Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }

    /// One that shows the same now, and is not put forward with this one.
    pub(super) fn fork(&self) -> Self {
        Self(Arc::new(AtomicU64::new(self.0.load(Ordering::Relaxed))))
    }

    /// What a time of the system's clock is by this one.
    pub(super) fn of(&self, time: Timestamp) -> Timestamp {
        Timestamp(time.0 + self.0.load(Ordering::Relaxed))
    }
}

#[async_trait]
impl Clock for Shifted {
    fn now(&self) -> Timestamp {
        self.of(SystemClock.now())
    }

    fn moment(&self) -> Moment {
        SystemClock.moment()
    }

    async fn sleep_until(&self, moment: Moment) {
        SystemClock.sleep_until(moment).await;
    }
}
