//! The candidates behind one trait, each used as its documentation recommends for durable commits.

use anyhow::{Result, bail};
use std::path::Path;

#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "sqlite")]
mod sqlite;

/// The page or block cache of every engine that has one. LMDB has none: it lives in the page cache.
pub const CACHE_BYTES: usize = 64 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Records = 0,
    Queue = 1,
}

pub const TABLE_NAMES: [&str; 2] = ["records", "queue"];

/// One change: a put if there is a value, a delete if there is none.
pub struct Op {
    pub table: Table,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

pub type Pair = (Vec<u8>, Vec<u8>);

pub trait Engine: Sync {
    /// Applies the batch atomically; it is on stable storage when this returns.
    fn apply(&mut self, batch: &[Op]) -> Result<()>;
    /// Reads one key on a fresh snapshot.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Reads several keys on one snapshot; the number found.
    fn get_many(&self, table: Table, keys: &[Vec<u8>]) -> Result<usize>;
    /// The first `limit` pairs at or after `from`, on a fresh snapshot.
    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>>;
}

/// `redb-quick` is redb with its quick-repair option: slower commits, no walk of the file after a
/// crash. `redb-checked` verifies every checksum each time it opens.
pub const KINDS: &[&str] = &[
    #[cfg(feature = "redb")]
    "redb",
    #[cfg(feature = "redb")]
    "redb-quick",
    #[cfg(feature = "redb")]
    "redb-checked",
    #[cfg(feature = "fjall")]
    "fjall",
    #[cfg(feature = "lmdb")]
    "lmdb",
    #[cfg(feature = "sqlite")]
    "sqlite",
];

pub fn open(kind: &str, folder: &Path) -> Result<Box<dyn Engine>> {
    std::fs::create_dir_all(folder)?;
    Ok(match kind {
        #[cfg(feature = "redb")]
        "redb" | "redb-quick" | "redb-checked" => {
            Box::new(redb::Redb::open(folder, kind == "redb-quick", kind == "redb-checked")?)
        }
        #[cfg(feature = "fjall")]
        "fjall" => Box::new(fjall::Fjall::open(folder)?),
        #[cfg(feature = "lmdb")]
        "lmdb" => Box::new(lmdb::Lmdb::open(folder)?),
        #[cfg(feature = "sqlite")]
        "sqlite" => Box::new(sqlite::Sqlite::open(folder)?),
        _ => bail!("no engine {kind}"),
    })
}
