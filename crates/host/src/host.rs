//! The host: one application in one process, over one folder.

use std::{
    collections::BTreeSet,
    fmt,
    fs::FileType,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::FutureExt;
use statefun_core::{Rules, Targets, TypeName};
use statefun_embedded::{Embedded, Options, SystemClock};
use statefun_engine::{
    CacheUse, Config, Engine, Functions, Ports,
    metrics::Metrics,
    ports::{Clock, Moment},
};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::timeout_at,
};

use crate::{
    background,
    clock::EngineClock,
    dispatch::Dispatch,
    egress,
    error::{HostError, InputError, chain},
    feed::Feeds,
    http,
    input::{self, FileIngress, FileReport},
    options::HostOptions,
    survey,
    workers::{Keeper, Workers},
};

/// How long after a crash messages are run only once they are durable. A message that ends the process at once would else take
/// itself along: its row would be read again, its timer would fire again, its sender would run again, each time for the first time,
/// for ever. What makes it come again is there at the start, so that minutes are enough.
const CAREFUL: Duration = Duration::from_secs(600);

/// Of the second that a stop may take beyond `stop_timeout`: when tasks that did not end are given up, and when the folder is.
const TASKS_TIMEOUT: Duration = Duration::from_millis(300);
const CLOSE_TIMEOUT: Duration = Duration::from_millis(900);

/// A part of the host is gone.
#[derive(Debug, thiserror::Error)]
#[error("a part of the host panicked: please report this")]
pub(crate) struct Panicked;

/// What all parts of a host share.
pub(crate) struct Inner {
    pub(crate) store: Embedded,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) engine: Engine,
    pub(crate) options: HostOptions,
    pub(crate) requests: http::Requests,
    pub(crate) feeds: Arc<Feeds>,
    pub(crate) egress_routes: egress::Routes,
    pub(crate) egress_failures: egress::Failures,
    /// After a crash: until then a message is run only once it is durable.
    careful_until: Option<Moment>,
    /// Functions that the application lacks and messages wait for.
    unknown: Mutex<BTreeSet<TypeName>>,
    stop: watch::Sender<bool>,
    failure: watch::Sender<Option<String>>,
    /// Servers and inputs at work.
    ingresses: watch::Sender<usize>,
}

/// A server or an input at work.
pub(crate) struct Busy<'a>(&'a Inner);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.ingresses.send_modify(|count| *count -= 1);
    }
}

impl Inner {
    /// Keeps a stop waiting until the guard is dropped.
    pub(crate) fn busy(&self) -> Busy<'_> {
        self.ingresses.send_modify(|count| *count += 1);
        Busy(self)
    }

    /// Returns once the host is to stop.
    pub(crate) async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Returns what keeps the host from going on, when that happens.
    pub(crate) async fn failed(&self) -> HostError {
        let mut failure = self.failure.subscribe();
        let reason = failure.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => HostError::Stopped(reason),
            // The sender lives as long as `self`.
            None => std::future::pending().await,
        }
    }

    /// Returns once the host is to stop, or cannot go on.
    pub(crate) async fn ends(&self) {
        tokio::select! {
            () = self.stopped() => {}
            _ = self.failed() => {}
        }
    }

    /// Whether the host is to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Whether the process may die soon of what the one before it died of.
    pub(crate) fn is_careful(&self) -> bool {
        self.careful_until.is_some_and(|until| self.clock.moment() < until)
    }

    /// Says once that messages wait for a function that the application lacks.
    pub(crate) fn warn_of_unknown(&self, function: &TypeName) {
        if self.unknown.lock().unwrap_or_else(PoisonError::into_inner).insert(function.clone()) {
            tracing::warn!(%function, "messages wait for a function that this application lacks; they are kept until one with it is started");
        }
    }

    /// Notes that the host cannot go on.
    pub(crate) fn fail(&self, error: &dyn std::error::Error) {
        let reason = chain(error);
        let first = self.failure.send_if_modified(|failure| match failure {
            None => {
                *failure = Some(reason.clone());
                true
            }
            Some(_) => false,
        });
        if first {
            tracing::error!(reason, "the host cannot go on");
        }
    }
}

/// Ends the tasks of a host when its last handle is gone, as a crash would.
struct Tasks {
    stop: watch::Sender<bool>,
    set: Mutex<JoinSet<()>>,
    workers: Workers,
}

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).spawn_on(task, self.workers.io());
    }
}

/// Ends a task when nobody waits for it any more.
struct AbortOnDrop<T>(Option<JoinHandle<T>>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// A local host. Cheap to clone; all clones are one host. When the last one is dropped without [`shutdown`](Self::shutdown), the
/// host ends as after a crash: nothing is lost, and what was running runs again at the next start. Its threads end in the background, and
/// the folder is free after them: until then another host finds it locked.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
    tasks: Arc<Tasks>,
}

