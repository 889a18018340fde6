//! The mark of an outbox: what proves later that all of it was sent, so that nobody pays a write to clear it.
//!
//! While anything of a group is unacknowledged, nothing later of it is delivered; and a run acknowledges only once all that it committed is
//! sent. So a delivery from beyond all that a run had dealt with proves that the run acknowledged it, and that its outbox was sent. This
//! holds only because nothing but an acknowledgement takes a message out of a function's queue before the mark ends: no redrive, no
//! purge, no shorter retention.
//!
//! A *nudge*, an envelope without messages, is sent to addresses that nothing else comes to: its run proves or sends what stands, and clears
//! it.

use std::time::Duration;

use crate::{
    protocol::classify::{Delivered, Protocol},
    record::{LastSeq, Mark, Outbox},
    safeguard::Safeguard,
    time::Timestamp,
};

/// How long marks are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// How long the functions' queues keep a message. The queues may keep it longer, never shorter.
    pub retention: Duration,
    /// A mark ends so long before the first of its deliveries expires.
    pub reserve: Duration,
    /// A mark ends after this at the latest.
    pub longest: Duration,
    /// A nudge comes so long before a mark ends.
    pub nudge_before: Duration,
}

/// What a mark loses of its time, for what lies between a clock that is read and what is done then.
const SLACK: Duration = Duration::from_secs(120);
/// How old an outbox without a mark may become before it is looked after: its message comes again by then, if it was not acknowledged.
const UNMARKED_FOR: Duration = Duration::from_secs(900);
/// How old an outbox may become with marks switched off: three daily sweeps have nudged it by then.
const OVERDUE: Duration = Duration::from_secs(3 * 86_400);

impl Marks {
    /// For queues that keep messages for so long.
    #[must_use]
    pub const fn of_retention(retention: Duration) -> Self {
        const DAY: u64 = 86_400;
        Self {
            retention,
            reserve: Duration::from_secs(DAY),
            longest: Duration::from_secs(3 * DAY),
            nudge_before: Duration::from_secs(2 * DAY),
        }
    }
}

impl Protocol {
    /// The mark of an outbox of a run that `began` then and dealt with these deliveries, all of its commits taken together. `None` if nothing
    /// would prove it for long enough: then it has to be cleared.
    #[must_use]
    pub fn mark(&self, covered: &[Delivered], began: Timestamp) -> Option<Mark> {
        let marks = self.marks?;
        let queue = covered.first()?.seq.queue;
        if covered.iter().any(|delivered| delivered.seq.queue != queue) {
            return None;
        }
        let seq = covered.iter().map(|delivered| delivered.seq.seq).max()?;
        let oldest = covered.iter().map(|delivered| delivered.enqueued_at).min()?;
        let expires = match self.safeguards.on(Safeguard::MarkExpires) {
            true => oldest.plus(marks.retention).minus(marks.reserve),
            false => Timestamp(u64::MAX),
        };
        let until = expires.min(began.plus(marks.longest)).minus(SLACK);
        (until > began.plus(self.margin)).then_some(Mark { above: LastSeq { queue, seq }, until })
    }

    /// Whether these deliveries, all that an invocation has of the address, prove at `now` that the outbox with this mark was sent.
    #[must_use]
    pub fn proves(&self, mark: Mark, delivered: &[Delivered], now: Timestamp) -> bool {
        let on = |safeguard| self.safeguards.on(safeguard);
        let all = |proves: fn(&Mark, &Delivered) -> bool| delivered.iter().all(|delivered| proves(&mark, delivered));
        let of_its_queue = all(|mark, delivered| delivered.seq.queue == mark.above.queue) || !on(Safeguard::ProofQueue);
        let above = all(|mark, delivered| delivered.seq.seq > mark.above.seq) || !on(Safeguard::ProofAbove);
        let in_time = now.plus(self.margin) < mark.until || !on(Safeguard::ProofInTime);
        !delivered.is_empty() && of_its_queue && above && in_time
    }

    /// Whether an outbox that stands needs a nudge at `now`. With marks switched off, each marked one does.
    #[must_use]
    pub fn needs_nudge(&self, outbox: &Outbox, now: Timestamp) -> bool {
        match (outbox.mark, self.marks) {
            (None, _) => now > outbox.made_at.plus(UNMARKED_FOR),
            (Some(_), None) => true,
            (Some(mark), Some(marks)) => now.plus(marks.nudge_before) > mark.until,
        }
    }

