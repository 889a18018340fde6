use super::{CACHE_BYTES, Engine, Op, Pair, Table};
use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

const PUT: [&str; 2] = [
    "INSERT INTO records (k, v) VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
    "INSERT INTO queue (k, v) VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
];
const DELETE: [&str; 2] = ["DELETE FROM records WHERE k = ?1", "DELETE FROM queue WHERE k = ?1"];
const GET: [&str; 2] = ["SELECT v FROM records WHERE k = ?1", "SELECT v FROM queue WHERE k = ?1"];
const SCAN: [&str; 2] = [
    "SELECT k, v FROM records WHERE k >= ?1 ORDER BY k LIMIT ?2",
    "SELECT k, v FROM queue WHERE k >= ?1 ORDER BY k LIMIT ?2",
];

/// A connection is not `Sync`: one for the writer, one (in earnest, a pool) for readers.
pub struct Sqlite {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
}

impl Sqlite {
    pub fn open(folder: &Path) -> Result<Self> {
        let connect = || -> Result<Connection> {
            let connection = Connection::open(folder.join("data.sqlite"))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "cache_size", -((CACHE_BYTES >> 10) as i64))?;
            connection.execute_batch(
                "CREATE TABLE IF NOT EXISTS records (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS queue (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID;",
            )?;
            Ok(connection)
        };
        Ok(Self { writer: Mutex::new(connect()?), reader: Mutex::new(connect()?) })
    }
}

impl Engine for Sqlite {
    fn apply(&mut self, batch: &[Op]) -> Result<()> {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        let write = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for op in batch {
            match &op.value {
                Some(value) => write.prepare_cached(PUT[op.table as usize])?.execute(params![op.key, value])?,
                None => write.prepare_cached(DELETE[op.table as usize])?.execute(params![op.key])?,
            };
        }
        Ok(write.commit()?)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut get = reader.prepare_cached(GET[table as usize])?;
        Ok(get.query_row(params![key], |row| row.get(0)).optional()?)
    }

    fn get_many(&self, table: Table, keys: &[Vec<u8>]) -> Result<usize> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = reader.transaction()?;
        let mut get = snapshot.prepare_cached(GET[table as usize])?;
        let mut found = 0;
        for key in keys {
            let value: Option<Vec<u8>> = get.query_row(params![key], |row| row.get(0)).optional()?;
            found += usize::from(value.is_some());
        }
        Ok(found)
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scan = reader.prepare_cached(SCAN[table as usize])?;
        let pairs = scan.query_map(params![from, limit as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(pairs.collect::<rusqlite::Result<_>>()?)
    }
}
