//! When a cached record may be used. A right one saves a read; a wrong one costs a call of the handler and a write that is refused and billed.
//!
//! An event source gives no group to a fixed environment: with several busy ones a record in a cache is usually stale. So each process
//! measures how often its own are right, and commits from the cache only where that pays.

/// Dollars per million units, as ratio: a write unit against a strongly consistent read unit. Source: DynamoDB's on-demand prices.
const WRITE: f64 = 0.625;
const READ: f64 = 0.125;
/// Bytes of a write unit, and of a read unit.
const WRITE_UNIT: usize = 1_024;
const READ_UNIT: usize = 4_096;

/// What was seen counts less with each further batch: about the last fifty count.
const FADES: f64 = 0.98;
/// So many batches at least, faded, before a rate is one.
const ENOUGH: f64 = 16.0;

/// How often the records in a cache were what the store had, of late.
#[derive(Debug, Clone, Copy, Default)]
pub struct HitRate {
    right: f64,
    seen: f64,
}

impl HitRate {
    /// A cached record was compared with the stored one: by a read, or by the condition of a commit. `among` is the number of addresses in
    /// its batch, at least 1. Those that came together once often come together again, and are then right or wrong together: a whole batch
    /// counts as one look.
    pub fn note(&mut self, right: bool, among: usize) {
        let look = 1.0 / among.max(1) as f64;
        let fades = FADES.powf(look);
        self.right = self.right * fades + if right { look } else { 0.0 };
        self.seen = self.seen * fades + look;
    }

    /// Whether committing from the cache is cheaper than reading first, for a record of so many bytes. Not before enough was seen.
    #[must_use]
    pub fn pays(&self, record_bytes: usize) -> bool {
        let units = |unit| record_bytes.max(1).div_ceil(unit) as f64;
        let (write, read) = (WRITE * units(WRITE_UNIT), READ * units(READ_UNIT));
        self.seen >= ENOUGH && self.right / self.seen > write / (write + read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(right: usize, wrong: usize) -> HitRate {
        let mut rate = HitRate::default();
        for _ in 0..20 {
            (0..wrong).for_each(|_| rate.note(false, 1));
            (0..right).for_each(|_| rate.note(true, 1));
        }
        rate
    }

    #[test]
    fn the_cache_pays_only_with_affinity() {
        assert!(rate(1, 0).pays(700));
        assert!(!rate(1, 1).pays(700), "two environments");
        // 83 % at 1 KB, 91 % at 2 KB.
        assert!(rate(9, 1).pays(1_000) && !rate(6, 2).pays(1_000));
        assert!(rate(19, 1).pays(2_000) && !rate(6, 1).pays(2_000));
    }

    #[test]
    fn a_process_that_cannot_know_reads() {
        let mut rate = HitRate::default();
        (0..19).for_each(|_| rate.note(true, 1));
        assert!(!rate.pays(100));
    }

    #[test]
    fn a_batch_counts_as_one_look() {
        let mut rate = HitRate::default();
        // Ten environments: a tenth of the batches comes back to the one that had it last.
        for batch in 0..100 {
            (0..10).for_each(|_| rate.note(batch % 10 < 2, 10));
            assert!(!rate.pays(700), "batch {batch}");
        }
        (0..200).for_each(|_| rate.note(true, 10));
        assert!(!rate.pays(700), "twenty of about fifty");
        (0..1_000).for_each(|_| rate.note(true, 10));
        assert!(rate.pays(700));
    }

    #[test]
    fn what_was_long_ago_counts_no_more() {
        let mut rate = rate(1, 0);
        (0..100).for_each(|_| rate.note(false, 1));
        assert!(!rate.pays(100));
        (0..300).for_each(|_| rate.note(true, 1));
        assert!(rate.pays(100));
    }
}
