//! The way out: one pump per egress, which hands its records to a sink in order. A sink that fails holds up its own egress only.

mod failures;
mod file;
mod http;
mod line;
mod notes;
mod resume;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::FileType,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use statefun_core::{
    Answer, EgressRecord, Egresses, Refusals, Refused, RefusedRecord, TypeName, limits::MAX_MESSAGE_BYTES, nearest,
};
use statefun_embedded::{EgressBatch, Embedded};
use statefun_engine::ports::PortError;
use tokio::task::JoinSet;

use crate::{
    error::{HostError, chain},
    host::{Inner, Panicked},
    options::{HostOptions, SinkSpec},
};
pub(crate) use failures::Failures;
use file::FileSink;
use http::HttpSink;

/// Records handed to a sink at a time.
const BATCH_RECORDS: usize = 1_000;

/// While egresses are busy, how long it may take until a further one is noticed.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// How far a sink got with a batch.
struct Written {
    /// Records, from the first on, that need not be given again.
    count: usize,
    /// What to remember in the same step.
    cursor: Option<(String, Vec<u8>)>,
    /// Why it did not get further.
    error: Option<SinkError>,
}

/// Why a sink did not take a record.
#[derive(Debug, thiserror::Error)]
enum SinkError {
    #[error("cannot write {what}")]
    Io { what: String, source: std::io::Error },
    #[error("`{}` is written by another egress or host: each needs a file of its own", .0.display())]
    Shared(PathBuf),
    /// Nobody reads any more, and nobody will.
    #[error("the standard output was closed")]
    Closed,
    #[error("no answer")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("answered with {0}")]
    Status(axum::http::StatusCode),
    #[error(transparent)]
    Store(#[from] PortError),
}

impl SinkError {
    /// What it says of the first record that was not written.
    fn answer(&self) -> Answer {
        match self {
            Self::Status(status) => Answer::of_status(status.as_u16()),
            _ => Answer::Outage,
        }
    }
}

enum Sink {
    Stdout,
    File(FileSink),
    Http(Box<HttpSink>),
}

impl Sink {
    /// The sink of a route.
    fn open(egress: &TypeName, spec: &SinkSpec) -> Result<Self, String> {
        spec.check()?;
        match spec {
            SinkSpec::Stdout => Ok(Self::Stdout),
            SinkSpec::File(path) => match resume::open(path) {
                Ok(Some(file)) => Ok(Self::File(FileSink::new(egress, path.clone(), Some(file)))),
                Ok(None) => Err(SinkError::Shared(path.clone()).to_string()),
                Err(error) => Err(format!("`{}`: {error}", path.display())),
            },
            SinkSpec::Http(url) => HttpSink::new(url).map(|sink| Self::Http(Box::new(sink))).map_err(|error| error.to_string()),
        }
    }

    /// Lets go of a file, so that another host may have it.
    fn close(&mut self) {
        if let Self::File(sink) = self {
            sink.close();
        }
    }

    async fn write(&mut self, store: &Embedded, records: Vec<Arc<EgressRecord>>) -> Written {
        match self {
            Self::Stdout => line::to_stdout(records).await,
            Self::File(sink) => sink.write(store, records).await,
            Self::Http(sink) => sink.write(&records).await,
        }
    }
}

/// The sinks of egresses with a route, until their pumps begin. Files are locked from the start.
pub(crate) struct Routes(Mutex<HashMap<TypeName, Sink>>);

impl Routes {
    /// Opens the sinks.
    ///
    /// # Errors
    /// All that is wrong with any of them: a port that is none, a path that leads to something else than a file, or to one that another
    /// egress or host writes, https without certificates.
    pub(crate) fn open(options: &HostOptions) -> Result<Self, HostError> {
        let (mut sinks, mut problems) = (HashMap::new(), Vec::new());
        for (egress, spec) in &options.egress.named {
            match Sink::open(egress, spec) {
                Ok(sink) => drop(sinks.insert(egress.clone(), sink)),
                Err(problem) => problems.push(format!("the egress {egress} cannot be written: {problem}")),
            }
        }
        if problems.is_empty() { Ok(Self(Mutex::new(sinks))) } else { Err(HostError::Config(problems)) }
    }

