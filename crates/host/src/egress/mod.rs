//! The way out: one pump per egress, which hands its records to a sink in order. A sink that fails holds up its own egress only.

mod file;
mod http;
mod line;
mod notes;
mod resume;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{File, FileType},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use statefun_core::{EgressRecord, Egresses, TypeName, limits::MAX_MESSAGE_BYTES, nearest};
use statefun_embedded::{EgressBatch, Embedded};
use statefun_engine::ports::PortError;
use tokio::task::JoinSet;

use crate::{
    error::{HostError, chain},
    host::{Inner, Panicked},
    options::{HostOptions, SinkSpec},
};
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

enum Sink {
    Stdout,
    File(FileSink),
    Http(Box<HttpSink>),
}

impl Sink {
    fn new(inner: &Inner, egress: &TypeName) -> Self {
        let options = &inner.options;
        match options.egress.named.get(egress) {
            Some(SinkSpec::Stdout) => Self::Stdout,
            Some(SinkSpec::File(path)) => Self::File(FileSink::new(egress, path.clone(), inner.egress_files.take(egress))),
            Some(SinkSpec::Http(url)) => Self::Http(Box::new(HttpSink::new(url.clone()))),
            None => Self::File(FileSink::new(egress, default_path(options, egress), None)),
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

/// The files of egresses with a route of their own, locked from the start.
#[derive(Debug, Default)]
pub(crate) struct Files(Mutex<HashMap<TypeName, File>>);

impl Files {
    /// Locks the files. What else may be wrong with one shows when there are records for it.
    ///
    /// # Errors
    /// If another egress or host has one of them.
    pub(crate) fn lock(options: &HostOptions) -> Result<Self, HostError> {
        let mut files = HashMap::new();
        for (egress, sink) in &options.egress.named {
            let SinkSpec::File(path) = sink else { continue };
            match resume::open(path) {
                Ok(Some(file)) => {
                    files.insert(egress.clone(), file);
                }
                Ok(None) => {
                    let shared = SinkError::Shared(path.clone());
                    return Err(HostError::Config(vec![format!("the egress {egress} cannot be written: {shared}")]));
                }
                Err(error) => tracing::warn!(%egress, file = %path.display(), %error, "an egress's file cannot be opened"),
            }
        }
        Ok(Self(Mutex::new(files)))
    }

    /// Lets go of them: another host may have them now.
    pub(crate) fn release(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn take(&self, egress: &TypeName) -> Option<File> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(egress)
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
                        let sink = idle.remove(&egress).unwrap_or_else(|| Box::new(Sink::new(&inner, &egress)));
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
    let mut failures = 0;
    loop {
        match step(&inner, &egress, &mut sink).await {
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
async fn step(inner: &Inner, egress: &TypeName, sink: &mut Sink) -> Result<usize, SinkError> {
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
        inner.store.egress_done(egress, written.count, written.cursor)?;
    }
    written.error.map_or(Ok(count), Err)
}

/// Returns when the host has been stopping for as long as it may.
async fn given_up(inner: &Inner) {
    inner.stopped().await;
    tokio::time::sleep(inner.options.stop_timeout).await;
}
