//! Which envelopes an address has already taken: an inline ring of the newest, and spilled segments of the rest.

use std::{collections::VecDeque, time::Duration};

use crate::{id::EnvelopeId, time::Timestamp};

/// The newest accepted envelope ids of one address, in its record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Accepted ids and when, oldest first.
    pub ring: VecDeque<LedgerEntry>,
    /// Nothing accepted after this moment is missing from the ring.
    pub floor: Timestamp,
    /// The number of the next segment.
    pub next_segment: u64,
}

/// One accepted envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The envelope.
    pub id: EnvelopeId,
    /// The accepting environment's clock at the commit.
    pub at: Timestamp,
}

/// How much of the ledger stays in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerShape {
    /// Entries from which on the oldest are spilled.
    pub inline: usize,
    /// Entries that stay when others are spilled. Spilling many at a time makes the costly transaction rare.
    pub keep: usize,
}

impl Default for LedgerShape {
    /// 32 entries of 24 bytes keep a record with little state under 1 KB, which is what one DynamoDB write unit pays for.
    fn default() -> Self {
        Self { inline: 32, keep: 8 }
    }
}

/// Entries that left the record, kept beside it until they expire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Counted up per address.
    pub number: u64,
    /// Spilled ids.
    pub ids: Vec<EnvelopeId>,
    /// The newest time of acceptance among them.
    pub newest: Timestamp,
    /// From when on the segment may be deleted.
    pub expires: Timestamp,
    /// Whether ids that only this commit accepts are among them: then it must be stored with the commit or not at all. Ids that
    /// an earlier commit accepted may be stored before it, since they stay true if it fails.
    pub fresh: bool,
}

impl Ledger {
    /// Whether the id is in the ring.
    #[must_use]
    pub fn holds(&self, id: EnvelopeId) -> bool {
        self.ring.iter().any(|entry| entry.id == id)
    }

    /// Adds accepted ids; what overflows comes back as a segment, to be stored in the same transaction as the record.
    #[must_use]
    pub fn accept(
        &mut self,
        ids: impl IntoIterator<Item = EnvelopeId>,
        now: Timestamp,
        shape: LedgerShape,
        horizon: Duration,
    ) -> Option<Segment> {
        let before = self.ring.len();
        self.ring.extend(ids.into_iter().map(|id| LedgerEntry { id, at: now }));
        if self.ring.len() <= shape.inline {
            return None;
        }
        // Of this commit's own ids, none leave unless the ring cannot hold them all.
        let most = self.ring.len() - shape.keep.min(shape.inline);
        let count = if self.ring.len() - before <= shape.inline { most.min(before) } else { most };
        let spilled: Vec<_> = self.ring.drain(..count).collect();
        let newest = spilled.iter().map(|entry| entry.at).max().unwrap_or(now);
        self.floor = self.floor.max(newest);
        let number = self.next_segment;
        self.next_segment += 1;
        let ids = spilled.into_iter().map(|entry| entry.id).collect();
        Some(Segment { number, ids, newest, expires: now.max(newest).plus(horizon), fresh: count > before })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever was accepted after the floor is in the ring; whatever left it is in exactly one segment.
        #[test]
        fn nothing_is_forgotten(batches in proptest::collection::vec((0_usize..9, 0_u64..50), 1..40)) {
            let shape = LedgerShape { inline: 4, keep: 2 };
            let (mut ledger, mut all, mut segments) = (Ledger::default(), Vec::new(), Vec::new());
            for (count, time) in batches {
                let now = Timestamp(100 + time); // clocks of different environments: not sorted
                let ids: Vec<_> = (0..count).map(|index| EnvelopeId(((all.len() + index) as u128).to_be_bytes())).collect();
                all.extend(ids.iter().map(|id| (*id, now)));
                let own = ids.clone();
                let segment = ledger.accept(ids, now, shape, Duration::from_millis(10));
                prop_assert!(segment.iter().all(|segment| segment.fresh == segment.ids.iter().any(|id| own.contains(id))));
                segments.extend(segment);
                prop_assert!(ledger.ring.len() <= shape.inline);
                for (id, at) in &all {
                    let spilled = segments.iter().filter(|segment| segment.ids.contains(id)).count();
                    prop_assert_eq!(spilled + usize::from(ledger.holds(*id)), 1);
                    prop_assert!(ledger.holds(*id) || *at <= ledger.floor);
                    prop_assert!(segments.iter().all(|segment| !segment.ids.contains(id) || segment.newest >= *at));
                }
            }
            prop_assert!(segments.iter().enumerate().all(|(index, segment)| segment.number == index as u64));
        }
    }
}
