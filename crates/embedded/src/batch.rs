//! Changes that are not on disk yet: what one transaction will write, in key order.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Bound,
};

use bytes::Bytes;

/// A table. The number is the first byte of a row's key on disk: it is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Table {
    Meta = 0,
    Records = 1,
    Segments = 2,
    Lanes = 3,
    Timers = 4,
    Letters = 5,
    LetterTimes = 6,
    Accepted = 7,
    Expiries = 8,
    Cursors = 9,
}

impl Table {
    pub(crate) const ALL: [Self; 10] = [
        Self::Meta,
        Self::Records,
        Self::Segments,
        Self::Lanes,
        Self::Timers,
        Self::Letters,
        Self::LetterTimes,
        Self::Accepted,
        Self::Expiries,
        Self::Cursors,
    ];
}

/// A row's key within its table.
pub(crate) type Key = Box<[u8]>;

/// Memory that a row of a batch takes besides its bytes, roughly.
const ROW_OVERHEAD: usize = 128;

/// What becomes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Bytes),
    Delete,
}

#[derive(Debug)]
struct Slot {
    change: Change,
    /// Nothing older has this key, so that a deletion needs no trace.
    fresh: bool,
}

/// Changes by table and key; the last one of a key counts.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    tables: [BTreeMap<Key, Slot>; Table::ALL.len()],
    bytes: usize,
}

impl Batch {
    /// What this batch does to the row, if anything.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<&Change> {
        self.tables[table as usize].get(key).map(|slot| &slot.change)
    }

    /// Writes a row. `fresh` promises that neither the disk nor an older batch has it.
    pub(crate) fn put(&mut self, table: Table, key: Key, value: Bytes, fresh: bool) {
        self.bytes += value.len();
        match self.tables[table as usize].entry(key) {
            Entry::Occupied(mut slot) => {
                let slot = slot.get_mut();
                self.bytes -= size(&slot.change);
                slot.change = Change::Put(value);
            }
            Entry::Vacant(place) => {
                self.bytes += place.key().len() + ROW_OVERHEAD;
                place.insert(Slot { change: Change::Put(value), fresh });
            }
        }
    }

    /// Deletes a row, if it is there.
    pub(crate) fn delete(&mut self, table: Table, key: Key) {
        match self.tables[table as usize].entry(key) {
            Entry::Occupied(mut slot) => {
                self.bytes -= size(&slot.get().change);
                if slot.get().fresh {
                    self.bytes -= slot.key().len() + ROW_OVERHEAD;
                    slot.remove();
                } else {
                    slot.get_mut().change = Change::Delete;
                }
            }
            Entry::Vacant(place) => {
                self.bytes += place.key().len() + ROW_OVERHEAD;
                place.insert(Slot { change: Change::Delete, fresh: false });
            }
        }
    }

    /// The changes of keys from `from` on and before `to`, in order.
    pub(crate) fn range<'a>(
        &'a self,
        table: Table,
        from: &[u8],
        to: Bound<&[u8]>,
    ) -> impl Iterator<Item = (&'a Key, &'a Change)> + use<'a> {
        let rows = &self.tables[table as usize];
        let sane = match to {
            Bound::Excluded(to) => from < to,
            Bound::Included(to) => from <= to,
            Bound::Unbounded => true,
        };
        let range = sane.then(|| rows.range::<[u8], _>((Bound::Included(from), to)));
        range.into_iter().flatten().map(|(key, slot)| (key, &slot.change))
    }

    /// All changes in the order of table and key.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (Table, &Key, &Change)> {
        Table::ALL
            .into_iter()
            .flat_map(|table| self.tables[table as usize].iter().map(move |(key, slot)| (table, key, &slot.change)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tables.iter().all(BTreeMap::is_empty)
    }

    /// Memory held, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn size(change: &Change) -> usize {
    match change {
        Change::Put(value) => value.len(),
        Change::Delete => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        text.as_bytes().into()
    }

    fn value(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn a_fresh_row_leaves_no_trace() {
        let mut batch = Batch::default();
        batch.put(Table::Lanes, key("a"), value("1"), true);
        batch.put(Table::Lanes, key("a"), value("22"), false);
        batch.delete(Table::Lanes, key("a"));
        assert!(batch.is_empty());
        assert_eq!(batch.bytes(), 0);
    }

    #[test]
    fn an_older_row_is_deleted_on_disk_too() {
        let mut batch = Batch::default();
        batch.put(Table::Lanes, key("a"), value("1"), false);
        batch.delete(Table::Lanes, key("a"));
        assert_eq!(batch.get(Table::Lanes, b"a"), Some(&Change::Delete));
        batch.put(Table::Lanes, key("a"), value("2"), true);
        batch.delete(Table::Lanes, key("a"));
        assert_eq!(batch.get(Table::Lanes, b"a"), Some(&Change::Delete), "what is below must stay deleted");
    }

    #[test]
    fn one_write_per_key_in_order() {
        let mut batch = Batch::default();
        for (table, name, text) in
            [(Table::Cursors, "a", "1"), (Table::Meta, "b", "2"), (Table::Meta, "a", "3"), (Table::Meta, "b", "4")]
        {
            batch.put(table, key(name), value(text), false);
        }
        let all: Vec<_> = batch.changes().map(|(table, key, change)| (table, key.to_vec(), change.clone())).collect();
        assert_eq!(
            all,
            [
                (Table::Meta, b"a".to_vec(), Change::Put(value("3"))),
                (Table::Meta, b"b".to_vec(), Change::Put(value("4"))),
                (Table::Cursors, b"a".to_vec(), Change::Put(value("1"))),
            ]
        );
        assert_eq!(batch.range(Table::Meta, b"b", Bound::Unbounded).count(), 1);
        assert_eq!(batch.range(Table::Meta, b"b", Bound::Excluded(b"a")).count(), 0);
    }
}
