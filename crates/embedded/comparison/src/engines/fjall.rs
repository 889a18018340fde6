use super::{CACHE_BYTES, Engine, Op, Pair, TABLE_NAMES, Table};
use anyhow::Result;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use fjall::config::CompressionPolicy;
use std::path::Path;

pub struct Fjall {
    database: Database,
    tables: [Keyspace; 2],
}

impl Fjall {
    pub fn open(folder: &Path) -> Result<Self> {
        let database = Database::builder(folder.join("data.fjall"))
            .cache_size(CACHE_BYTES as u64)
            .journal_compression(CompressionType::None)
            .open()?;
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(16 << 20)
                .data_block_compression_policy(CompressionPolicy::disabled())
        };
        let tables = [database.keyspace(TABLE_NAMES[0], options)?, database.keyspace(TABLE_NAMES[1], options)?];
        Ok(Self { database, tables })
    }
}

impl Engine for Fjall {
    fn apply(&mut self, batch: &[Op]) -> Result<()> {
        let mut write = self.database.batch().durability(Some(PersistMode::SyncAll));
        for op in batch {
            let table = &self.tables[op.table as usize];
            match &op.value {
                Some(value) => write.insert(table, &op.key[..], &value[..]),
                None => write.remove(table, &op.key[..]),
            }
        }
        Ok(write.commit()?)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let snapshot = self.database.snapshot();
        Ok(snapshot.get(&self.tables[table as usize], key)?.map(|value| value.to_vec()))
    }

    fn get_many(&self, table: Table, keys: &[Vec<u8>]) -> Result<usize> {
        let snapshot = self.database.snapshot();
        let mut found = 0;
        for key in keys {
            let value = snapshot.get(&self.tables[table as usize], key)?;
            found += usize::from(value.map(|value| value.to_vec()).is_some());
        }
        Ok(found)
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>> {
        let snapshot = self.database.snapshot();
        let mut pairs = Vec::with_capacity(limit);
        for guard in snapshot.range(&self.tables[table as usize], from..).take(limit) {
            let (key, value) = guard.into_inner()?;
            pairs.push((key.to_vec(), value.to_vec()));
        }
        Ok(pairs)
    }
}
