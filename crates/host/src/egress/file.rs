//! A file of lines, each record in it exactly once whatever happens.
//!
//! The store keeps the file's length in the same step in which it forgets the records. What a crash leaves behind that length
//! was written but not noted: it is cut off and written again.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use statefun_core::{EgressRecord, TypeName};
use statefun_embedded::{Embedded, names};

use super::{SinkError, Written, line};

/// The sink of one egress.
pub(super) struct FileSink {
    path: PathBuf,
    cursor: String,
    /// The file, once it is open, and its length as far as it is noted.
    open: Option<(File, u64)>,
}

impl FileSink {
    pub(super) fn new(egress: &TypeName, path: PathBuf) -> Self {
        // A file of another name has a length of its own.
        let cursor = format!("egress:{egress}:{}", path.display());
        Self { path, cursor, open: None }
    }

    pub(super) async fn write(&mut self, store: &Embedded, records: Vec<Arc<EgressRecord>>) -> Written {
        match self.try_write(store, &records).await {
            Ok(length) => Written { count: records.len(), cursor: Some((self.cursor.clone(), encode(length))), error: None },
            // What was written of the batch is cut off when the file is opened again.
            Err(error) => {
                self.open = None;
                Written { count: 0, cursor: None, error: Some(error) }
            }
        }
    }

    async fn try_write(&mut self, store: &Embedded, records: &[Arc<EgressRecord>]) -> Result<u64, SinkError> {
        let (file, length) = match self.open.take() {
            Some(open) => open,
            None => self.reopen(store).await?,
        };
        let records = records.to_vec();
        let written = blocking(move || append(file, length, &records)).await;
        let (file, length) = written.map_err(|source| self.failed(source))?;
        self.open = Some((file, length));
        Ok(length)
    }

    /// Opens the file at its noted length. A file that is used for the first time is noted before anything is written to it.
    async fn reopen(&self, store: &Embedded) -> Result<(File, u64), SinkError> {
        let noted = store.cursor(&self.cursor)?.as_deref().and_then(decode);
        let path = self.path.clone();
        let opened = blocking(move || open(&path, noted)).await;
        let (file, length) = opened.map_err(|source| self.failed(source))?;
        if noted != Some(length) {
            if let Some(noted) = noted {
                tracing::warn!(file = %self.path.display(), noted, length, "an egress's file is shorter than it was left: going on at its end");
            }
            let op = store.set_cursor(&self.cursor, encode(length))?;
            store.durable(op).await?;
        }
        Ok((file, length))
    }

    fn failed(&self, source: io::Error) -> SinkError {
        SinkError::Io { what: self.path.display().to_string(), source }
    }
}

fn open(path: &Path, noted: Option<u64>) -> io::Result<(File, u64)> {
    let is_new = !path.exists();
    if let Some(folder) = path.parent().filter(|_| is_new) {
        names::make_folder(folder)?;
    }
    let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
    // The file's name has to be as durable as what is in it, and is before a length is noted.
    if is_new {
        names::keep_name(path)?;
    } else if noted.is_none() {
        names::keep_found_name(path)?;
    }
    let found = file.metadata()?.len();
    let length = noted.map_or(found, |noted| noted.min(found));
    if length < found {
        file.set_len(length)?;
    }
    file.seek(SeekFrom::Start(length))?;
    Ok((file, length))
}

fn append(mut file: File, length: u64, records: &[Arc<EgressRecord>]) -> io::Result<(File, u64)> {
    let mut lines = Vec::new();
    records.iter().for_each(|record| line::push(&mut lines, record));
    file.write_all(&lines)?;
    file.sync_data()?;
    Ok((file, length + lines.len() as u64))
}

/// Runs what waits for the disk beside the runtime's own threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn encode(length: u64) -> Vec<u8> {
    length.to_string().into_bytes()
}

fn decode(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_cut_to_what_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.jsonl");
        assert_eq!(open(&path, None).unwrap().1, 0);
        fs::write(&path, "one\ntwo\nhal").unwrap();
        assert_eq!(open(&path, None).unwrap().1, 11, "what stood there before is kept");
        assert_eq!(open(&path, Some(8)).unwrap().1, 8);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(open(&path, Some(99)).unwrap().1, 8, "someone shortened it");
        assert_eq!(decode(&encode(u64::MAX)), Some(u64::MAX));
    }
}
