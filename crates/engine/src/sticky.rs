//! Sticky leases: records this environment committed last, kept so that the next batch needs no load.

use std::num::NonZeroUsize;

use lru::LruCache;
use statefun_core::{Address, Record, Timestamp};

/// A record as this environment last committed it, its outbox sent.
#[derive(Debug)]
pub(crate) struct Cached {
    pub(crate) record: Record,
    /// The outbox is sent, but the stored record still has it: the next commit clears it, or else a finish has to.
    pub(crate) unfinished: bool,
}

#[derive(Debug)]
struct Kept {
    cached: Cached,
    bytes: usize,
    since: Timestamp,
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

    pub(crate) fn take(&mut self, address: &Address) -> Option<Cached> {
        let kept = self.cache.pop(address)?;
        self.bytes -= kept.bytes;
        Some(kept.cached)
    }

    /// Keeps the record; what has to go for it and is unfinished comes back.
    pub(crate) fn put(&mut self, address: Address, cached: Cached, since: Timestamp) -> Vec<(Address, Cached)> {
        let bytes = weight(&cached.record);
        let mut gone = Vec::new();
        self.bytes += bytes;
        if let Some((address, kept)) = self.cache.push(address, Kept { cached, bytes, since }) {
            self.bytes -= kept.bytes;
            gone.push((address, kept.cached));
        }
        while self.bytes > self.max_bytes
            && let Some((address, kept)) = self.cache.pop_lru()
        {
            self.bytes -= kept.bytes;
            gone.push((address, kept.cached));
        }
        gone.retain(|(_, cached)| cached.unfinished);
        gone
    }

    /// Takes out what is unfinished and was not visited since `moment`.
    pub(crate) fn take_unfinished_since(&mut self, moment: Timestamp) -> Vec<(Address, Cached)> {
        // The least recently visited come first.
        let stale = self.cache.iter().rev().take_while(|(_, kept)| kept.since <= moment);
        let addresses: Vec<_> = stale.filter(|(_, kept)| kept.cached.unfinished).map(|(address, _)| address.clone()).collect();
        addresses.into_iter().filter_map(|address| Some((address.clone(), self.take(&address)?))).collect()
    }

    /// Everything that is unfinished; the cache is empty afterwards.
    pub(crate) fn clear(&mut self) -> Vec<(Address, Cached)> {
        self.bytes = 0;
        let mut gone = Vec::new();
        while let Some((address, Kept { cached, .. })) = self.cache.pop_lru() {
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
    512 + record.ledger.inline.len() * 16 + state + tokens
}
