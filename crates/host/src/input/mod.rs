//! Inputs: rows of a file or of the standard input become messages.
//!
//! A file is read exactly once, over restarts too: how far it was read is written in the same atomic step as the messages. The
//! standard input cannot be read twice: a line counts exactly once from the moment it was taken in, and not at all before.
//! A row that cannot be read goes to the dead letters and holds nothing up.

mod batch;
mod cursor;
mod intake;
mod mapping;
mod row;
mod split;

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use statefun_core::nearest;
use tokio::sync::mpsc;

use crate::{error::InputError, host::Inner, ingress::random_id};
use batch::Reading;
use cursor::Cursor;
use intake::Intake;
pub use mapping::Mapping;
pub use row::Row;
use row::RowReader;
pub use split::Format;
use split::{Found, Place, Splitter};

/// Batches that are read ahead.
const BATCHES_AHEAD: usize = 2;

type Progress = dyn Fn(&FileProgress) + Send + Sync;

/// An input and what becomes of its rows.
pub struct FileIngress {
    source: Source,
    format: Option<Format>,
    mapping: Mapping,
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
        Self { source: Source::Path(path.into()), format: None, mapping, progress: None }
    }

    /// The standard input: lines of JSON, if [`with_format`](Self::with_format) says nothing else.
    #[must_use]
    pub fn stdin(mapping: Mapping) -> Self {
        Self::stream("stdin", io::stdin(), mapping)
    }

    /// Anything else that can be read once.
    pub fn stream(name: impl Into<String>, reader: impl Read + Send + 'static, mapping: Mapping) -> Self {
        let source = Source::Stream { name: name.into(), reader: Box::new(reader) };
        Self { source, format: Some(Format::JsonLines), mapping, progress: None }
    }

    /// How the input is written.
    #[must_use]
    pub fn with_format(mut self, format: Format) -> Self {
        self.format = Some(format);
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

/// An input that is open, and as far as that can be known without waiting, fit to be read.
struct Opened {
    name: String,
    /// Names its rows and its place in the store.
    identity: String,
    reader: Box<dyn Read + Send>,
    format: Format,
    /// Of files only; a stream's is read by its thread.
    header: Option<csv::StringRecord>,
    place: Place,
    /// Of files only.
    cursor: Option<Cursor>,
    total: Option<u64>,
}

pub(crate) async fn run(inner: &Inner, input: FileIngress) -> Result<FileReport, InputError> {
    let _busy = inner.busy();
    let FileIngress { source, format, mapping, progress } = input;
    let resolved = mapping.resolve(inner.engine.functions(), &inner.feeds)?;
    let opened = match source {
        Source::Path(path) => open_file(inner, &path, format, &mapping)?,
        Source::Stream { name, reader } => open_stream(name, reader, format.unwrap_or(Format::JsonLines))?,
    };
    let Opened { name, identity, reader, format, header, place, cursor, total } = opened;
    let reading = Reading {
        name: name.clone(),
        identity: identity.clone(),
        splitter: Splitter::new(reader, format, place),
        rows: RowReader::new(format),
        header,
        id_field: mapping.id_field().map(str::to_owned),
        mapping: resolved,
        eager: cursor.is_none(),
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

fn open_file(inner: &Inner, path: &Path, format: Option<Format>, mapping: &Mapping) -> Result<Opened, InputError> {
    let name = path.display().to_string();
    let failed = |source| InputError::Read { name: name.clone(), source };
    let format = format.or_else(|| by_ending(path)).ok_or_else(|| InputError::Format(name.clone()))?;
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        // A pipe cannot be read twice.
        return open_stream(name, Box::new(file), format);
    }
    let identity = path.canonicalize().map_err(failed)?.display().to_string();
    let cursor = match inner.store.cursor(&cursor_key(&identity))? {
        Some(stored) => {
            let resumed = Cursor::resume(&stored, &mut file).map_err(failed)?;
            resumed.map_err(|problem| InputError::Changed { name: name.clone(), problem })?
        }
        None => Cursor::start(&mut file).map_err(failed)?,
    };
    file.rewind().map_err(failed)?;
    let mut place = cursor.place();
    let mut header = None;
    if format == Format::Csv {
        let mut splitter = Splitter::new(&mut file, format, Place::START);
        header = Some(read_header(&name, &mut splitter, &mut RowReader::new(format), mapping.id_field())?);
        if place.offset < splitter.place().offset {
            place = splitter.place();
        }
    }
    file.seek(SeekFrom::Start(place.offset)).map_err(failed)?;
    let total = Some(metadata.len());
    Ok(Opened { name, identity, reader: Box::new(file), format, header, place, cursor: Some(cursor), total })
}

fn open_stream(name: String, reader: Box<dyn Read + Send>, format: Format) -> Result<Opened, InputError> {
    // Another run reads other lines: they must not be taken for those of this one.
    let run = random_id().map_err(|error| InputError::Read { name: name.clone(), source: io::Error::other(error) })?;
    let identity = format!("{name}#{run}");
    Ok(Opened { name, identity, reader, format, header: None, place: Place::START, cursor: None, total: None })
}

pub(crate) fn by_ending(path: &Path) -> Option<Format> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    match ending.as_str() {
        "csv" => Some(Format::Csv),
        "jsonl" | "ndjson" => Some(Format::JsonLines),
        _ => None,
    }
}

fn cursor_key(identity: &str) -> String {
    format!("input:{identity}")
}

/// Reads the header of a CSV input and checks that the field with the id is in it.
fn read_header<R: Read>(
    name: &str,
    splitter: &mut Splitter<R>,
    rows: &mut RowReader,
    id_field: Option<&str>,
) -> Result<csv::StringRecord, InputError> {
    let problem = |problem: String| InputError::Header { name: name.to_owned(), problem };
    let header = loop {
        match splitter.next() {
            Found::Row(raw) if raw.too_long => return Err(problem("its first line is too long for a header".to_owned())),
            Found::Row(raw) => break rows.csv(raw.bytes).map_err(|error| problem(format!("its header is {error}")))?,
            Found::NeedsInput => splitter.fill().map_err(|source| InputError::Read { name: name.to_owned(), source })?,
            Found::End => return Err(problem("it is empty; CSV begins with a header".to_owned())),
        }
    };
    match id_field {
        Some(id) if !header.iter().any(|field| field == id) => {
            let hint = nearest(id, header.iter()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let fields: Vec<_> = header.iter().collect();
            Err(problem(format!("its header has no field `{id}`{hint} It has: {}", fields.join(", "))))
        }
        _ => Ok(header),
    }
}
