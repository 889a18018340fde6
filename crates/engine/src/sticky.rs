//! Sticky leases: records this environment committed last, kept so that the next batch needs no load.

use std::num::NonZeroUsize;

use lru::LruCache;
use statefun_core::{Address, Effect, Record};

/// A record as this environment last committed it.
#[derive(Debug)]
pub(crate) struct Cached {
    pub(crate) record: Record,
    /// The outbox is sent, but the stored record still has it: the next commit clears it, or else a finish has to.
    pub(crate) unfinished: bool,
}

/// A bounded cache of records. Losing one costs a load, never correctness: commits are conditional on epoch and version.
#[derive(Debug)]
pub(crate) struct Sticky {
    cache: LruCache<Address, (Cached, usize)>,
    bytes: usize,
    max_bytes: usize,
}

impl Sticky {
    pub(crate) fn new(max_records: usize, max_bytes: usize) -> Self {
        let records = NonZeroUsize::new(max_records).unwrap_or(NonZeroUsize::MIN);
        Self { cache: LruCache::new(records), bytes: 0, max_bytes }
    }

    pub(crate) fn take(&mut self, address: &Address) -> Option<Cached> {
        let (cached, bytes) = self.cache.pop(address)?;
        self.bytes -= bytes;
        Some(cached)
    }

    /// Keeps the record; what has to go for it and is unfinished comes back.
    pub(crate) fn put(&mut self, address: Address, cached: Cached) -> Vec<(Address, Cached)> {
        let bytes = weight(&cached.record);
        let mut gone = Vec::new();
        self.bytes += bytes;
        if let Some((address, (cached, bytes))) = self.cache.push(address, (cached, bytes)) {
            self.bytes -= bytes;
            gone.push((address, cached));
        }
        while self.bytes > self.max_bytes
            && let Some((address, (cached, bytes))) = self.cache.pop_lru()
        {
            self.bytes -= bytes;
            gone.push((address, cached));
        }
        gone.retain(|(_, cached)| cached.unfinished);
        gone
    }

    /// Everything that is unfinished; the cache is empty afterwards.
    pub(crate) fn clear(&mut self) -> Vec<(Address, Cached)> {
        self.bytes = 0;
        let mut gone = Vec::new();
        while let Some((address, (cached, _))) = self.cache.pop_lru() {
            if cached.unfinished {
                gone.push((address, cached));
            }
        }
        gone
    }
}

/// About how much memory a record takes.
fn weight(record: &Record) -> usize {
    let state: usize = record.state.iter().map(|(name, stored)| name.len() + stored.value.len() + 96).sum();
    let tokens: usize = record.tokens.keys().map(|token| token.len() + 64).sum();
    let outbox: usize = record.outbox.iter().map(Effect::payload_bytes).sum();
    512 + record.ledger.ring.len() * 24 + state + tokens + outbox
}