/// Deletes what hosts have made in a data folder: state, dead letters and the files of egresses without a route. What is there of
/// others keeps it from being deleted at all. A folder that is not there is no error.
///
/// # Errors
/// If another process has the folder, it is not a data folder, or something else is in it; or if it cannot be deleted.
pub fn erase(data: &Path) -> Result<(), HostError> {
    let owned = |within: &Path, kind: FileType| {
        egress::makes(within, kind) || (within == Path::new(http::ADDRESS_FILE) && kind.is_file())
    };
    Ok(statefun_embedded::erase(data, &owned)?)
}

impl Host {
    /// Opens the data folder (and makes it, if there is none) for an application of these functions. Nothing runs before
    /// [`start`](Self::start).
    ///
    /// # Errors
    /// If the folder cannot be opened: another process has it, it is of a newer version, it is damaged, or it is not a data folder.
    /// Or if an egress can never work.
    pub fn open(functions: Functions, rules: Rules, options: HostOptions) -> Result<Self, HostError> {
        Self::open_with_clock(functions, rules, options, Arc::new(SystemClock))
    }

    /// [`open`](Self::open) with other clocks than the machine's, for tests: by its wall clock messages are dated, kept and delayed;
    /// by its moments handlers have their time and addresses pause.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with_clock(
        functions: Functions,
        rules: Rules,
        options: HostOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HostError> {
        let known: BTreeSet<TypeName> = functions.iter().map(|function| function.spec.name.clone()).collect();
        let egresses = egress::declared(&options).unwrap_or_else(|| rules.egresses.clone());
        let rules = Rules { targets: Targets::Known(known), egresses, ..rules };
        let settings = Options {
            linger: options.linger,
            retention: rules.protocol.horizon,
            dedup_window: rules.protocol.dedup_window,
            ..Options::default()
        };
        let store = Embedded::open(&options.data, settings, clock.clone())?;
        let egress_routes = egress::Routes::open(&options)?;
        http::note_address(&options.data, None);
        let config = Config {
            rules: Arc::new(rules),
            // A commit takes microseconds here: handlers may use all of their time.
            reserve: Duration::ZERO,
            // Nobody else writes, or would have to wait.
            cache: CacheUse::Always,
            lease_after: Duration::from_secs(10 * 365 * 86_400),
            backoff: options.backoff,
            ..Config::default()
        };
        let workers = Workers::new().map_err(|source| HostError::Io { what: "cannot start threads".to_owned(), source })?;
        let engine = Engine::new(functions, ports(&store, clock.clone(), &workers), config);
        let stop = watch::Sender::new(false);
        let tasks = Arc::new(Tasks { stop: stop.clone(), set: Mutex::default(), workers });
        let unknown = Mutex::default();
        let feeds = Feeds::new(options.module.clone());
        let careful_until = store.follows_a_crash().then(|| clock.moment().plus(CAREFUL));
        let inner = Inner {
            careful_until,
            store,
            clock,
            feeds,
            egress_routes,
            egress_failures: egress::Failures::default(),
            engine,
            options,
            requests: http::Requests::default(),
            unknown,
            stop,
            failure: watch::Sender::new(None),
            ingresses: watch::Sender::new(0),
        };
        Ok(Self { inner: Arc::new(inner), tasks })
    }

    /// Starts to run functions, timers and egresses, on threads of the host's own: neither they nor the runtime of the caller hold up
    /// each other. Call it once.
    pub fn start(&self) {
        self.start_functions();
        self.spawn(background::timers(self.inner.clone()));
        self.spawn(background::sweeper(self.inner.clone()));
        self.spawn(egress::run(self.inner.clone()));
        self.spawn(survey::run(self.inner.clone()));
    }

