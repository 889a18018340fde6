//! Whether a delivered envelope is new. The only place that decides it.

use std::{sync::Arc, time::Duration};

use crate::{
    envelope::Envelope,
    protocol::{ledger::LedgerShape, proof::Marks},
    record::{LastSeq, Record},
    safeguard::{Safeguard, Safeguards},
    time::Timestamp,
};

/// An envelope as a queue delivered it.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The envelope.
    pub envelope: Arc<Envelope>,
    /// The queue and the envelope's place in it. Rises within an address; a re-sent copy has a new one.
    pub seq: LastSeq,
    /// When the queue took it.
    pub enqueued_at: Timestamp,
    /// How often it was delivered, this time included: 1 the first time.
    pub receive_count: u32,
}

/// The times that the proof of "new" rests on.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// How long a queue refuses a second copy of an id (SQS FIFO: 5 minutes).
    pub dedup_window: Duration,
    /// By how much clocks may differ.
    pub margin: Duration,
    /// How long the ledger remembers: longer than any queue keeps a message (SQS: 14 days) and any mark lasts (3 days), with some to spare. An
    /// outbox that nobody cleared may be sent again until then.
    pub horizon: Duration,
    /// How much of the ledger is inline.
    pub ledger: LedgerShape,
    /// Whether later deliveries may prove that an outbox was sent. Without it each outbox is cleared by a write: one more per commit that
    /// sends, and a simpler argument. A backend that hands an outbox over with its commit needs none.
    pub marks: Option<Marks>,
    /// What tests may switch off.
    pub safeguards: Safeguards,
}

impl Default for Protocol {
    fn default() -> Self {
        Self {
            dedup_window: Duration::from_secs(300),
            margin: Duration::from_secs(60),
            horizon: Duration::from_secs(21 * 86_400),
            ledger: LedgerShape::default(),
            marks: None,
            safeguards: Safeguards::default(),
        }
    }
}

/// What is known of a delivered envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Already applied (or already given up).
    Duplicate,
    /// Not applied yet.
    New,
    /// Only the spilled segments can tell; entries accepted at `since` or later have to be looked at.
    Ask {
        /// Segments whose newest entry is older need not be read.
        since: Timestamp,
    },
    /// Older than the horizon: nothing can tell any more.
    TooOld,
    /// It is at or below the record's `last_seq`, but was enqueued later than that was set: so the queue is another one under the same
    /// name, or the number was made up. Forget the mark ([`Turn::forget_last_seq`](crate::Turn::forget_last_seq)), and classify again.
    WrongLastSeq,
}

impl Protocol {
    /// How long an accepted id is remembered: for the horizon, by any clock.
    #[must_use]
    pub fn kept(&self) -> Duration {
        self.horizon.saturating_add(self.margin)
    }

