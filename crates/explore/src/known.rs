//! Parts of a world that worlds share, each with its hash: a step then copies and hashes only what it changes.

use std::{
    cell::RefCell,
    fmt::{Debug, Write as _},
    hash::BuildHasher as _,
    ops::Deref,
    sync::Arc,
};

use foldhash::{SharedSeed, quality::SeedableRandomState};

/// A value that does not change, and a hash of what can be seen of it.
#[derive(Debug)]
pub(crate) struct Known<T>(Arc<(T, u128)>);

impl<T: Debug> Known<T> {
    pub(crate) fn new(value: T) -> Self {
        thread_local!(static TEXT: RefCell<String> = const { RefCell::new(String::new()) });
        let hash = TEXT.with_borrow_mut(|text| {
            text.clear();
            // Writing to memory cannot fail.
            let _ = write!(text, "{value:?}");
            digest(text.as_bytes())
        });
        Self(Arc::new((value, hash)))
    }
}

impl<T> Known<T> {
    pub(crate) fn hash(&self) -> u128 {
        self.0.1
    }

    /// The hash of a part that may be missing.
    pub(crate) fn hash_of(part: Option<&Self>) -> u128 {
        part.map_or(0, Self::hash)
    }
}

impl<T> Clone for Known<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Known<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.0
    }
}

/// 128 bits, of two hashes that have no seed in common: that two worlds differ and have one is not to be expected.
pub(crate) fn digest<T: std::hash::Hash + ?Sized>(value: &T) -> u128 {
    static SEEDS: [SharedSeed; 2] = [SharedSeed::from_u64(1), SharedSeed::from_u64(2)];
    let [high, low] = [3, 4].map(|seed| SeedableRandomState::with_seed(seed, &SEEDS[seed as usize - 3]).hash_one(value));
    u128::from(high) << 64 | u128::from(low)
}
