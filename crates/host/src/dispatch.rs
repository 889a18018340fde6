//! Takes addresses that have something to do and lets the engine run them: each in order, many at the same time.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::FutureExt;
use statefun_core::{Address, Delivered};
use statefun_engine::{
    Lost, Outcome, Permit,
    ports::{InstanceStore, PortError},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

use crate::{
    host::Inner,
    workers::{Batch, Keeper, Pool, Running},
};

/// Envelopes of one batch. After a batch the address stands in line again, so that a hot one does not keep others waiting.
const BATCH_ENVELOPES: usize = 256;

/// Bytes of one batch.
const BATCH_BYTES: usize = 1 << 20;

/// Pause of an address whose function the application lacks. It was said at the start; a start with the function ends it.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(3_600);

/// How long the runs of handlers that were given up have to end.
const CUT_TIMEOUT: Duration = Duration::from_millis(200);

/// Runs functions on the threads that are for that.
pub(crate) struct Dispatch {
    inner: Arc<Inner>,
    pool: Pool,
    /// What handlers start belongs to it.
    handlers: Handle,
    running: watch::Sender<usize>,
    own: Weak<Self>,
}

impl Dispatch {
    pub(crate) fn new(inner: Arc<Inner>, pool: Pool, handlers: Handle) -> Arc<Self> {
        Arc::new_cyclic(|own| Self { inner, pool, handlers, running: watch::Sender::new(0), own: own.clone() })
    }

    /// Runs until the host stops, and then until the running handlers are done or their time is over.
    pub(crate) async fn run(&self) {
        let permits = Arc::new(Semaphore::new(self.inner.options.max_concurrent.max(1)));
        while let Some((address, permit)) = self.next(&permits).await {
            self.start(address, Some(permit), Running::new(&self.running), None);
        }
        if self.all_ended(self.inner.options.stop_timeout).await {
            return;
        }
        // Nothing of them was committed: their messages come again at the next start.
        tracing::warn!(handlers = *self.running.borrow(), "handlers still running are given up");
        self.inner.engine.cut_short();
        // What is noted of them is taken back, which takes no longer than a write.
        if !self.all_ended(CUT_TIMEOUT).await {
            for batch in self.pool.slots().iter().filter_map(|slot| slot.batch()) {
                batch.watch.held().and_then(|handler| self.inner.engine.give_up(&batch.watch, handler));
            }
        }
    }

    async fn all_ended(&self, within: Duration) -> bool {
        let mut running = self.running.subscribe();
        tokio::time::timeout(within, running.wait_for(|count| *count == 0)).await.is_ok()
    }

    /// The next address that may run; `None` once the host stops, or cannot go on.
    async fn next(&self, permits: &Arc<Semaphore>) -> Option<(Address, OwnedSemaphorePermit)> {
        let next = async {
            let permit = permits.clone().acquire_owned().await.ok()?;
            match self.inner.store.ready().await {
                Ok(address) => Some((address, permit)),
                Err(error) => {
                    self.inner.fail(&error);
                    None
                }
            }
        };
        tokio::select! {
            biased;
            () = self.inner.stopped() => None,
            next = next => next,
        }
    }

    fn start(&self, address: Address, permit: Option<OwnedSemaphorePermit>, running: Running, again: Option<Again>) {
        // Whoever calls this has it.
        let Some(dispatch) = self.own.upgrade() else { return };
        self.pool.spawn(Box::pin(async move { dispatch.batch(address, permit, running, again).await }));
    }

    async fn batch(&self, address: Address, permit: Option<OwnedSemaphorePermit>, running: Running, again: Option<Again>) {
        // Handlers' panics are the engine's business. A panic of the engine itself must not keep the address for ever.
        let worked = AssertUnwindSafe(self.work(&address, permit, running, again)).catch_unwind().await;
        let settled = worked.unwrap_or_else(|_| {
            tracing::error!(function = %address.function(), "the engine panicked: please report this");
            self.inner.store.settle(&address, &[], Some(self.inner.options.backoff.longest)).map(drop)
        });
        if let Err(error) = settled {
            self.inner.fail(&error);
        }
    }

    /// The permit is free as soon as the run only waits for its turn to run alone: others may go on meanwhile.
    async fn work(
        &self,
        address: &Address,
        permit: Option<OwnedSemaphorePermit>,
        running: Running,
        again: Option<Again>,
    ) -> Result<(), PortError> {
        let inner = &self.inner;
        let settle = |done: &[u128], retry| inner.store.settle(address, done, retry).map(drop);
        if inner.engine.functions().get(address.function()).is_none() {
            inner.warn_of_unknown(address.function());
            return settle(&[], Some(UNKNOWN_PAUSE));
        }
        let (deliveries, lost) = match again {
            Some(Again { deliveries, lost }) => (deliveries, Some(lost)),
            None => (inner.store.receive(address, BATCH_ENVELOPES, BATCH_BYTES)?.into(), None),
        };
        if deliveries.is_empty() {
            return settle(&[], None);
        }
        if inner.is_careful() {
            // Were it lost with the process, nobody would know that it was run.
            inner.store.barrier().await?;
        }
        let deadline = inner.clock.moment().plus(inner.options.handler_timeout);
        let batch = Batch::new(address.clone(), deliveries, running, permit);
        let permit: Permit = Some(Box::new(batch.permit.clone()));
        // In a box: it is big, and moved on the way.
        let run = Box::pin(inner.engine.run_watched(address, batch.deliveries.clone(), deadline, permit, &batch.watch, lost));
        // One that was given up is settled by the run that took its place, even if it panics by then.
        let outcomes = match AssertUnwindSafe(batch.over(&self.handlers, run)).catch_unwind().await {
            Ok(Some(outcomes)) => outcomes,
            Err(panic) if !batch.watch.is_given_up() => std::panic::resume_unwind(panic),
            Ok(None) | Err(_) => return Ok(()),
        };
        // Only what comes before the first failure is settled: order is kept.
        let done = outcomes.iter().take_while(|outcome| **outcome == Outcome::Done).count();
        let retry = outcomes.get(done).and_then(|outcome| match outcome {
            Outcome::Retry(pause) => Some(*pause),
            Outcome::Done => None,
        });
        let done: Vec<_> = batch.deliveries[..done].iter().map(|delivered| delivered.seq.seq).collect();
        settle(&done, retry.filter(|pause| !pause.is_zero()))
    }
}

/// Too many handlers were given up.
#[derive(Debug, thiserror::Error)]
#[error("{threads} threads are held by handlers that did not return within their time: fix their functions, which the log names")]
struct Stuck {
    threads: usize,
}

/// A batch that runs again since a handler of its first run did not return.
struct Again {
    deliveries: Arc<[Delivered]>,
    lost: Lost,
}

impl Keeper for Dispatch {
    fn handler_timeout(&self) -> Duration {
        self.inner.options.handler_timeout
    }

    fn give_up(&self, batch: &Batch, handler: u64) -> bool {
        let Some(lost) = self.inner.engine.give_up(&batch.watch, handler) else { return false };
        let function = batch.address.function();
        tracing::warn!(%function, "a handler did not return or yield within its time: its run is given up, its thread is left to it");
        if let Some(running) = batch.take_running() {
            let again = Again { deliveries: batch.deliveries.clone(), lost };
            self.start(batch.address.clone(), batch.permit.take(), running, Some(again));
        }
        true
    }

    fn check_stuck(&self, threads: usize) {
        let most = self.inner.options.max_stuck_threads;
        if threads > most {
            self.inner.fail(&Stuck { threads });
        }
    }
}
