//! One lane: its first entries in memory, and whether more lie on disk.

use std::collections::VecDeque;

/// An entry held in memory.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) seq: u64,
    /// Bytes of its row.
    pub(crate) bytes: usize,
    pub(crate) item: T,
}

/// Memory that an entry takes besides its bytes, roughly: addresses, names and the places they stand in.
pub(crate) const ENTRY_OVERHEAD: usize = 400;

impl<T> Entry<T> {
    /// Memory held by it, roughly.
    pub(crate) fn memory(&self) -> usize {
        self.bytes + ENTRY_OVERHEAD
    }
}

/// What is held are always the lane's first entries, without a gap; the rest is in the table only.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    pub(crate) entries: VecDeque<Entry<T>>,
    /// Whether there may be more after those held.
    pub(crate) unread: bool,
    /// The last number that was ever held: reading goes on after it.
    pub(crate) last: u64,
    /// The last number that went to the table only.
    passed: u64,
}

impl<T> Lane<T> {
    /// A lane of which nothing is held; with `unread` there may be something on disk.
    pub(crate) fn new(unread: bool) -> Self {
        Self { entries: VecDeque::new(), unread, last: 0, passed: 0 }
    }

    /// Adds an entry at the end. Returns whether it is held.
    pub(crate) fn push(&mut self, entry: Entry<T>, room: bool) -> bool {
        if room && !self.unread {
            self.last = entry.seq;
            self.entries.push_back(entry);
            return true;
        }
        self.unread = true;
        self.passed = entry.seq;
        false
    }

    /// Adds what was read from the table. `whole` if nothing came after it at the time of reading. Returns the memory that
    /// is now held in addition.
    pub(crate) fn load(&mut self, read: Vec<Entry<T>>, whole: bool) -> usize {
        let mut bytes = 0;
        for entry in read {
            if entry.seq > self.last {
                self.last = entry.seq;
                bytes += entry.memory();
                self.entries.push_back(entry);
            }
        }
        self.unread = !whole || self.passed > self.last;
        bytes
    }

    /// Whether nothing waits in it, on disk neither.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && !self.unread
    }

    /// How many of the first entries make up to `max` entries and `max_bytes` bytes; one at least.
    pub(crate) fn count(&self, max: usize, max_bytes: usize) -> usize {
        let mut bytes = 0;
        let fits = self.entries.iter().take(max).take_while(|entry| {
            bytes += entry.bytes;
            bytes <= max_bytes
        });
        fits.count().max(1).min(self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64) -> Entry<()> {
        Entry { seq, bytes: 10, item: () }
    }

    fn held(lane: &Lane<()>) -> Vec<u64> {
        lane.entries.iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn what_does_not_fit_is_read_later_in_order() {
        let mut lane = Lane::new(false);
        assert!(lane.push(entry(1), true));
        assert!(!lane.push(entry(2), false));
        assert!(!lane.push(entry(3), true), "not before those on disk");
        lane.load(vec![entry(2)], false);
        assert!(lane.unread);
        // 4 comes in between reading and loading
        lane.push(entry(4), true);
        lane.load(vec![entry(3)], true);
        assert!(lane.unread);
        lane.load(vec![entry(4)], true);
        assert!(!lane.unread);
        assert!(lane.push(entry(5), true));
        assert_eq!(held(&lane), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn reading_twice_adds_once() {
        let mut lane = Lane::new(true);
        assert_eq!(lane.load(vec![entry(1), entry(2)], false), 2 * entry(1).memory());
        assert_eq!(lane.load(vec![entry(1), entry(2), entry(3)], true), entry(3).memory());
        assert_eq!(held(&lane), [1, 2, 3]);
    }

    #[test]
    fn at_least_one_is_delivered() {
        let mut lane = Lane::new(false);
        assert_eq!(lane.count(10, 100), 0);
        lane.load(vec![entry(1), entry(2), entry(3)], true);
        assert_eq!((lane.count(10, 1), lane.count(10, 20), lane.count(2, 100), lane.count(9, 100)), (1, 2, 2, 3));
    }
}