    /// Lets go of them: another host may have the files now.
    pub(crate) fn release(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The sink of an egress, for its only pump: of one without a route, a file in the data folder.
    fn take(&self, options: &HostOptions, egress: &TypeName) -> Sink {
        let routed = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(egress);
        routed.unwrap_or_else(|| Sink::File(FileSink::new(egress, default_path(options, egress), None)))
    }
}

/// The egresses that functions may send to, if there is a module: what it declares, with the limits of AWS, and what a route is
/// given for.
pub(crate) fn declared(options: &HostOptions) -> Option<Egresses> {
    let module = options.module.as_ref()?;
    let mut declared: BTreeMap<TypeName, usize> =
        module.egresses.iter().map(|egress| (egress.id.clone(), egress.destination.max_value_bytes())).collect();
    for egress in options.egress.named.keys().filter(|egress| module.egress(egress).is_none()) {
        let nearest = nearest(egress.as_str(), module.egresses.iter().map(|egress| egress.id.as_str()));
        tracing::warn!(%egress, nearest, "the module does not declare this egress: on AWS no function can send to it");
        declared.insert(egress.clone(), MAX_MESSAGE_BYTES);
    }
    Some(Egresses::Declared(declared))
}

/// Where egresses go that have no route of their own, in the data folder.
const FOLDER: &str = "egress";

/// Whether egresses without a route make this in the data folder.
pub(crate) fn makes(within: &Path, kind: FileType) -> bool {
    let parts: Vec<_> = within.iter().collect();
    match parts[..] {
        [folder] | [folder, _] => folder == FOLDER && kind.is_dir(),
        [folder, _, _] => folder == FOLDER && kind.is_file() && within.extension().is_some_and(|ending| ending == "jsonl"),
        _ => false,
    }
}

/// Where an egress goes that has no route of its own.
fn default_path(options: &HostOptions, egress: &TypeName) -> PathBuf {
    options.data.join(FOLDER).join(egress.namespace()).join(format!("{}.jsonl", egress.name()))
}

/// Starts a pump for every egress that has records, until the host stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut idle: HashMap<TypeName, Box<Sink>> = HashMap::new();
    let mut busy: HashSet<TypeName> = HashSet::new();
    let mut pumps = JoinSet::new();
    while let Some(event) = next(&inner, &mut pumps).await {
        match event {
            Event::Ended(egress, sink) => {
                busy.remove(&egress);
                idle.insert(egress, sink);
            }
            Event::Look => {
                for egress in inner.store.egress_lanes() {
                    if busy.insert(egress.clone()) {
                        let sink =
                            idle.remove(&egress).unwrap_or_else(|| Box::new(inner.egress_routes.take(&inner.options, &egress)));
                        pumps.spawn(pump(inner.clone(), egress, sink));
                    }
                }
            }
        }
    }
    while pumps.join_next().await.is_some() {}
}

enum Event {
    /// An egress has no more records.
    Ended(TypeName, Box<Sink>),
    /// There may be egresses with records that nobody pumps.
    Look,
}

/// Waits for something to do; `None` once the host stops.
async fn next(inner: &Inner, pumps: &mut JoinSet<(TypeName, Box<Sink>)>) -> Option<Event> {
    // While some egresses have records the store always says so: the others are then looked for now and then.
    let look = async {
        match pumps.is_empty() {
            true => inner.store.egress_ready().await.map(drop),
            false => {
                tokio::select! {
                    ended = pumps.join_next() => return Ok(ended),
                    () = tokio::time::sleep(LOOK_PAUSE) => Ok(()),
                }
            }
        }
        .map(|()| None)
    };
    let event = tokio::select! {
        biased;
        () = inner.stopped() => return None,
        event = look => event,
    };
    match event {
        Ok(Some(Ok((egress, sink)))) => Some(Event::Ended(egress, sink)),
        Ok(Some(Err(error))) => {
            tracing::error!(%error, "the pump of an egress panicked, its records wait for the next start");
            inner.fail(&Panicked);
            None
        }
        Ok(None) => Some(Event::Look),
        Err(error) => {
            let error: PortError = error;
            inner.fail(&error);
            None
        }
    }
}

/// Hands an egress's records on until there are none, or the host stops.
async fn pump(inner: Arc<Inner>, egress: TypeName, mut sink: Box<Sink>) -> (TypeName, Box<Sink>) {
    let (mut failures, mut refusals) = (0, Refusals::default());
    loop {
        match step(&inner, &egress, &mut sink, &mut refusals).await {
            Ok(0) => break,
            Ok(_) => failures = 0,
            Err(error) => {
                if matches!(error, SinkError::Closed | SinkError::Shared(_) | SinkError::Store(_)) {
                    inner.fail(&error);
                    sink.close();
                    inner.stopped().await;
                    break;
                }
                failures += 1;
                inner.egress_failures.count(&egress, error.answer());
                let pause = inner.options.backoff.after(failures);
                tracing::warn!(%egress, error = chain(&error), ?pause, "an egress failed; its records wait");
                tokio::select! {
                    () = inner.stopped() => break,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
        if inner.is_stopping() {
            break;
        }
    }
    (egress, sink)
}

/// One batch; returns how many records there were.
async fn step(inner: &Inner, egress: &TypeName, sink: &mut Sink, refusals: &mut Refusals) -> Result<usize, SinkError> {
    let EgressBatch { records, op } = inner.store.egress_batch(egress, BATCH_RECORDS)?;
    if records.is_empty() {
        return Ok(0);
    }
    // What the outside sees must not be forgotten here.
    inner.store.durable(op).await?;
    let count = records.len();
    let written = tokio::select! {
        written = sink.write(&inner.store, records) => written,
        // A request that hangs is given up; it is sent again at the next start, under the same key.
        () = given_up(inner) => return Ok(0),
    };
    if written.count > 0 {
        // Only the first that waits is ever refused: it was taken.
        *refusals = Refusals::default();
        inner.store.egress_done(egress, written.count, written.cursor)?;
    }
    match written.error {
        None => Ok(count),
        Some(error) if error.answer() == Answer::Refusal => refused(inner, egress, error, refusals).await,
        Some(error) => Err(error),
    }
}

/// Counts a refusal of the first record. One too many makes it a dead letter: then those behind it go on.
async fn refused(inner: &Inner, egress: &TypeName, error: SinkError, refusals: &mut Refusals) -> Result<usize, SinkError> {
    let Some(record) = inner.store.egress_batch(egress, 1)?.records.pop() else { return Ok(0) };
    let Refused::GiveUp(attempts) = refusals.refused(record.id) else { return Err(error) };
    inner.egress_failures.count(egress, Answer::Refusal);
    tracing::warn!(%egress, error = chain(&error), attempts, "a record is refused: it becomes a dead letter");
    inner.store.egress_refused(&RefusedRecord::new((*record).clone(), chain(&error), attempts, inner.clock.now())).await?;
    refusals.forget(record.id);
    Ok(1)
}

/// Returns when the host has been stopping for as long as it may.
async fn given_up(inner: &Inner) {
    inner.stopped().await;
    tokio::time::sleep(inner.options.stop_timeout).await;
}
