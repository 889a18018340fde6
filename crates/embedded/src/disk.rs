//! The storage engine behind four calls: open, apply one batch, get, scan. Nothing else in this crate knows which engine it is.
//!
//! All tables live in one tree, whose keys are the table's number and the row's key. A row's value is preceded by a CRC-32 of
//! table, key and value: the engine verifies its own checksums only after a crash or when asked to.

use std::{
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use bytes::Bytes;
use redb::{Database, DatabaseError, Durability, ReadableDatabase, StorageError, TableDefinition};

use crate::batch::{Batch, Change, Key, Table};

const ROWS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("rows");
const CRC_BYTES: usize = 4;

/// What the disk or its file fails with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// Another process has it.
    #[error("it is open in another process")]
    Locked,
    /// The file is not as it was written.
    #[error("{0}")]
    Damaged(String),
    /// The disk is full, gone, or refuses.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// An open file.
pub(crate) struct Disk {
    database: Database,
    #[cfg(test)]
    pub(crate) fail: std::sync::atomic::AtomicBool,
}

/// Rows of a scan.
pub(crate) struct Rows {
    pub(crate) rows: Vec<(Key, Bytes)>,
    /// There may be more after the last one.
    pub(crate) more: bool,
}

impl Disk {
    /// Opens the file, or makes it. With `verify` every checksum is looked at, which reads the whole file.
    pub(crate) fn open(path: &Path, cache_bytes: usize, verify: bool) -> Result<Self, DiskError> {
        guarded(|| {
            let mut builder = Database::builder();
            builder.set_cache_size(cache_bytes).set_check_integrity_on_open(verify);
            let database = builder.create(path)?;
            let write = database.begin_write().map_err(redb::Error::from)?;
            drop(write.open_table(ROWS).map_err(redb::Error::from)?); // so that a reader finds it
            write.commit().map_err(redb::Error::from)?;
            Ok(Self {
                database,
                #[cfg(test)]
                fail: false.into(),
            })
        })
    }

    /// Applies the batch as one step. It is on stable storage when this returns `Ok`.
    pub(crate) fn apply(&self, batch: &Batch) -> Result<(), DiskError> {
        #[cfg(test)]
        if self.fail.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
        }
        guarded(|| {
            let mut write = self.database.begin_write().map_err(redb::Error::from)?;
            write.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
            let mut rows = write.open_table(ROWS).map_err(redb::Error::from)?;
            let (mut full_key, mut sealed) = (Vec::new(), Vec::new());
            for (table, key, change) in batch.changes() {
                full(table, key, &mut full_key);
                match change {
                    Change::Put(value) => {
                        sealed.clear();
                        sealed.extend_from_slice(&crc(&full_key, value).to_be_bytes());
                        sealed.extend_from_slice(value);
                        rows.insert(&full_key[..], &sealed[..])?;
                    }
                    Change::Delete => drop(rows.remove(&full_key[..])?),
                }
            }
            drop(rows);
            write.commit().map_err(redb::Error::from)?;
            Ok(())
        })
    }

    /// The values of these keys, on one snapshot.
    pub(crate) fn get(&self, keys: &[(Table, &[u8])]) -> Result<Vec<Option<Bytes>>, DiskError> {
        guarded(|| {
            let read = self.database.begin_read().map_err(redb::Error::from)?;
            let rows = read.open_table(ROWS).map_err(redb::Error::from)?;
            let mut full_key = Vec::new();
            let get = |(table, key): &(Table, &[u8])| {
                full(*table, key, &mut full_key);
                let sealed = rows.get(&full_key[..])?;
                sealed.map(|sealed| unseal(&full_key, sealed.value())).transpose()
            };
            keys.iter().map(get).collect()
        })
    }

    /// Rows from `from` on and before `to`, until there are `limit` rows or `max_bytes` bytes.
    pub(crate) fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Bound<&[u8]>,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Rows, DiskError> {
        let (mut low, mut high) = (Vec::new(), Vec::new());
        full(table, from, &mut low);
        let high = match to {
            Bound::Included(to) => {
                full(table, to, &mut high);
                Bound::Included(&high[..])
            }
            Bound::Excluded(to) => {
                full(table, to, &mut high);
                Bound::Excluded(&high[..])
            }
            Bound::Unbounded => {
                high.push(table as u8 + 1);
                Bound::Excluded(&high[..])
            }
        };
        if matches!(high, Bound::Included(high) | Bound::Excluded(high) if high < &low[..]) {
            return Ok(Rows { rows: Vec::new(), more: false });
        }
        guarded(|| {
            let read = self.database.begin_read().map_err(redb::Error::from)?;
            let table = read.open_table(ROWS).map_err(redb::Error::from)?;
            let (mut rows, mut bytes) = (Vec::new(), 0);
            for row in table.range::<&[u8]>((Bound::Included(&low[..]), high))? {
                if rows.len() >= limit || bytes >= max_bytes {
                    return Ok(Rows { rows, more: true });
                }
                let (key, sealed) = row?;
                let value = unseal(key.value(), sealed.value())?;
                bytes += value.len();
                rows.push((key.value()[1..].into(), value));
            }
            Ok(Rows { rows, more: false })
        })
    }
}

fn full(table: Table, key: &[u8], into: &mut Vec<u8>) {
    into.clear();
    into.push(table as u8);
    into.extend_from_slice(key);
}

fn crc(full_key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(full_key);
    hasher.update(value);
    hasher.finalize()
}

fn unseal(full_key: &[u8], sealed: &[u8]) -> Result<Bytes, DiskError> {
    match sealed.split_first_chunk::<CRC_BYTES>() {
        Some((sum, value)) if u32::from_be_bytes(*sum) == crc(full_key, value) => Ok(Bytes::copy_from_slice(value)),
        _ => Err(DiskError::Damaged(format!("a row of table {} does not match its checksum", full_key.first().unwrap_or(&0)))),
    }
}

/// The engine may panic on a damaged file; to us that is an error like others.
fn guarded<T>(call: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(DiskError::Damaged(format!("the storage engine gave up: {}", text.unwrap_or("no reason given"))))
    })
}

impl From<DatabaseError> for DiskError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::Locked,
            DatabaseError::Storage(error) => error.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<StorageError> for DiskError {
    fn from(error: StorageError) -> Self {
        match error {
            // What is not a database at all is reported as invalid data.
            StorageError::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => Self::Damaged(error.to_string()),
            StorageError::Io(error) => Self::Io(error),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<redb::Error> for DiskError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Self::Io(error),
            redb::Error::DatabaseAlreadyOpen => Self::Locked,
            other => Self::Damaged(other.to_string()),
        }
    }
}
