//! Which envelopes an address has already taken: the newest in its record, and spilled segments of the rest.

use std::time::Duration;

use crate::{id::EnvelopeId, time::Timestamp};

/// The newest accepted envelope ids of one address, in its record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Accepted ids, oldest first.
    pub inline: Vec<EnvelopeId>,
    /// The latest moment at which any was accepted, by the clocks of those who did.
    pub newest: Timestamp,
    /// Nothing accepted after this moment is missing from `inline`.
    pub floor: Timestamp,
    /// The number of the next segment.
    pub next_segment: u64,
}

/// How much of the ledger stays in the record.
///
/// DynamoDB bills a write by the whole item, in units of 1 KB. So ids stay in the record while they fit into a unit that is paid
/// anyway, and are spilled when they would begin another: a segment then costs one unit for some fifty envelopes, and a record with
/// 100 bytes of state and one with 900 are both written for one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerShape {
    /// What is billed as one, in bytes.
    pub unit: usize,
    /// Ids that a record has room for at least, if need be in a further unit: a segment for fewer is not worth its call.
    pub least: usize,
    /// Ids that a record has room for at most, however large its unit.
    pub most: usize,
}

impl Default for LedgerShape {
    /// 56 ids and their key are a segment of 1 KB.
    fn default() -> Self {
        Self { unit: 1_024, least: 8, most: 56 }
    }
}

impl LedgerShape {
    /// How many ids fit into a record that takes so many bytes without them, and gets `fresh` new ones. Where these would fill what is
    /// left of a unit again and again, a further one costs no more than the segments.
    #[must_use]
    pub fn room(self, bytes: usize, fresh: usize) -> usize {
        let needed = bytes + (2 * fresh).max(self.least) * ID_BYTES;
        let units = needed.div_ceil(self.unit.max(1));
        ((units * self.unit).saturating_sub(bytes) / ID_BYTES).min(self.most)
    }
}

/// Entries that left the record, kept beside it until they expire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Counted up per address.
    pub number: u64,
    /// Spilled ids.
    pub ids: Vec<EnvelopeId>,
    /// None of them was accepted after this moment.
    pub newest: Timestamp,
    /// From when on the segment may be deleted.
    pub expires: Timestamp,
    /// Whether ids that only this commit accepts are among them: then it must be stored with the commit or not at all. Ids that
    /// an earlier commit accepted may be stored before it, since they stay true if it fails.
    pub fresh: bool,
}

/// Bytes of an id.
const ID_BYTES: usize = 16;

impl Ledger {
    /// Whether the id is in the record.
    #[must_use]
    pub fn holds(&self, id: EnvelopeId) -> bool {
        self.inline.contains(&id)
    }

    /// Adds accepted ids. If that makes more than `room`, all earlier ones come back as a segment; if even the new ones alone are
    /// more, all do.
    #[must_use]
    pub fn accept(&mut self, mut ids: Vec<EnvelopeId>, now: Timestamp, room: usize, horizon: Duration) -> Option<Segment> {
        let before = self.newest;
        self.newest = before.max(now);
        if self.inline.len() + ids.len() <= room || ids.is_empty() {
            self.inline.append(&mut ids);
            return None;
        }
        let fresh = ids.len() > room;
        let newest = if fresh { self.newest } else { before };
        let mut spilled = std::mem::take(&mut self.inline);
        if fresh {
            spilled.append(&mut ids)
        } else {
            self.inline = ids
        };
        self.floor = self.floor.max(newest);
        let number = self.next_segment;
        self.next_segment += 1;
        Some(Segment { number, ids: spilled, newest, expires: now.max(newest).plus(horizon), fresh })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_fill_the_unit_that_is_paid_anyway() {
        let shape = LedgerShape::default();
        assert_eq!(shape.room(0, 1), 56);
        assert_eq!(shape.room(300, 1), 45);
        assert_eq!(shape.room(1_024 - 8 * 16, 4), 8);
        assert_eq!(shape.room(1_024 - 8 * 16 + 1, 1), 56, "a further unit");
        assert_eq!(shape.room(1_024 - 8 * 16, 5), 56, "a further unit, rather than a segment for each commit");
        assert_eq!(shape.room(0, 1_000), 56);
    }

    proptest! {
        /// Whatever was accepted after the floor is inline; whatever was spilled is in exactly one segment.
        #[test]
        fn nothing_is_forgotten(batches in proptest::collection::vec((0_usize..9, 0_u64..50, 0_usize..7), 1..40)) {
            let (mut ledger, mut all, mut segments) = (Ledger::default(), Vec::new(), Vec::new());
            for (count, time, room) in batches {
                let now = Timestamp(100 + time); // clocks of different environments: not sorted
                let ids: Vec<_> = (0..count).map(|index| EnvelopeId(((all.len() + index) as u128).to_be_bytes())).collect();
                all.extend(ids.iter().map(|id| (*id, now)));
                let segment = ledger.accept(ids.clone(), now, room, Duration::from_millis(10));
                prop_assert!(segment.iter().all(|segment| segment.fresh == segment.ids.iter().any(|id| ids.contains(id))));
                prop_assert!(segment.iter().all(|segment| !segment.ids.is_empty()));
                segments.extend(segment);
                prop_assert!(count == 0 || ledger.inline.len() <= room);
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
