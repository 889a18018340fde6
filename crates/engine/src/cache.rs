//! Records that this environment committed last, kept so that the next batch needs no read. Their outboxes are sent and cleared.

use std::{collections::HashMap, num::NonZeroUsize};

use lru::LruCache;
use statefun_core::{Address, Record, Taken, TypeName, protocol::HitRate};

/// When a cached record may stand in for a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheUse {
    /// Always: nobody else writes, as on a local host.
    Always,
    /// Where it was right so often of late that it pays, per function.
    WhereItPays,
}

#[derive(Debug)]
struct Kept {
    record: Box<Record>,
    bytes: usize,
}

/// A bounded cache of records. Losing one costs a read, never correctness: commits are conditional on the version.
#[derive(Debug)]
pub(crate) struct Cache {
    kept: LruCache<Address, Kept>,
    bytes: usize,
    max_bytes: usize,
    used: CacheUse,
    rates: HashMap<TypeName, HitRate>,
}

impl Cache {
    pub(crate) fn new(max_records: usize, max_bytes: usize, used: CacheUse) -> Self {
        let records = NonZeroUsize::new(max_records).unwrap_or(NonZeroUsize::MIN);
        Self { kept: LruCache::new(records), bytes: 0, max_bytes, used, rates: HashMap::new() }
    }

    /// Whether there is a record that may be used.
    pub(crate) fn has(&self, address: &Address) -> bool {
        self.kept.peek(address).is_some_and(|kept| self.pays(address, kept.bytes))
    }

    /// The record, if it may be used.
    pub(crate) fn take(&mut self, address: &Address) -> Option<Box<Record>> {
        if self.has(address) { self.remove(address) } else { None }
    }

    fn pays(&self, address: &Address, bytes: usize) -> bool {
        self.used == CacheUse::Always || self.rates.get(address.function()).is_some_and(|rate| rate.pays(bytes))
    }

    /// A record was read: notes whether the one that is kept is still right, and forgets it.
    pub(crate) fn compare(&mut self, address: &Address, version: Option<u64>, among: usize) {
        if let Some(kept) = self.remove(address) {
            self.judge(address, version == Some(kept.version), among);
        }
    }

    /// A cached record turned out right, or wrong: one of a batch of so many addresses.
    pub(crate) fn judge(&mut self, address: &Address, right: bool, among: usize) {
        if self.used == CacheUse::Always {
            return;
        }
        match self.rates.get_mut(address.function()) {
            Some(rate) => rate.note(right, among),
            None => self.rates.entry(address.function().clone()).or_default().note(right, among),
        }
    }

    fn remove(&mut self, address: &Address) -> Option<Box<Record>> {
        let kept = self.kept.pop(address)?;
        self.bytes -= kept.bytes;
        Some(kept.record)
    }

    /// Keeps the record; the least recently visited ones go for it.
    pub(crate) fn put(&mut self, address: Address, record: Box<Record>) {
        let bytes = weight(&record);
        self.bytes += bytes;
        if let Some((_, gone)) = self.kept.push(address, Kept { record, bytes }) {
            self.bytes -= gone.bytes;
        }
        while self.bytes > self.max_bytes
            && let Some((_, gone)) = self.kept.pop_lru()
        {
            self.bytes -= gone.bytes;
        }
    }
}

/// About how much memory a record takes.
fn weight(record: &Record) -> usize {
    let state: usize = record.state.iter().map(|(name, stored)| name.len() + stored.value.len() + 96).sum();
    let tokens: usize = record.tokens.keys().map(|token| token.len() + 64).sum();
    512 + record.ledger.inline.len() * size_of::<Taken>() + state + tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        Address::parse("a/b/c").unwrap()
    }

    fn record(version: u64) -> Box<Record> {
        Box::new(Record { version, ..Record::default() })
    }

    #[test]
    fn where_nobody_else_writes_it_is_always_used() {
        let mut cache = Cache::new(10, 10_000, CacheUse::Always);
        cache.put(address(), record(3));
        assert_eq!(cache.take(&address()).map(|record| record.version), Some(3));
        assert_eq!((cache.take(&address()), cache.bytes), (None, 0));
    }

    #[test]
    fn elsewhere_only_once_it_was_right_often_enough() {
        let mut cache = Cache::new(10, 10_000, CacheUse::WhereItPays);
        for version in 0..20 {
            cache.put(address(), record(version));
            assert_eq!(cache.take(&address()), None, "after {version}");
            cache.compare(&address(), Some(version), 1);
        }
        cache.put(address(), record(20));
        assert!(cache.has(&address()) && cache.take(&address()).is_some());
    }

    #[test]
    fn one_that_others_overtook_is_not() {
        let mut cache = Cache::new(10, 10_000, CacheUse::WhereItPays);
        for version in 0..100 {
            cache.put(address(), record(version));
            cache.compare(&address(), Some(version + version % 2), 1);
            cache.put(address(), record(version));
            assert_eq!(cache.take(&address()), None);
            cache.compare(&address(), Some(version), 1);
            cache.put(address(), record(version));
            cache.compare(&address(), Some(version + 1), 1);
        }
    }
}
