use super::{Engine, Op, Pair, TABLE_NAMES, Table};
use anyhow::Result;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, WithoutTls};
use std::ops::Bound;
use std::path::Path;

/// Reserved address space, and the limit of the file: LMDB refuses to grow beyond it.
const MAP_BYTES: usize = 16 << 30;

pub struct Lmdb {
    env: &'static Env<WithoutTls>,
    tables: [Database<'static, Bytes, Bytes>; 2],
}

impl Lmdb {
    pub fn open(folder: &Path) -> Result<Self> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP_BYTES).max_dbs(2);
        // SAFETY: LMDB maps the file; nothing but LMDB writes to this folder while it is open.
        #[allow(unsafe_code)]
        let env = unsafe { options.open(folder)? };
        // A table borrows its environment, and both live as long as the process: leak the one.
        let env: &'static Env<WithoutTls> = Box::leak(Box::new(env));
        let (records, queue) = env
            .create_databases_and_commit(env.write_txn()?, |opener, write| {
                let records = opener.create_database::<Bytes, Bytes>(write, Some(TABLE_NAMES[0]))?;
                let queue = opener.create_database::<Bytes, Bytes>(write, Some(TABLE_NAMES[1]))?;
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((records, queue)))
            })?
            .unwrap_commit();
        Ok(Self { env, tables: [records, queue] })
    }
}

impl Engine for Lmdb {
    fn apply(&mut self, batch: &[Op]) -> Result<()> {
        let mut write = self.env.write_txn()?;
        for op in batch {
            let table = &self.tables[op.table as usize];
            match &op.value {
                Some(value) => table.put(&mut write, &op.key, value)?,
                None => drop(table.delete(&mut write, &op.key)?),
            }
        }
        Ok(write.commit()?)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let read = self.env.read_txn()?;
        Ok(self.tables[table as usize].get(&read, key)?.map(<[u8]>::to_vec))
    }

    fn get_many(&self, table: Table, keys: &[Vec<u8>]) -> Result<usize> {
        let read = self.env.read_txn()?;
        let mut found = 0;
        for key in keys {
            let value = self.tables[table as usize].get(&read, key)?;
            found += usize::from(value.map(<[u8]>::to_vec).is_some());
        }
        Ok(found)
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>> {
        let read = self.env.read_txn()?;
        let mut pairs = Vec::with_capacity(limit);
        for pair in self.tables[table as usize].range(&read, &(Bound::Included(from), Bound::Unbounded))?.take(limit) {
            let (key, value) = pair?;
            pairs.push((key.to_vec(), value.to_vec()));
        }
        Ok(pairs)
    }
}
