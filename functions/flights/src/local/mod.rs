//! The example's own job: a file, through the functions, on this machine. It ends by itself, and goes on where it was left if it
//! is killed.

mod collect;
mod columns;
mod error;
mod note;

use std::{
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use lambda_statefun::local::{FileIngress, FileProgress, FileReport, Format, Host, HostOptions, Mapping};
use tokio::{sync::watch, time::interval};

pub use collect::{alerts_file, report};
pub use columns::check_columns;
pub use error::JobError;

use crate::{COLUMNS, Report, application, route_record};
use note::Note;

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(100);

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Job {
    /// The file with the departures.
    pub input: PathBuf,
    /// The folder that everything is kept in.
    pub data: PathBuf,
}

/// How far a job is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// How far the file was read.
    pub file: FileProgress,
    /// Messages handled by this process.
    pub messages: u64,
    /// Messages that wait.
    pub waiting: u64,
}

/// How a job began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With an empty folder.
    New,
    /// In a folder where an earlier run was stopped before its end; this line was the next.
    Resumed {
        /// Counted from 1, the header included.
        line: u64,
    },
    /// In a folder where the same file was worked through already.
    Finished,
}

/// What came of a job.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it began.
    pub start: Start,
    /// Rows read by this process.
    pub rows: u64,
    /// Messages handled by this process.
    pub messages: u64,
    /// Calls of handlers by this process.
    pub invocations: u64,
    /// Commits by this process.
    pub commits: u64,
    /// How long it took.
    pub took: Duration,
    /// All numbers.
    pub report: Report,
}

/// Rows become what the router makes of them. A column is text: `1e3` may be a tail number.
#[must_use]
pub fn mapping() -> Mapping {
    Mapping::router(Arc::new(route_record)).with_text(COLUMNS)
}

/// A host for the application in this folder. Nothing runs before it is started.
///
/// # Errors
/// If the folder cannot be opened.
pub fn open(data: &Path) -> Result<Host, JobError> {
    let built = application().build()?;
    Ok(Host::open(built.functions, built.rules, HostOptions::new(data))?)
}

/// Does a job to its end, or until `stop` returns. `progress` is called now and then.
///
/// # Errors
/// [`JobError`]. What was done until then is kept.
pub async fn run(job: &Job, progress: impl FnMut(&Progress), stop: impl Future<Output = ()>) -> Result<Outcome, JobError> {
    check_columns(&job.input)?;
    let host = open(&job.data)?;
    host.start();
    let result = tokio::select! {
        result = work(&host, job, progress) => result,
        error = host.failed() => Err(error.into()),
        () = stop => Err(JobError::Interrupted),
    };
    let closed = host.shutdown().await;
    let outcome = result?;
    closed?;
    Ok(outcome)
}

async fn work(host: &Host, job: &Job, progress: impl FnMut(&Progress)) -> Result<Outcome, JobError> {
    let began = Instant::now();
    let note = Note::take(host, job).await?;
    let read = read(host, job, progress).await?;
    note.finish(host).await?;
    let start = match read.resumed_at {
        Some(_) if note.finished && read.rows == 0 => Start::Finished,
        Some(line) => Start::Resumed { line },
        None => Start::New,
    };
    let metrics = host.metrics();
    Ok(Outcome {
        start,
        rows: read.rows,
        messages: metrics.total(|counters| &counters.messages),
        invocations: metrics.total(|counters| &counters.invocations),
        commits: metrics.total(|counters| &counters.commits),
        took: began.elapsed(),
        report: report(host)?,
    })
}

/// Reads the file, and returns once nothing is left to do.
async fn read(host: &Host, job: &Job, mut progress: impl FnMut(&Progress)) -> Result<FileReport, JobError> {
    let (sender, latest) = watch::channel(FileProgress::default());
    let file = FileIngress::path(&job.input, mapping()).with_format(Format::Csv);
    let file = file.on_progress(move |file| {
        sender.send_replace(*file);
    });
    let mut work = pin!(async {
        let read = host.run_file(file).await?;
        host.idle().await?;
        Ok(read)
    });
    let mut ticks = interval(SHOW_EVERY);
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = ticks.tick() => progress(&Progress {
                file: *latest.borrow(),
                messages: host.metrics().total(|counters| &counters.messages),
                waiting: host.store().waiting().messages,
            }),
        }
    }
}
