//! Which envelopes an address has already taken: the newest in its record, and spilled segments of the rest.

use std::time::Duration;

use crate::{id::EnvelopeId, time::Timestamp};

/// The newest accepted envelope ids of one address, in its record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Accepted ids, oldest first.
    pub inline: Vec<Taken>,
    /// The latest moment at which any was accepted, by the clocks of those who did.
    pub newest: Timestamp,
    /// Nothing accepted after this moment is missing from `inline`.
    pub floor: Timestamp,
    /// The number of the next segment; zero as long as nothing was ever spilled.
    pub next_segment: u64,
}

/// An accepted id. Producers use their keys again, so of these ([`EnvelopeId::is_keyed`]) the record says when they were accepted: 4
/// bytes each. All other ids stand for one envelope for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The id.
    pub id: EnvelopeId,
    /// When it was accepted, in whole seconds, rounded up; only of producers' keys.
    pub at: Option<Timestamp>,
}

impl Taken {
    /// An id that is accepted at this moment.
    #[must_use]
    pub fn new(id: EnvelopeId, now: Timestamp) -> Self {
        let seconds = now.0.div_ceil(1_000);
        Self { id, at: id.is_keyed().then_some(Timestamp(seconds * 1_000)) }
    }

    /// Whether its key may be used again: it was accepted before `since`.
    fn is_forgotten(&self, since: Timestamp) -> bool {
        self.at.is_some_and(|at| at < since)
    }
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
    pub fn room(self, bytes: usize, fresh: usize, keyed: bool) -> usize {
        let each = if keyed { ID_BYTES + TIME_BYTES } else { ID_BYTES };
        let needed = bytes + (2 * fresh).max(self.least) * each;
        let units = needed.div_ceil(self.unit.max(1));
        ((units * self.unit).saturating_sub(bytes) / each).min(self.most)
    }
}

/// Entries that left the record, kept beside it until they expire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Counted up per address.
    pub number: u64,
    /// Spilled ids.
    pub ids: Vec<Spilled>,
    /// None of them was accepted after this moment.
    pub newest: Timestamp,
    /// From when on the segment may be deleted.
    pub expires: Timestamp,
    /// Whether ids that only this commit accepts are among them: then it must be stored with the commit or not at all. Ids that
    /// an earlier commit accepted may be stored before it, since they stay true if it fails.
    pub fresh: bool,
}

/// An id that left its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spilled {
    /// The id.
    pub id: EnvelopeId,
    /// Until when it counts. A producer's key is forgotten by itself, whatever stands in the same segment.
    pub expires: Timestamp,
}

/// Bytes of an id, and of the time of a producer's key.
const ID_BYTES: usize = 16;
const TIME_BYTES: usize = 4;

impl Ledger {
    /// Whether the id is in the record; a producer's key counts only if it was accepted at `since` or later.
    #[must_use]
    pub fn holds(&self, id: EnvelopeId, since: Timestamp) -> bool {
        self.inline.iter().any(|taken| taken.id == id && !taken.is_forgotten(since))
    }

    /// Whether any of its ids is a producer's key.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.inline.iter().any(|taken| taken.at.is_some())
    }

    /// Adds accepted ids, and forgets producers' keys that were accepted longer ago than `kept`. If that makes more than `room`, all earlier
    /// ones come back as a segment; if even the new ones alone are more, all do.
    #[must_use]
    pub fn accept(&mut self, ids: Vec<EnvelopeId>, now: Timestamp, room: usize, kept: Duration) -> Option<Segment> {
        let before = self.newest;
        self.newest = before.max(now);
        let mut taken: Vec<Taken> = ids.into_iter().map(|id| Taken::new(id, now)).collect();
        if !taken.is_empty() {
            self.inline.retain(|taken| !taken.is_forgotten(now.minus(kept)));
        }
        if self.inline.len() + taken.len() <= room || taken.is_empty() {
            self.inline.append(&mut taken);
            return None;
        }
        let fresh = taken.len() > room;
        let newest = if fresh { self.newest } else { before };
        let mut spilled = std::mem::take(&mut self.inline);
        if fresh {
            spilled.append(&mut taken)
        } else {
            self.inline = taken
        };
        self.floor = self.floor.max(newest);
        let number = self.next_segment;
        self.next_segment += 1;
        let expires = now.max(newest).plus(kept);
        let ids = spilled.into_iter().map(|Taken { id, at }| Spilled { id, expires: at.map_or(expires, |at| at.plus(kept)) });
        Some(Segment { number, ids: ids.collect(), newest, expires, fresh })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_fill_the_unit_that_is_paid_anyway() {
        let shape = LedgerShape::default();
        assert_eq!(shape.room(0, 1, false), 56);
        assert_eq!(shape.room(300, 1, false), 45);
        assert_eq!(shape.room(1_024 - 8 * 16, 4, false), 8);
        assert_eq!(shape.room(1_024 - 8 * 16 + 1, 1, false), 56, "a further unit");
        assert_eq!(shape.room(1_024 - 8 * 16, 5, false), 56, "a further unit, rather than a segment for each commit");
        assert_eq!(shape.room(0, 1_000, false), 56);
        assert_eq!(shape.room(124, 1, true), 45, "a producer's key takes 4 bytes more");
    }

    /// A producer's key is forgotten when its own time is over, in the record and in a segment, whatever else was accepted since.
    #[test]
    fn a_key_is_remembered_for_its_own_time() {
        let (key, other, kept) = (EnvelopeId([0x80; 16]), EnvelopeId([1; 16]), Duration::from_secs(100));
        let at = |seconds: u64| Timestamp(seconds * 1_000);
        let mut ledger = Ledger::default();
        assert_eq!(ledger.accept(vec![key, other], at(1_000), 4, kept), None);
        assert!(ledger.holds(key, at(1_000)) && !ledger.holds(key, at(1_001)));
        assert!(ledger.holds(other, at(9_000)), "only producers use ids again");
        assert_eq!(ledger.accept(vec![EnvelopeId([2; 16])], at(1_050), 4, kept), None);
        let mut again = ledger.clone();
        let spilled = again.accept(vec![EnvelopeId([3; 16])], at(1_060), 3, kept).unwrap();
        assert_eq!(spilled.ids[0], Spilled { id: key, expires: at(1_100) });
        assert_eq!(spilled.ids[1], Spilled { id: other, expires: spilled.expires });
        assert_eq!(ledger.accept(vec![key], at(1_200), 4, kept), None);
        assert_eq!(ledger.inline.iter().filter(|taken| taken.id == key).count(), 1, "the old one is gone");
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
                prop_assert!(segment.iter().all(|segment| segment.fresh == segment.ids.iter().any(|spilled| ids.contains(&spilled.id))));
                prop_assert!(segment.iter().all(|segment| !segment.ids.is_empty()));
                segments.extend(segment);
                prop_assert!(count == 0 || ledger.inline.len() <= room);
                for (id, at) in &all {
                    let has = |segment: &Segment| segment.ids.iter().any(|spilled| spilled.id == *id);
                    let held = ledger.holds(*id, Timestamp::ZERO);
                    prop_assert_eq!(segments.iter().filter(|segment| has(segment)).count() + usize::from(held), 1);
                    prop_assert!(held || *at <= ledger.floor);
                    prop_assert!(segments.iter().all(|segment| !has(segment) || segment.newest >= *at));
                }
            }
            prop_assert!(segments.iter().enumerate().all(|(index, segment)| segment.number == index as u64));
        }
    }
}
