//! The write-behind log: what was changed and is not on disk yet, in two steps. Changes gather in `pending`; the flusher takes
//! them as `flushing` and writes them in one transaction, while the next gather. Readers look at both before the disk.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;

use crate::{
    batch::{Batch, Change, Key, Table},
    disk::Rows,
};

/// The number of an operation. Operations become durable in the order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Op(pub(crate) u64);

/// How the flusher is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Not yet.
    No,
    /// Once everything is written and the shutdown is marked as clean.
    Clean,
    /// Once everything is written.
    Flushed,
    /// At once, as a kill would.
    Now,
}

/// Why the flusher waits, if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    Awake,
    /// There is nothing to write.
    Idle,
    /// There is little to write and nobody waits for it.
    Lingering,
}

#[derive(Debug)]
pub(crate) struct Log {
    pending: Batch,
    flushing: Option<Arc<Batch>>,
    /// The last operation.
    pub(crate) op: u64,
    /// The last operation that is on disk.
    pub(crate) durable: u64,
    /// Somebody waits for the operations up to this one.
    pub(crate) wanted: u64,
    /// The last operation in `flushing`.
    taken: u64,
    /// Batches written so far: a read of the disk is valid if this did not change meanwhile.
    pub(crate) flushes: u64,
    /// Why nothing can be done any more.
    pub(crate) down: Option<Arc<str>>,
    pub(crate) stop: Stop,
    pub(crate) sleep: Sleep,
}

/// Rows of a scan, with what the log changes in them.
pub(crate) struct Scan {
    pub(crate) rows: Vec<(Key, Bytes)>,
    /// Where to go on, if there may be more.
    pub(crate) next: Option<Key>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            pending: Batch::default(),
            flushing: None,
            op: 0,
            durable: 0,
            wanted: 0,
            taken: 0,
            flushes: 0,
            down: None,
            stop: Stop::No,
            sleep: Sleep::Awake,
        }
    }

    /// Writes a row.
    pub(crate) fn put(&mut self, table: Table, key: Key, value: Bytes) {
        self.pending.put(table, key, value, false);
    }

    /// Writes a row whose key was never there before: if it is deleted soon enough it never reaches the disk.
    pub(crate) fn put_new(&mut self, table: Table, key: Key, value: Bytes) {
        let fresh = self.flushing.as_ref().is_none_or(|batch| batch.get(table, &key).is_none());
        self.pending.put(table, key, value, fresh);
    }

    /// Deletes a row, if it is there.
    pub(crate) fn delete(&mut self, table: Table, key: Key) {
        self.pending.delete(table, key);
    }

    /// The row as the log has it: `None` if only the disk can tell, `Some(None)` if it is deleted.
    pub(crate) fn look(&self, table: Table, key: &[u8]) -> Option<Option<Bytes>> {
        let flushing = || self.flushing.as_ref().and_then(|batch| batch.get(table, key));
        self.pending.get(table, key).or_else(flushing).map(value)
    }

    /// The rows of a scan of the disk with the log's changes on top, at most `limit`, or `max_bytes` and one.
    pub(crate) fn merge(&self, table: Table, from: &[u8], to: Bound<&[u8]>, disk: Rows, limit: usize, max_bytes: usize) -> Scan {
        let last = disk.rows.last().filter(|_| disk.more).map(|(key, _)| key.clone());
        let to = last.as_ref().map_or(to, |last| Bound::Included(&last[..]));
        let mut top = self.pending.range(table, from, to).peekable();
        let mut middle = self.flushing.iter().flat_map(|batch| batch.range(table, from, to)).peekable();
        let mut bottom = disk.rows.into_iter().peekable();
        let (mut rows, mut bytes) = (Vec::new(), 0);
        loop {
            let first = [top.peek().map(|row| row.0), middle.peek().map(|row| row.0), bottom.peek().map(|row| &row.0)];
            let Some(key) = first.into_iter().flatten().min().cloned() else {
                return Scan { rows, next: last.map(after) };
            };
            if rows.len() >= limit || bytes >= max_bytes {
                return Scan { rows, next: Some(key) };
            }
            let below = bottom.next_if(|row| row.0 == key);
            let between = middle.next_if(|row| *row.0 == key);
            let above = top.next_if(|row| *row.0 == key);
            let found = above.or(between).map(|row| value(row.1)).unwrap_or_else(|| below.map(|row| row.1));
            if let Some(found) = found {
                bytes += found.len();
                rows.push((key, found));
            }
        }
    }

    /// Makes what is pending the batch to be written next.
    pub(crate) fn take(&mut self) -> Arc<Batch> {
        let batch = Arc::new(std::mem::take(&mut self.pending));
        self.flushing = Some(batch.clone());
        self.taken = self.op;
        batch
    }

    /// The batch that was taken is on disk.
    pub(crate) fn written(&mut self) {
        self.flushing = None;
        self.flushes += 1;
        self.durable = self.taken;
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending.bytes()
    }
}

