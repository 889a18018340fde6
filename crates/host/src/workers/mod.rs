//! What a host runs on. Functions have threads and a runtime of their own, which they may hold up. Everything else, such as HTTP, egresses
//! and the stop, has another runtime, which they cannot.

mod batch;
mod pool;
mod watchdog;

use std::{
    io,
    sync::{Mutex, PoisonError, Weak},
    thread::available_parallelism,
};

use tokio::runtime::{Builder, Handle, Runtime};

pub(crate) use batch::{Batch, Keeper, Running};
pub(crate) use pool::Pool;
use watchdog::Watchdog;

/// Dropped, it ends all that runs here, without waiting for it: a thread that is held may stay held for ever.
pub(crate) struct Workers {
    pool: Pool,
    io: Option<Runtime>,
    handlers: Option<Runtime>,
    watchdog: Mutex<Option<Watchdog>>,
}

impl Workers {
    pub(crate) fn new() -> io::Result<Self> {
        let cores = available_parallelism().map_or(1, usize::from);
        let io = runtime("statefun-io", cores)?;
        let handlers = runtime("statefun-async", cores)?;
        let pool = Pool::new(cores, io.handle().clone())?;
        Ok(Self { pool, io: Some(io), handlers: Some(handlers), watchdog: Mutex::default() })
    }

    /// Where functions run.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Where everything else runs.
    pub(crate) fn io(&self) -> &Handle {
        handle(&self.io)
    }

    /// What the timers, sockets and tasks of handlers belong to.
    pub(crate) fn handlers(&self) -> &Handle {
        handle(&self.handlers)
    }

    /// Looks after handlers that hold their threads.
    pub(crate) fn watch(&self, keeper: Weak<dyn Keeper>) -> io::Result<()> {
        let watchdog = Watchdog::start(self.pool.clone(), keeper)?;
        *self.watchdog.lock().unwrap_or_else(PoisonError::into_inner) = Some(watchdog);
        Ok(())
    }
}

fn runtime(name: &str, threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(threads).thread_name(name).enable_all().build()
}

#[expect(clippy::expect_used, reason = "it is gone only while it is dropped")]
fn handle(runtime: &Option<Runtime>) -> &Handle {
    runtime.as_ref().expect("a runtime lives as long as its owner").handle()
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.pool.close();
        for runtime in [self.io.take(), self.handlers.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}
