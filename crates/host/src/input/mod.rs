//! Inputs: rows of a file or of the standard input become messages.
//!
//! A file is read exactly once, over restarts too: how far it was read is written in the same atomic step as the messages. The
//! standard input cannot be read twice: a line counts exactly once from the moment it was taken in, and not at all before.
//! A row that cannot be read goes to the dead letters and holds nothing up.

mod batch;
mod cursor;
pub mod fuzzing;
mod header;
mod intake;
mod json;
mod mapping;
mod open;
mod row;
mod split;

use std::{
    fmt,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use tokio::sync::mpsc;

use crate::{error::InputError, host::Inner};
use batch::Reading;
use header::Needs;
use intake::Intake;
pub use mapping::Mapping;
use open::{Opened, open_file, open_stream};
pub use row::Row;
use row::RowReader;
pub use split::Format;

/// Batches that are read ahead.
const BATCHES_AHEAD: usize = 2;

type Progress = dyn Fn(&FileProgress) + Send + Sync;

/// An input and what becomes of its rows.
pub struct FileIngress {
    source: Source,
    format: Option<Format>,
    mapping: Mapping,
    follow: bool,
    progress: Option<Arc<Progress>>,
}

enum Source {
    Path(PathBuf),
    Stream { name: String, reader: Box<dyn Read + Send> },
}

/// How far an input was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileProgress {
    /// Bytes read, those of earlier runs included.
    pub bytes: u64,
    /// The file's size.
    pub total: Option<u64>,
    /// Rows taken, rejected ones and those of earlier runs included.
    pub rows: u64,
    /// Rows sent to the dead letters, those of earlier runs included.
    pub rejected: u64,
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileReport {
    /// Rows taken in this run, rejected ones included.
    pub rows: u64,
    /// Rows sent to the dead letters in this run.
    pub rejected: u64,
    /// The line at which an earlier run had left the file.
    pub resumed_at: Option<u64>,
    /// The host stopped before the end.
    pub interrupted: bool,
}

impl FileIngress {
    /// A file. Its ending says what it is (`.csv`, `.jsonl`, `.ndjson`), or [`with_format`](Self::with_format).
    pub fn path(path: impl Into<PathBuf>, mapping: Mapping) -> Self {
        Self { source: Source::Path(path.into()), format: None, mapping, follow: false, progress: None }
    }

    /// The standard input: lines of JSON, if [`with_format`](Self::with_format) says nothing else.
    #[must_use]
    pub fn stdin(mapping: Mapping) -> Self {
        Self::stream("stdin", io::stdin(), mapping)
    }

    /// Anything else that can be read once.
    pub fn stream(name: impl Into<String>, reader: impl Read + Send + 'static, mapping: Mapping) -> Self {
        let source = Source::Stream { name: name.into(), reader: Box::new(reader) };
        Self { source, format: Some(Format::JsonLines), mapping, follow: false, progress: None }
    }

    /// How the input is written.
    #[must_use]
    pub fn with_format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// For a file that others write: reads what is added until the host stops. A last line without its end waits for the rest of it;
    /// without this, the end of the file completes it.
    #[must_use]
    pub fn follow(mut self) -> Self {
        self.follow = true;
        self
    }

    /// Calls `progress` after every step.
    #[must_use]
    pub fn on_progress(mut self, progress: impl Fn(&FileProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }
}

impl fmt::Debug for FileIngress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.source {
            Source::Path(path) => path.display().to_string(),
            Source::Stream { name, .. } => name.clone(),
        };
        f.debug_struct("FileIngress")
            .field("source", &name)
            .field("format", &self.format)
            .field("mapping", &self.mapping)
            .finish()
    }
}

pub(crate) async fn run(inner: &Inner, input: FileIngress) -> Result<FileReport, InputError> {
    let _busy = inner.busy();
    let FileIngress { source, format, mapping, follow, progress } = input;
    let resolved = mapping.resolve(inner.engine.functions(), &inner.feeds)?;
    let needs = Needs::of(&mapping, &resolved);
    let opened = match source {
        Source::Path(path) => open_file(inner, &path, format, &needs, follow)?,
        Source::Stream { name, reader } => open_stream(name, reader, format.unwrap_or(Format::JsonLines))?,
    };
    if opened.format != Format::Csv && !mapping.text().is_empty() {
        return Err(InputError::Mapping("text columns are for CSV: in JSON, a value says itself what it is".to_owned()));
    }
    let Opened { name, identity, splitter, format, header, cursor, learner, total } = opened;
    let place = splitter.place();
    let goes_on = cursor.as_ref().is_some_and(|cursor| cursor.open_end && cursor.offset == place.offset);
    let reading = Reading {
        name: name.clone(),
        identity: identity.clone(),
        splitter,
        rows: RowReader::new(format),
        header,
        needs,
        mapping: resolved,
        eager: cursor.is_none(),
        torn_at: goes_on.then_some(place.offset),
        learner,
    };
    let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
    // A thread of its own and not one of tokio's: a read of the standard input may never return, and must not keep the
    // process from ending.
    let thread = thread::Builder::new().name("statefun-input".into()).spawn(move || reading.run(&sender));
    let thread = thread.map_err(|source| InputError::Read { name: name.clone(), source })?;
    let report = Intake::new(inner, identity, place, cursor, total, progress).run(batches).await?;
    if !report.interrupted && thread.join().is_err() {
        return Err(InputError::Reader(name));
    }
    Ok(report)
}

pub(crate) fn by_ending(path: &Path) -> Option<Format> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    match ending.as_str() {
        "csv" => Some(Format::Csv),
        "jsonl" | "ndjson" => Some(Format::JsonLines),
        _ => None,
    }
}
