//! Records that this environment committed last, kept so that the next batch needs no load. Their outboxes are sent and cleared.

use std::num::NonZeroUsize;

use lru::LruCache;
use statefun_core::{Address, Record, Taken};

#[derive(Debug)]
struct Kept {
    record: Box<Record>,
    bytes: usize,
}

/// A bounded cache of records. Losing one costs a load, never correctness: commits are conditional on epoch and version.
#[derive(Debug)]
pub(crate) struct Sticky {
    cache: LruCache<Address, Kept>,
    bytes: usize,
    max_bytes: usize,
}

impl Sticky {
    pub(crate) fn new(max_records: usize, max_bytes: usize) -> Self {
        let records = NonZeroUsize::new(max_records).unwrap_or(NonZeroUsize::MIN);
        Self { cache: LruCache::new(records), bytes: 0, max_bytes }
    }

    pub(crate) fn take(&mut self, address: &Address) -> Option<Box<Record>> {
        let kept = self.cache.pop(address)?;
        self.bytes -= kept.bytes;
        Some(kept.record)
    }

    /// Keeps the record; the least recently visited ones go for it.
    pub(crate) fn put(&mut self, address: Address, record: Box<Record>) {
        let bytes = weight(&record);
        self.bytes += bytes;
        if let Some((_, gone)) = self.cache.push(address, Kept { record, bytes }) {
            self.bytes -= gone.bytes;
        }
        while self.bytes > self.max_bytes
            && let Some((_, gone)) = self.cache.pop_lru()
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
