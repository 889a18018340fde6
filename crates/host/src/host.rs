//! The host: one application in one process, over one folder.

use std::{
    collections::BTreeSet,
    fmt,
    fs::FileType,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use statefun_core::{Rules, Targets, TypeName};
use statefun_embedded::{Embedded, Options, SystemClock};
use statefun_engine::{
    Config, Engine, Functions, Ports,
    metrics::Metrics,
    ports::{Clock, Moment},
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{
    background, dispatch, egress,
    error::{HostError, InputError, chain},
    feed::Feeds,
    http,
    input::{self, FileIngress, FileReport},
    options::HostOptions,
};

/// How long after a crash messages are run only once they are durable. A message that ends the process at once would else take
/// itself along: its row would be read again, its timer would fire again, its sender would run again, each time for the first time,
/// for ever. What makes it come again is there at the start, so that minutes are enough.
const CAREFUL: Duration = Duration::from_secs(600);

/// What all parts of a host share.
pub(crate) struct Inner {
    pub(crate) store: Embedded,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) engine: Engine,
    pub(crate) options: HostOptions,
    pub(crate) requests: http::Requests,
    pub(crate) feeds: Arc<Feeds>,
    pub(crate) egress_files: egress::Files,
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
}

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// A local host. Cheap to clone; all clones are one host. When the last one is dropped without [`shutdown`](Self::shutdown), the
/// host ends as after a crash: nothing is lost, and what was running runs again at the next start.
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
        let egress_files = egress::Files::lock(&options)?;
        http::note_address(&options.data, None);
        let config = Config {
            rules: Arc::new(rules),
            // A commit takes microseconds here: handlers may use all of their time.
            reserve: Duration::ZERO,
            backoff: options.backoff,
            ..Config::default()
        };
        let engine = Engine::new(functions, ports(&store, &clock), config);
        let stop = watch::Sender::new(false);
        let tasks = Arc::new(Tasks { stop: stop.clone(), set: Mutex::default() });
        let unknown = Mutex::default();
        let feeds = Feeds::new(options.module.clone());
        let careful_until = store.follows_a_crash().then(|| clock.moment().plus(CAREFUL));
        let inner = Inner {
            careful_until,
            store,
            clock,
            feeds,
            egress_files,
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

    /// Starts to run functions, timers and egresses, as tasks of the current tokio runtime. Call it once.
    pub fn start(&self) {
        self.tasks.spawn(dispatch::run(self.inner.clone()));
        self.tasks.spawn(background::timers(self.inner.clone()));
        self.tasks.spawn(background::sweeper(self.inner.clone()));
        self.tasks.spawn(egress::run(self.inner.clone()));
    }

    /// Serves the HTTP ingress until the host stops.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(&self, listener: TcpListener) -> Result<(), HostError> {
        http::serve(self.inner.clone(), listener).await
    }

    /// Reads an input to its end, or until the host stops. A file goes on where it was left by an earlier run.
    ///
    /// # Errors
    /// [`InputError`] if it cannot be read. Single bad rows go to the dead letters.
    pub async fn run_file(&self, input: FileIngress) -> Result<FileReport, InputError> {
        input::run(&self.inner, input).await
    }

    /// Returns once nothing waits or runs, egress included. Delayed messages that are not yet due do not count.
    ///
    /// # Errors
    /// If the store failed.
    pub async fn idle(&self) -> Result<(), HostError> {
        Ok(self.inner.store.idle().await?)
    }

    /// Returns what keeps the host from going on, when that happens.
    pub async fn failed(&self) -> HostError {
        let mut failure = self.inner.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => HostError::Stopped(reason.clone().unwrap_or_default()),
            // The sender lives as long as `self`.
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops: ingress first, then running handlers are awaited (up to `stop_timeout`), then everything is flushed and the folder
    /// closed.
    ///
    /// # Errors
    /// If the last flush fails. What was acknowledged to others is durable all the same.
    pub async fn shutdown(self) -> Result<(), HostError> {
        self.inner.stop.send_replace(true);
        let mut ingresses = self.inner.ingresses.subscribe();
        let _ = tokio::time::timeout(self.inner.options.stop_timeout, ingresses.wait_for(|count| *count == 0)).await;
        let mut set = std::mem::take(&mut *self.tasks.set.lock().unwrap_or_else(PoisonError::into_inner));
        while set.join_next().await.is_some() {}
        self.inner.egress_files.release();
        self.inner.store.clone().close().await?;
        Ok(())
    }

    /// What the engine counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        self.inner.engine.metrics()
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

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

fn ports(store: &Embedded, clock: &Arc<dyn Clock>) -> Ports {
    Ports {
        store: Arc::new(store.clone()),
        queue: Arc::new(store.clone()),
        timers: Arc::new(store.clone()),
        egress: Arc::new(store.clone()),
        dead_letters: Arc::new(store.clone()),
        clock: clock.clone(),
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("data", &self.inner.options.data).finish_non_exhaustive()
    }
}