    /// Decides by the record alone, if it can.
    #[must_use]
    pub fn classify(&self, record: &Record, delivered: &Delivered, now: Timestamp) -> Verdict {
        let on = |safeguard| self.safeguards.on(safeguard);
        let envelope = &delivered.envelope;
        let taken = |last: LastSeq| last.queue == delivered.seq.queue && delivered.seq.seq <= last.seq;
        if on(Safeguard::LastSeq) && record.last_seq.is_some_and(taken) {
            let known = record.last_at > Timestamp::ZERO;
            let later = known && delivered.enqueued_at > record.last_at.plus(self.margin);
            return if later && on(Safeguard::WrongLastSeq) { Verdict::WrongLastSeq } else { Verdict::Duplicate };
        }
        let kept = if on(Safeguard::KeyHorizon) { now.minus(self.kept()) } else { Timestamp::ZERO };
        if on(Safeguard::InlineLedger) && record.ledger.holds(envelope.id, kept) {
            return Verdict::Duplicate;
        }
        // No first copy can have been accepted before this moment, unless the producer named its own key.
        let earliest = match envelope.keyed && on(Safeguard::KeyedLookup) {
            true => Timestamp::ZERO,
            false => envelope.sent_at.minus(self.margin),
        };
        if record.ledger.next_segment == 0 || record.ledger.floor < earliest {
            return Verdict::New;
        }
        let age = delivered.enqueued_at.since(envelope.sent_at);
        let fresh = age < self.dedup_window.saturating_sub(self.margin) || !on(Safeguard::DedupWindow);
        // After a move to another queue the mark of the former one is gone, and with it the proof against its redeliveries. And this queue
        // never saw the copies that came by the former: it refuses none of what was sent before.
        let stayed = earliest > record.moved_at || !on(Safeguard::MovedAt);
        let marked = record.last_seq.is_none_or(|last| last.queue == delivered.seq.queue) && stayed;
        if fresh && marked && earliest > Timestamp::ZERO {
            return Verdict::New;
        }
        if on(Safeguard::Horizon) && now > envelope.sent_at.plus(self.horizon) {
            return Verdict::TooOld;
        }
        match on(Safeguard::Segments) {
            true => Verdict::Ask { since: earliest },
            false => Verdict::New,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, EnvelopeId, TypeName, TypedValue, protocol::ledger::Taken};

    const MINUTE: u64 = 60_000;
    const NOW: Timestamp = Timestamp(100 * MINUTE);

    fn delivered(seq: u128, sent: u64, enqueued: u64) -> Delivered {
        let envelope = Envelope {
            id: EnvelopeId([1; 16]),
            to: Address::parse("a/b/c").unwrap(),
            from: None,
            sent_at: Timestamp(sent * MINUTE),
            keyed: false,
            hops: 0,
            trace: None,
            messages: vec![TypedValue::absent(TypeName::from_static("a/b"))],
        };
        let seq = LastSeq { queue: 1, seq };
        Delivered { envelope: Arc::new(envelope), seq, enqueued_at: Timestamp(enqueued * MINUTE), receive_count: 1 }
    }

    fn record(floor: u64) -> Record {
        let mut record = Record { last_seq: Some(LastSeq { queue: 1, seq: 10 }), ..Record::default() };
        record.ledger.floor = Timestamp(floor * MINUTE);
        record.ledger.next_segment = u64::from(floor > 0);
        record
    }

    fn classify(record: &Record, delivered: &Delivered) -> Verdict {
        Protocol::default().classify(record, delivered, NOW)
    }

    #[test]
    fn sequence_numbers_count_within_their_queue_only() {
        assert_eq!(classify(&record(0), &delivered(10, 90, 90)), Verdict::Duplicate);
        assert_eq!(classify(&record(0), &delivered(11, 90, 90)), Verdict::New);
        let mut moved = delivered(3, 90, 90);
        moved.seq.queue = 2;
        assert_eq!(classify(&record(0), &moved), Verdict::New);
    }

    #[test]
    fn the_record_decides_down_to_its_floor() {
        let mut known = record(95);
        known.ledger.inline.push(Taken::new(EnvelopeId([1; 16]), NOW));
        assert_eq!(classify(&known, &delivered(11, 90, 90)), Verdict::Duplicate);
        assert_eq!(classify(&record(88), &delivered(11, 90, 99)), Verdict::New);
        // within the margin of the floor the record proves nothing
        assert_eq!(classify(&record(89), &delivered(11, 90, 99)), Verdict::Ask { since: Timestamp(89 * MINUTE) });
    }

    /// A queue that was deleted and made anew under its name counts from lower numbers on; and an operator may make one up.
    #[test]
    fn a_mark_is_wrong_if_what_it_covers_was_enqueued_later() {
        let known = |last_at| Record { last_at: Timestamp(last_at * MINUTE), ..record(0) };
        assert_eq!(classify(&known(90), &delivered(10, 90, 91)), Verdict::Duplicate, "within the margin");
        assert_eq!(classify(&known(90), &delivered(10, 90, 92)), Verdict::WrongLastSeq);
        assert_eq!(classify(&known(90), &delivered(11, 90, 92)), Verdict::New);
        assert_eq!(classify(&known(0), &delivered(10, 90, 92)), Verdict::Duplicate, "an older version did not note when");
    }

    /// A clock that says zero must not make a ledger look as if nothing had ever been spilled.
    #[test]
    fn what_was_spilled_at_time_zero_is_asked_for() {
        let mut known = record(0);
        known.ledger.next_segment = 1;
        assert_eq!(classify(&known, &delivered(11, 1, 60)), Verdict::Ask { since: Timestamp::ZERO });
    }

    #[test]
    fn a_producers_key_may_be_used_again_after_the_horizon() {
        let mut keyed = delivered(11, 90, 90);
        let envelope = Arc::make_mut(&mut keyed.envelope);
        (envelope.keyed, envelope.id) = (true, EnvelopeId([0x81; 16]));
        let protocol = Protocol::default();
        let mut known = record(0);
        known.ledger.inline.push(Taken::new(EnvelopeId([0x81; 16]), NOW));
        let last = NOW.plus(protocol.kept());
        assert_eq!(protocol.classify(&known, &keyed, last), Verdict::Duplicate);
        assert_eq!(protocol.classify(&known, &keyed, last.plus(Duration::from_secs(1))), Verdict::New);
    }

    #[test]
    fn a_fresh_envelope_is_the_queues_first_copy() {
        assert_eq!(classify(&record(95), &delivered(11, 90, 93)), Verdict::New);
        assert_eq!(classify(&record(95), &delivered(11, 90, 94)), Verdict::Ask { since: Timestamp(89 * MINUTE) });
    }

    #[test]
    fn a_producers_own_key_is_never_taken_for_fresh() {
        let mut keyed = delivered(11, 90, 90);
        Arc::make_mut(&mut keyed.envelope).keyed = true;
        assert_eq!(classify(&record(1), &keyed), Verdict::Ask { since: Timestamp::ZERO });
        assert_eq!(classify(&record(0), &keyed), Verdict::New, "nothing was ever spilled");
    }

    #[test]
    fn too_old_unless_proven() {
        let protocol = Protocol::default();
        let late = Timestamp(90 * MINUTE).plus(protocol.horizon).plus(Duration::from_millis(1));
        assert_eq!(protocol.classify(&record(95), &delivered(11, 90, 95), late), Verdict::TooOld);
        assert_eq!(protocol.classify(&record(95), &delivered(11, 90, 90), late), Verdict::New, "the queue's first copy");
        assert_eq!(protocol.classify(&record(0), &delivered(11, 90, 95), late), Verdict::New, "nothing was ever spilled");
        assert_eq!(protocol.classify(&record(95), &delivered(9, 90, 95), late), Verdict::Duplicate);
    }

    #[test]
    fn a_move_between_queues_ends_the_proof_by_freshness() {
        let mut moved = delivered(3, 90, 90);
        moved.seq.queue = 2;
        assert_eq!(classify(&record(95), &moved), Verdict::Ask { since: Timestamp(89 * MINUTE) });
    }

    #[test]
    fn what_was_sent_before_a_move_is_never_taken_for_fresh() {
        let mut known = record(95);
        known.moved_at = Timestamp(92 * MINUTE);
        assert_eq!(classify(&known, &delivered(11, 93, 95)), Verdict::Ask { since: Timestamp(92 * MINUTE) });
        assert_eq!(classify(&known, &delivered(11, 94, 95)), Verdict::New);
    }
}
