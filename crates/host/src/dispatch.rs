//! Takes addresses that have something to do and lets the engine run them: each in order, many at the same time.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use statefun_core::Address;
use statefun_embedded::Op;
use statefun_engine::{
    Outcome,
    ports::{InstanceStore, PortError},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::host::Inner;

/// Envelopes of one batch. After a batch the address stands in line again, so that a hot one does not keep others waiting.
const BATCH_ENVELOPES: usize = 256;

/// Bytes of one batch.
const BATCH_BYTES: usize = 1 << 20;

/// Pause of an address whose function the application lacks. It was said at the start; a start with the function ends it.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(3_600);

/// How long the runs of handlers that were given up have to end.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs until the host stops, and then until the running handlers are done or their time is over.
pub(crate) async fn run(inner: Arc<Inner>) {
    let permits = Arc::new(Semaphore::new(inner.options.max_concurrent.max(1)));
    let mut running = JoinSet::new();
    while let Some((address, permit)) = next(&inner, &permits).await {
        running.spawn(batch(inner.clone(), address, permit));
        while running.try_join_next().is_some() {}
    }
    if tokio::time::timeout(inner.options.stop_timeout, all(&mut running)).await.is_err() {
        // Nothing of them was committed: their messages come again at the next start.
        tracing::warn!(handlers = running.len(), "handlers still running are given up");
        inner.engine.cut_short();
        // What is noted of them is taken back, which takes no longer than a write.
        if tokio::time::timeout(CUT_TIMEOUT, all(&mut running)).await.is_err() {
            running.shutdown().await;
        }
    }
}

async fn all(running: &mut JoinSet<()>) {
    while running.join_next().await.is_some() {}
}

/// The next address that may run; `None` once the host stops, or cannot go on.
async fn next(inner: &Inner, permits: &Arc<Semaphore>) -> Option<(Address, OwnedSemaphorePermit)> {
    let next = async {
        let permit = permits.clone().acquire_owned().await.ok()?;
        match inner.store.ready().await {
            Ok(address) => Some((address, permit)),
            Err(error) => {
                inner.fail(&error);
                None
            }
        }
    };
    tokio::select! {
        biased;
        () = inner.stopped() => None,
        next = next => next,
    }
}

async fn batch(inner: Arc<Inner>, address: Address, permit: OwnedSemaphorePermit) {
    // Handlers' panics are the engine's business. A panic of the engine itself must not keep the address for ever.
    let worked = AssertUnwindSafe(work(&inner, &address, permit)).catch_unwind().await;
    let settled = worked.unwrap_or_else(|_| {
        tracing::error!(function = %address.function(), "the engine panicked: please report this");
        inner.store.settle(&address, &[], Some(inner.options.backoff.longest))
    });
    if let Err(error) = settled {
        inner.fail(&error);
    }
}

/// The permit is free as soon as the run only waits for its turn to run alone: others may go on meanwhile.
async fn work(inner: &Inner, address: &Address, permit: OwnedSemaphorePermit) -> Result<Op, PortError> {
    if inner.engine.functions().get(address.function()).is_none() {
        inner.warn_of_unknown(address.function());
        return inner.store.settle(address, &[], Some(UNKNOWN_PAUSE));
    }
    let deliveries = inner.store.receive(address, BATCH_ENVELOPES, BATCH_BYTES)?;
    if deliveries.is_empty() {
        return inner.store.settle(address, &[], None);
    }
    if inner.is_careful() {
        // Were it lost with the process, nobody would know that it was run.
        inner.store.barrier().await?;
    }
    let deadline = inner.clock.moment().plus(inner.options.handler_timeout);
    let outcomes = inner.engine.run(address, &deliveries, deadline, Some(Box::new(permit))).await;
    // Only what comes before the first failure is settled: order is kept.
    let done = outcomes.iter().take_while(|outcome| **outcome == Outcome::Done).count();
    let retry = outcomes.get(done).and_then(|outcome| match outcome {
        Outcome::Retry(pause) => Some(*pause),
        Outcome::Done => None,
    });
    let done: Vec<_> = deliveries[..done].iter().map(|delivered| delivered.seq.seq).collect();
    inner.store.settle(address, &done, retry.filter(|pause| !pause.is_zero()))
}