    /// Whether an outbox that stands at `now` was nudged for so long that something must keep its function from working.
    #[must_use]
    pub fn is_overdue(&self, outbox: &Outbox, now: Timestamp) -> bool {
        let longest = self.marks.map_or(OVERDUE, |marks| marks.longest);
        outbox.made_at > Timestamp::ZERO && now > outbox.made_at.plus(longest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Address, Effect, Envelope, EnvelopeId};

    const DAY: u64 = 86_400_000;
    const NOW: Timestamp = Timestamp(100 * DAY);
    const SLACK_AND_MARGIN: u64 = 180_000;

    fn protocol() -> Protocol {
        Protocol { marks: Some(Marks::of_retention(Duration::from_secs(14 * 86_400))), ..Protocol::default() }
    }

    fn delivered(queue: u64, seq: u128, days_old: u64) -> Delivered {
        let envelope = Envelope::nudge(Address::parse("a/b/c").unwrap(), NOW);
        let enqueued_at = Timestamp(NOW.0 - days_old * DAY);
        Delivered { envelope: Arc::new(envelope), seq: LastSeq { queue, seq }, enqueued_at, receive_count: 1 }
    }

    fn mark() -> Mark {
        protocol().mark(&[delivered(1, 7, 0), delivered(1, 9, 0)], NOW).unwrap()
    }

    #[test]
    fn a_mark_is_above_all_that_its_run_dealt_with_and_ends_before_the_first_of_it_expires() {
        assert_eq!(mark(), Mark { above: LastSeq { queue: 1, seq: 9 }, until: Timestamp(NOW.0 + 3 * DAY).minus(SLACK) });
        let old = protocol().mark(&[delivered(1, 7, 12), delivered(1, 9, 0)], NOW).unwrap();
        assert_eq!(old.until, Timestamp(NOW.0 + DAY).minus(SLACK));
    }

    #[test]
    fn there_is_no_mark_that_nothing_could_prove() {
        assert_eq!(protocol().mark(&[delivered(1, 7, 13)], NOW), None, "it expires in a day");
        assert_eq!(protocol().mark(&[delivered(1, 7, 0), delivered(2, 9, 0)], NOW), None, "two queues");
        assert_eq!(protocol().mark(&[], NOW), None);
        assert_eq!(Protocol::default().mark(&[delivered(1, 7, 0)], NOW), None, "switched off");
    }

    #[test]
    fn only_what_all_lies_beyond_a_mark_proves_it() {
        let proves = |delivered: &[Delivered], now| protocol().proves(mark(), delivered, now);
        assert!(proves(&[delivered(1, 10, 0), delivered(1, 11, 0)], NOW));
        assert!(!proves(&[delivered(1, 9, 0), delivered(1, 11, 0)], NOW), "one of its own");
        assert!(!proves(&[delivered(2, 10, 0)], NOW), "another queue");
        assert!(!proves(&[], NOW), "nothing was delivered");
        let end = Timestamp(mark().until.0 - 60_000);
        assert!(proves(&[delivered(1, 10, 0)], Timestamp(end.0 - 1)));
        assert!(!proves(&[delivered(1, 10, 0)], end), "too late by the margin");
    }

    #[test]
    fn what_nothing_else_comes_to_is_nudged() {
        let entries = || vec![Effect::Cancel { timer: EnvelopeId([2; 16]), due: NOW }];
        let outbox = |mark| Outbox { made_at: NOW, mark, ..entries().into() };
        let needs = |mark, after| protocol().needs_nudge(&outbox(mark), Timestamp(NOW.0 + after));
        assert!(!needs(None, 900_000) && needs(None, 900_001));
        assert!(!needs(Some(mark()), DAY - SLACK_AND_MARGIN) && needs(Some(mark()), DAY));
        assert!(Protocol::default().needs_nudge(&outbox(Some(mark())), NOW), "they are switched off");
        let overdue = |after| protocol().is_overdue(&outbox(Some(mark())), Timestamp(NOW.0 + after));
        assert!(!overdue(3 * DAY) && overdue(3 * DAY + 1));
        assert!(protocol().needs_nudge(&Outbox { made_at: Timestamp::ZERO, ..outbox(None) }, NOW), "an older version's");
    }
}