    /// Without this task the host cannot go on.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let inner = self.inner.clone();
        self.tasks.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                inner.fail(&Panicked);
            }
        });
    }

    fn start_functions(&self) {
        let workers = &self.tasks.workers;
        let dispatch = Dispatch::new(self.inner.clone(), workers.pool().clone(), workers.handlers().clone());
        let keeper: Weak<dyn Keeper> = Arc::<Dispatch>::downgrade(&dispatch);
        if let Err(source) = workers.watch(keeper) {
            self.inner.fail(&HostError::Io { what: "cannot start threads".to_owned(), source });
        }
        let (running, ended) = oneshot::channel::<()>();
        workers.pool().spawn(Box::pin(async move {
            dispatch.run().await;
            let _ = running.send(());
        }));
        // A stop waits for it as for the others.
        let inner = self.inner.clone();
        self.tasks.spawn(async move {
            if ended.await.is_err() {
                inner.fail(&Panicked);
            }
        });
    }

    /// Serves the HTTP ingress until the host stops.
    ///
    /// # Errors
    /// If the listener fails, or the host cannot go on. Requests on their way are then answered until [`shutdown`](Self::shutdown).
    pub async fn serve(&self, listener: TcpListener) -> Result<(), HostError> {
        let failed = |source| HostError::Io { what: "the HTTP ingress failed".to_owned(), source };
        // From now on its connections belong to the host's own runtime.
        let listener = listener.into_std().map_err(failed)?;
        let inner = self.inner.clone();
        let serving = async move { http::serve(inner, TcpListener::from_std(listener).map_err(failed)?).await };
        let mut serving = AbortOnDrop(Some(self.tasks.workers.io().spawn(serving)));
        let served = async { serving.0.as_mut()?.await.ok() };
        tokio::select! {
            served = served => served.unwrap_or_else(|| Err(HostError::Stopped(Panicked.to_string()))),
            error = self.failed() => {
                serving.0.take();
                Err(error)
            }
        }
    }

    /// Reads an input to its end, or until the host stops or cannot go on. A file goes on where it was left by an earlier run.
    ///
    /// # Errors
    /// [`InputError`] if it cannot be read. Single bad rows go to the dead letters.
    pub async fn run_file(&self, input: FileIngress) -> Result<FileReport, InputError> {
        input::run(&self.inner, input).await
    }

    /// Returns once nothing waits or runs, egress included. Delayed messages that are not yet due do not count.
    ///
    /// # Errors
    /// If the host cannot go on.
    pub async fn idle(&self) -> Result<(), HostError> {
        tokio::select! {
            biased;
            idle = self.inner.store.idle() => Ok(idle?),
            error = self.failed() => Err(error),
        }
    }

    /// Returns what keeps the host from going on, when that happens.
    pub async fn failed(&self) -> HostError {
        self.inner.failed().await
    }

    /// Stops: ingress first, then running handlers are awaited (up to `stop_timeout`), then everything is flushed and the folder
    /// closed. Returns within `stop_timeout` and a second, whatever hangs; a handler that holds its thread keeps it, and commits nothing.
    ///
    /// # Errors
    /// If the last flush fails, or does not end in time. What was acknowledged to others is durable all the same.
    pub async fn shutdown(self) -> Result<(), HostError> {
        self.inner.stop.send_replace(true);
        let until = tokio::time::Instant::now() + self.inner.options.stop_timeout;
        let mut ingresses = self.inner.ingresses.subscribe();
        let _ = timeout_at(until, ingresses.wait_for(|count| *count == 0)).await;
        let mut set = std::mem::take(&mut *self.tasks.set.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async { while set.join_next().await.is_some() {} };
        if timeout_at(until + TASKS_TIMEOUT, ended).await.is_err() {
            tracing::warn!("egresses still at work are given up");
            set.abort_all();
        }
        self.inner.egress_routes.release();
        self.tasks.workers.pool().close();
        let store = self.inner.store.clone();
        if let Ok(closed) = timeout_at(until + CLOSE_TIMEOUT, store.clone().close()).await {
            return Ok(closed?);
        }
        // The last owner would wait for the disk.
        std::mem::forget(store);
        Err(HostError::Stopped("the data folder does not take the last changes in time".to_owned()))
    }

    /// What the engine counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        self.inner.engine.metrics()
    }

    /// The names of its functions, sorted.
    #[must_use]
    pub fn functions(&self) -> Vec<String> {
        let mut names: Vec<_> = self.inner.engine.functions().iter().map(|known| known.spec.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> &PathBuf {
        &self.inner.options.data
    }

    /// The store beneath, to look at state and dead letters. What it shows may not be durable yet: before it leaves the process,
    /// wait with [`Embedded::durable`].
    #[must_use]
    pub fn store(&self) -> &Embedded {
        &self.inner.store
    }

    /// A runtime that handlers cannot hold up.
    pub(crate) fn io(&self) -> &Handle {
        self.tasks.workers.io()
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

fn ports(store: &Embedded, clock: Arc<dyn Clock>, workers: &Workers) -> Ports {
    Ports {
        store: Arc::new(store.clone()),
        queue: Arc::new(store.clone()),
        timers: Arc::new(store.clone()),
        egress: Arc::new(store.clone()),
        dead_letters: Arc::new(store.clone()),
        clock: Arc::new(EngineClock { clock, timers: workers.io().clone() }),
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("data", &self.inner.options.data).finish_non_exhaustive()
    }
}