fn value(change: &Change) -> Option<Bytes> {
    match change {
        Change::Put(value) => Some(value.clone()),
        Change::Delete => None,
    }
}

/// The first key after this one.
pub(crate) fn after(key: Key) -> Key {
    let mut next = key.into_vec();
    next.push(0);
    next.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: Table = Table::Cursors;

    fn key(number: u8) -> Key {
        [number].into()
    }

    proptest! {
        /// Whatever is pending, being flushed or on disk: look and merge see the same as a plain map.
        #[test]
        fn overlays_read_like_one_map(
            steps in proptest::collection::vec((0_u8..3, 0_u8..12, any::<u8>()), 1..60),
            flushes in proptest::collection::vec(0_usize..60, 0..5),
            limit in 1_usize..6,
        ) {
            let (mut log, mut disk) = (Log::new(), std::collections::BTreeMap::<Key, Bytes>::new());
            let mut expected = std::collections::BTreeMap::<Key, Bytes>::new();
            for (index, (what, number, content)) in steps.into_iter().enumerate() {
                match what {
                    0 => log.delete(TABLE, key(number)),
                    _ if expected.contains_key(&key(number)) => log.put(TABLE, key(number), Bytes::from(vec![content])),
                    // As the callers do: only for keys that are nowhere, deleted ones included.
                    _ if !disk.contains_key(&key(number)) && log.look(TABLE, &[number]).is_none() => {
                        log.put_new(TABLE, key(number), Bytes::from(vec![content]));
                    }
                    _ => log.put(TABLE, key(number), Bytes::from(vec![content])),
                }
                match what {
                    0 => drop(expected.remove(&key(number))),
                    _ => drop(expected.insert(key(number), Bytes::from(vec![content]))),
                }
                if flushes.contains(&index) {
                    if let Some(batch) = log.flushing.clone() {
                        for (_, key, change) in batch.changes() {
                            match change {
                                Change::Put(value) => drop(disk.insert(key.clone(), value.clone())),
                                Change::Delete => drop(disk.remove(key)),
                            }
                        }
                        log.written();
                    }
                    log.take();
                }
                for number in 0..12 {
                    let found = log.look(TABLE, &[number]).unwrap_or_else(|| disk.get(&key(number)).cloned());
                    prop_assert_eq!(found.as_ref(), expected.get(&key(number)));
                }
                let (mut all, mut from) = (Vec::new(), Some(key(0)));
                while let Some(start) = from {
                    let rows: Vec<_> = disk.range(start.clone()..).take(limit).map(|(key, value)| (key.clone(), value.clone())).collect();
                    let more = disk.range(start.clone()..).count() > limit;
                    let scan = log.merge(TABLE, &start, Bound::Unbounded, Rows { rows, more }, limit, usize::MAX);
                    all.extend(scan.rows);
                    from = scan.next;
                }
                prop_assert_eq!(all, expected.clone().into_iter().collect::<Vec<_>>());
            }
        }
    }
}
