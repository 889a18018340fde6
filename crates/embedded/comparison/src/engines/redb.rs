use super::{CACHE_BYTES, Engine, Op, Pair, TABLE_NAMES, Table};
use anyhow::Result;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use std::path::Path;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
const TABLES: [Definition; 2] =
    [Definition::new(TABLE_NAMES[0]), Definition::new(TABLE_NAMES[1])];

pub struct Redb {
    database: Database,
    quick_repair: bool,
}

impl Redb {
    pub fn open(folder: &Path, quick_repair: bool, check: bool) -> Result<Self> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(check);
        let database = builder.create(folder.join("data.redb"))?;
        let mut engine = Self { database, quick_repair };
        engine.apply(&[])?; // makes the tables, so that a reader finds them
        Ok(engine)
    }
}

impl Engine for Redb {
    fn apply(&mut self, batch: &[Op]) -> Result<()> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        write.set_quick_repair(self.quick_repair);
        {
            let mut tables = [write.open_table(TABLES[0])?, write.open_table(TABLES[1])?];
            for op in batch {
                let table = &mut tables[op.table as usize];
                match &op.value {
                    Some(value) => drop(table.insert(&op.key[..], &value[..])?),
                    None => drop(table.remove(&op.key[..])?),
                }
            }
        }
        Ok(write.commit()?)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let table = self.database.begin_read()?.open_table(TABLES[table as usize])?;
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    fn get_many(&self, table: Table, keys: &[Vec<u8>]) -> Result<usize> {
        let table = self.database.begin_read()?.open_table(TABLES[table as usize])?;
        let mut found = 0;
        for key in keys {
            found += usize::from(table.get(&key[..])?.map(|value| value.value().to_vec()).is_some());
        }
        Ok(found)
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>> {
        let table = self.database.begin_read()?.open_table(TABLES[table as usize])?;
        let mut pairs = Vec::with_capacity(limit);
        for pair in table.range::<&[u8]>(from..)?.take(limit) {
            let (key, value) = pair?;
            pairs.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(pairs)
    }
}
