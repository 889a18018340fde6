//! A file of lines, each record in it exactly once whatever happens.
//!
//! The store keeps how far the file is written in the same step in which it forgets the records. What a crash leaves behind that
//! place was written but not noted: it is found there again.

use std::{
    fs::{self, File},
    io::{self, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use statefun_core::{EgressRecord, TypeName};
use statefun_embedded::Embedded;

use super::{
    SinkError, Written,
    line::{Forms, Lines},
    notes::{Note, Notes},
    resume::{self, Resumed},
};
use crate::fingerprint::{Fingerprint, Node, is_nameless};

/// The sink of one egress.
pub(super) struct FileSink {
    path: PathBuf,
    notes: Notes,
    /// The file, as it was locked when the host was opened.
    held: Option<File>,
    /// The file, once it is open at its end, and how far it is noted.
    open: Option<(File, Note)>,
}

impl FileSink {
    pub(super) fn new(egress: &TypeName, path: PathBuf, held: Option<File>) -> Self {
        Self { path, notes: Notes::new(egress), held, open: None }
    }

    /// Lets go of the file.
    pub(super) fn close(&mut self) {
        (self.held, self.open) = (None, None);
    }

    pub(super) async fn write(&mut self, store: &Embedded, records: Vec<Arc<EgressRecord>>) -> Written {
        match self.try_write(store, &records).await {
            Ok(count) => Written { count, cursor: Some(self.notes.cursor()), error: None },
            // What was written of the batch is found when the file is opened again.
            Err(error) => {
                self.open = None;
                Written { count: 0, cursor: None, error: Some(error) }
            }
        }
    }

    /// Returns how many of the records are in the file, as the notes say now.
    async fn try_write(&mut self, store: &Embedded, records: &[Arc<EgressRecord>]) -> Result<usize, SinkError> {
        let lines = Arc::new(Lines::of(records));
        loop {
            let Some((file, note)) = self.open.take() else {
                match self.reopen(store, records, &lines).await? {
                    0 => continue,
                    there => return Ok(there),
                }
            };
            let (path, adding) = (self.path.clone(), lines.clone());
            let appended = blocking(move || match is_as_left(&file, &note, &path)? {
                true => append(file, &adding).map(Some),
                false => Ok(None),
            });
            let Some((file, at)) = appended.await.map_err(|source| self.failed(source))? else {
                tracing::warn!(file = %self.path.display(), "an egress's file was changed, moved or deleted while the host runs");
                continue;
            };
            let note = Note { at, written: true };
            self.notes.put(note.clone(), None);
            self.open = Some((file, note));
            return Ok(lines.count());
        }
    }

    /// Opens the file at the place where it is gone on with. Returns how many of the records stand in it already: then these are to be
    /// noted first. Else what is noted is durable before anything is written.
    async fn reopen(&mut self, store: &Embedded, records: &[Arc<EgressRecord>], lines: &Arc<Lines>) -> Result<usize, SinkError> {
        self.notes.load(store)?;
        let (path, held, notes, now) = (self.path.clone(), self.held.take(), self.notes.clone(), lines.clone());
        let former = Lines::in_former_form(records);
        let resumed = blocking(move || {
            let held = match held {
                Some(file) if leads_to(&path, &file)? => Some(file),
                other => {
                    drop(other);
                    resume::open(&path)?
                }
            };
            held.map(|file| resume::resume(file, &notes, &Forms { now: &now, former })).transpose()
        });
        let Some(resumed) = resumed.await.map_err(|source| self.failed(source))? else {
            return Err(SinkError::Shared(self.path.clone()));
        };
        let Resumed { file, note, former, there, warning } = resumed;
        if let Some(warning) = warning {
            tracing::warn!(file = %self.path.display(), at = note.at.offset, warning);
        }
        let is_noted = former.as_ref() == Some(&note);
        self.notes.put(note.clone(), former.as_ref());
        if there > 0 {
            // Opened again then: what follows may have to be judged, too.
            self.held = Some(file);
            return Ok(there);
        }
        if !is_noted {
            self.notes.save(store).await?;
        }
        self.open = Some((file, note));
        Ok(0)
    }

    fn failed(&self, source: io::Error) -> SinkError {
        SinkError::Io { what: self.path.display().to_string(), source }
    }
}

/// Whether the path still leads to the file, and the file ends where it was left.
fn is_as_left(file: &File, note: &Note, path: &Path) -> io::Result<bool> {
    Ok(file.metadata()?.len() == note.at.offset && leads_to(path, file)?)
}

fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) => Ok(Node::of(&found) == Node::of(&file.metadata()?)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Appends, wherever the file ends now: a file that others cut gets no hole.
fn append(mut file: File, lines: &Lines) -> io::Result<(File, Fingerprint)> {
    file.write_all(lines.bytes())?;
    file.sync_data()?;
    let end = file.stream_position()?;
    if is_nameless(&file.metadata()?) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it was deleted while it was written"));
    }
    let at = Fingerprint::at(&file, end)?;
    Ok((file, at))
}

/// Runs what waits for the disk beside the runtime's own threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
