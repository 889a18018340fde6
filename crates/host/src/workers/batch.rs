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
use tokio::{runtime::Handle, sync::watch};

use super::pool::noting;

/// A batch whose run can be given up.
pub(crate) struct Batch {
    pub(crate) address: Address,
    pub(crate) deliveries: Vec<Delivered>,
    pub(crate) watch: Watch,
    running: Mutex<Option<Running>>,
}

/// Counted as running until it is dropped.
pub(crate) struct Running(watch::Sender<usize>);

/// Who gives runs up.
pub(crate) trait Keeper: Send + Sync {
    /// How long a handler may hold its thread.
    fn handler_timeout(&self) -> Duration;

    /// Gives up a run whose handler holds its thread, and starts the next. `false` if the handler has just yielded.
    fn give_up(&self, batch: &Batch) -> bool;

    /// So many threads are held by handlers that were given up.
    fn check_stuck(&self, threads: usize);
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
    pub(crate) fn new(address: Address, deliveries: Vec<Delivered>, running: Running) -> Arc<Self> {
        let running = Mutex::new(Some(running));
        Arc::new(Self { address, deliveries, watch: Watch::default(), running })
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
            match polled {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending if self.watch.is_given_up() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}
