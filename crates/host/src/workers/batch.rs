//! A batch of one address on its way, as the threads that poll it and the watchdog know it.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use statefun_core::{Address, Delivered};
use statefun_engine::Watch;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, watch},
};

use super::pool::noting;

/// A batch whose run can be given up.
pub(crate) struct Batch {
    pub(crate) address: Address,
    pub(crate) deliveries: Arc<[Delivered]>,
    pub(crate) watch: Watch,
    /// Its place among those that may run.
    pub(crate) permit: Place,
    running: Mutex<Option<Running>>,
}

/// Counted as running until it is dropped.
pub(crate) struct Running(watch::Sender<usize>);

/// The part that gives runs up.
pub(crate) trait Keeper: Send + Sync {
    /// How long a handler may hold its thread.
    fn handler_timeout(&self) -> Duration;

    /// Gives up a run whose handler holds its thread ([`Watch::held`]), and starts the next. `false` if it has just yielded.
    fn give_up(&self, batch: &Batch, handler: u64) -> bool;

    /// So many threads are held by handlers that were given up.
    fn check_stuck(&self, threads: usize);
}

/// A place among those that may run. It is free when the run or the batch lets go of it: a run that holds its thread for good does not.
#[derive(Debug, Clone)]
pub(crate) struct Place(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Place {
    pub(crate) fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Running {
    pub(crate) fn new(count: &watch::Sender<usize>) -> Self {
        count.send_if_modified(|count| {
            *count += 1;
            false
        });
        Self(count.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_if_modified(|count| {
            *count -= 1;
            *count == 0
        });
    }
}

impl Batch {
    pub(crate) fn new(
        address: Address,
        deliveries: Arc<[Delivered]>,
        running: Running,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Arc<Self> {
        let (permit, running) = (Place(Arc::new(Mutex::new(permit))), Mutex::new(Some(running)));
        Arc::new(Self { address, deliveries, watch: Watch::default(), permit, running })
    }

    /// What the run that takes its place counts as.
    pub(crate) fn take_running(&self) -> Option<Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Polls the run of this batch, on threads that say so; what its handlers start belongs to `handlers`. `None` once it was given up.
    pub(crate) async fn over<T>(self: &Arc<Self>, handlers: &Handle, run: impl Future<Output = T>) -> Option<T> {
        let mut run = pin!(run);
        poll_fn(|context| {
            let polled = noting(self, || {
                let _handlers = handlers.enter();
                run.as_mut().poll(context)
            });
            // Whatever it returns: what it was to do is another's by now.
            if self.watch.is_given_up() {
                return Poll::Ready(None);
            }
            polled.map(Some)
        })
        .await
    }
}
