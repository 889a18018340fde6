//! The functions that are measured: small JSON messages, a little state, as real ones have.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use lambda_statefun::prelude::*;
use serde::{Deserialize, Serialize};

/// Handled so far, and how long each took from its call to its handler.
pub(crate) static HANDLED: AtomicU64 = AtomicU64::new(0);
static LATENCIES: Mutex<Vec<Duration>> = Mutex::new(Vec::new());
static START: Mutex<Option<Instant>> = Mutex::new(None);

/// Microseconds since the process started to measure.
pub(crate) fn micros() -> u64 {
    let start = *START.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn take_latencies() -> Vec<Duration> {
    HANDLED.store(0, Ordering::SeqCst);
    std::mem::take(&mut *LATENCIES.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A message of about 120 bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) sent_micros: u64,
    pub(crate) item: String,
    pub(crate) hops_left: u32,
}

impl Order {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, sent_micros: micros(), item: "a thing that somebody ordered".to_owned(), hops_left: 0 }
    }
}

impl Value for Order {
    const TYPE_NAME: TypeName = TypeName::from_static("bench/order");
    type Codec = Json;
}

#[derive(Default, Serialize, Deserialize)]
struct Totals {
    orders: u64,
    last: u64,
}

impl Value for Totals {
    const TYPE_NAME: TypeName = TypeName::from_static("bench/totals");
    type Codec = Json;
}

const TOTALS: ValueSpec<Totals> = ValueSpec::new("totals");

fn count(ctx: &mut Context, order: &Order) -> Result<(), FunctionError> {
    let mut totals = ctx.get(&TOTALS)?.unwrap_or_default();
    totals.orders += 1;
    totals.last = order.number;
    ctx.set(&TOTALS, totals)?;
    let latency = Duration::from_micros(micros().saturating_sub(order.sent_micros));
    LATENCIES.lock().unwrap_or_else(PoisonError::into_inner).push(latency);
    HANDLED.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

async fn sink(ctx: &mut Context, order: Order) -> Result<(), FunctionError> {
    count(ctx, &order)
}

async fn hop(ctx: &mut Context, mut order: Order) -> Result<(), FunctionError> {
    count(ctx, &order)?;
    if order.hops_left > 0 {
        order.hops_left -= 1;
        order.sent_micros = micros();
        ctx.send(("bench/hop", order.hops_left.to_string()), &order)?;
    }
    Ok(())
}

async fn emit(ctx: &mut Context, order: Order) -> Result<(), FunctionError> {
    count(ctx, &order)?;
    ctx.egress("bench/out", &order)?;
    Ok(())
}

/// Every tenth message of these is slow.
async fn slow(ctx: &mut Context, order: Order) -> Result<(), FunctionError> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    ctx.set(&TOTALS, Totals { orders: order.number, last: order.number })?;
    Ok(())
}

pub(crate) fn application() -> Application {
    Application::new()
        .function(Function::new("bench/sink", sink).state(&TOTALS))
        .function(Function::new("bench/hop", hop).state(&TOTALS))
        .function(Function::new("bench/emit", emit).state(&TOTALS))
        .function(Function::new("bench/slow", slow).state(&TOTALS))
}
