//! From a turn to its acknowledgement: commit, send, clear.

use crate::{
    effects::Effect,
    limits::MAX_MARKED_BYTES,
    protocol::turn::{Commit, Turn},
    record::{Mark, Outbox, Record},
    safeguard::Safeguard,
    stored::outbox_bytes,
    time::Timestamp,
};

use super::{
    batch::Batch,
    event::{Committed, Halt, Notice, Progress},
    state::{Hand, Planned, Rest, Sending, State, Why},
};

impl Batch {
    /// What an earlier run left in the outbox is sent before anything new.
    pub(super) fn leftover(&mut self, mut hand: Hand) -> State {
        let outbox = std::mem::take(&mut hand.record.outbox);
        if outbox.is_empty() || !self.on_guard(Safeguard::DrainLeftover) {
            return self.turn_after_leftover(hand);
        }
        let proven = outbox.mark.is_some_and(|mark| self.rules.protocol.proves(mark, &self.deliveries, self.at.now));
        if !proven {
            return self.send(hand, outbox, Why::Leftover);
        }
        self.notices.push(Notice::Proven);
        // A commit takes it along; if there is none it is cleared.
        hand.unfinished = true;
        self.turn_after_leftover(hand)
    }

    fn turn_after_leftover(&mut self, hand: Hand) -> State {
        match self.closing.take() {
            Some(rest) => self.finish(hand, rest),
            None => self.begin_turn(hand),
        }
    }

    /// The turn is to be written.
    pub(super) fn commit(&mut self, turn: Turn, unfinished: bool, rest: Rest) -> State {
        let mut commit = turn.commit(self.at.now);
        let letters = self.letters_outside_of(&mut commit);
        if !commit.record.outbox.is_empty() {
            commit.record.outbox.made_at = self.at.now;
            commit.record.outbox.mark = self.mark(&commit.record, rest.upto);
        }
        let clears = !commit.record.outbox.is_empty() && commit.record.outbox.mark.is_none();
        let (noted, goes_on) = (self.suspicion.stands(&commit.record), rest.more || clears);
        if (self.leased || noted) && goes_on {
            (self.leased, commit.record.lease) = (true, Some(self.lease));
        }
        self.suspicion.before_noting(&commit);
        State::Committing(Box::new(Planned { commit, unfinished, rest, letters }))
    }

    /// The mark of what the record sends, whose turn dealt with the deliveries before `upto`. An outbox that is big has none: it is removed as soon
    /// as it can be, with what a store keeps of it apart from the record.
    fn mark(&self, record: &Record, upto: usize) -> Option<Mark> {
        if outbox_bytes(&record.outbox) > MAX_MARKED_BYTES {
            return None;
        }
        let left_half_done = self.deliveries.get(upto).is_some_and(|delivered| record.done_of(delivered.envelope.id) > 0);
        let covered = upto + usize::from(left_half_done && self.on_guard(Safeguard::MarkCovers));
        self.rules.protocol.mark(self.deliveries.get(..covered)?, self.began)
    }

    /// Without [`Safeguard::ParkInOutbox`] the dead letters go beside the outbox, after the commit.
    fn letters_outside_of(&self, commit: &mut Commit) -> Vec<Effect> {
        if self.on_guard(Safeguard::ParkInOutbox) {
            return Vec::new();
        }
        let outbox = std::mem::take(&mut commit.record.outbox.entries);
        let (letters, outbox) = outbox.into_iter().partition(|effect| matches!(effect, Effect::DeadLetter(_)));
        commit.record.outbox.entries = outbox;
        letters
    }

    /// The store answered.
    pub(super) fn written(&mut self, planned: Box<Planned>, committed: Committed) -> State {
        if committed == Committed::Fenced {
            return self.fenced(planned.commit);
        }
        self.notices.push(Notice::Committed { cached: std::mem::take(&mut self.warm) });
        self.leased = planned.commit.record.lease.is_some();
        // What the commit before this one sent stands in the record no more.
        self.acknowledged = self.next;
        match self.needs_barrier(&planned.commit.record) {
            true => State::Barrier(planned, committed),
            false => self.noted(planned, committed),
        }
    }

    fn fenced(&mut self, commit: Commit) -> State {
        if self.on_guard(Safeguard::DropStaleCache) {
            return self.refused();
        }
        self.kept = Some(Box::new(Record { version: commit.expect, ..commit.record }));
        self.halt(Halt::Busy)
    }

    /// What a commit wrote is as durable as it has to be: on with its outbox.
    pub(super) fn noted(&mut self, planned: Box<Planned>, committed: Committed) -> State {
        let Planned { commit, unfinished, rest, letters } = *planned;
        self.after_noting(&commit.record);
        let mut hand = Hand { record: commit.record, unfinished };
        match committed {
            Committed::Settled => {
                self.count_sent(hand.record.outbox.entries.iter());
                hand.record.outbox = Outbox::default();
                (hand.record.lease, hand.unfinished, self.leased) = (None, false, false);
            }
            Committed::Stored | Committed::Fenced => {
                let outbox = std::mem::take(&mut hand.record.outbox);
                // With a mark it may stand, for a later delivery proves that it was sent.
                hand.unfinished = hand.record.lease.is_some() || !(outbox.is_empty() || outbox.mark.is_some());
                if !outbox.is_empty() {
                    return self.send(hand, outbox, Why::Own(rest, letters));
                }
            }
        }
        self.send_letters(hand, rest, letters)
    }

    fn send_letters(&mut self, hand: Hand, rest: Rest, letters: Vec<Effect>) -> State {
        match letters.is_empty() {
            true => self.go_on(hand, rest),
            false => {
                State::Sending(Box::new(Sending { hand, outbox: letters.into(), until: self.deadline, why: Why::Letters(rest) }))
            }
        }
    }

    fn send(&mut self, hand: Hand, outbox: Outbox, why: Why) -> State {
        let until = self.deadline.minus(self.pace.reserve / 2);
        let clear_first = matches!(why, Why::Own(..)) && !self.on_guard(Safeguard::FinishAfterDrain);
        let sending = Box::new(Sending { hand, outbox, until, why });
        if clear_first { State::ClearingFirst(sending) } else { State::Sending(sending) }
    }

    /// An outbox is sent, or a part of it. If not all of it can be sent, whoever comes next loads the rest: a cached one others might send
    /// meanwhile.
    pub(super) fn sent(&mut self, sending: Box<Sending>, progress: Progress) -> State {
        let Sending { mut hand, mut outbox, why, .. } = *sending;
        if let Why::Letters(rest) = why {
            return if progress.error.is_some() { self.halt(Halt::Port) } else { self.go_on(hand, rest) };
        }
        let Progress { sent, refused, denied, error } = progress;
        let entries = std::mem::take(&mut outbox.entries);
        let (done, left): (Vec<_>, Vec<_>) = entries.into_iter().enumerate().partition(|(place, _)| sent.contains(place));
        self.count_sent(done.iter().filter(|(place, _)| !refused.contains(place)).map(|(_, effect)| effect));
        if !refused.is_empty() {
            self.notices.push(Notice::NotTaken(refused.len()));
        }
        if left.is_empty() {
            return match why {
                Why::Leftover => {
                    hand.unfinished = true;
                    self.turn_after_leftover(hand)
                }
                Why::Own(rest, letters) => self.send_letters(hand, rest, letters),
                Why::Letters(rest) => self.go_on(hand, rest),
            };
        }
        let first_denied = denied && outbox.denied_since == Timestamp::ZERO;
        if first_denied {
            outbox.denied_since = self.at.now;
        }
        let halt = if error.is_some() { Halt::Port } else { Halt::Unsent };
        // After a failure only if it was much, for what comes again has the same ids; and never what was refused, which took its tries.
        let far = error.is_none() || done.len() >= self.pace.drain_at_once || !refused.is_empty();
        if first_denied || (far && self.on_guard(Safeguard::KeepProgress)) {
            // Its mark stays, for what proves all of it proves the rest.
            outbox.entries = left.into_iter().map(|(_, effect)| effect).collect();
            return self.keep_progress(Record { outbox, ..hand.record }, halt);
        }
        self.halt(halt)
    }

    /// Stores the rest of an outbox in place of the whole, and frees the lease. Else an outbox that one invocation has no time to send
    /// would be begun again by each, for ever.
    fn keep_progress(&self, record: Record, halt: Halt) -> State {
        let (expect, version) = (record.version, record.next_version());
        let record = Record { version, lease: None, ..record };
        let commit = Commit { address: self.address.clone(), expect, record, changed: Vec::new(), segment: None };
        State::KeepingProgress(Box::new(commit), halt)
    }

    pub(super) fn kept_progress(&mut self, committed: Committed, halt: Halt) -> State {
        match committed {
            Committed::Fenced => self.refused(),
            Committed::Stored | Committed::Settled => {
                self.leased = false;
                self.halt(halt)
            }
        }
    }

    /// A turn is committed and sent: on with the next one, or the batch is over.
    fn go_on(&mut self, hand: Hand, rest: Rest) -> State {
        self.notices.push(Notice::Applied(std::mem::take(&mut self.applied)));
        self.next = rest.upto;
        if !hand.unfinished {
            self.acknowledged = rest.upto;
        }
        if rest.more { self.begin_turn(hand) } else { self.finish(hand, rest) }
    }

    /// Clears the outbox, which is sent, and frees the lease.
    pub(super) fn finish(&mut self, hand: Hand, rest: Rest) -> State {
        match hand.unfinished {
            true => State::Finishing(Box::new(hand.record), rest),
            false => self.done_with(Box::new(hand.record), rest, true),
        }
    }

    pub(super) fn finished(&mut self, mut record: Box<Record>, rest: Rest, cleared: bool) -> State {
        if !cleared && self.on_guard(Safeguard::AckCleared) {
            // Whoever wrote meanwhile may have taken a lease only, and died: the outbox, which is sent, may still stand.
            self.closing = Some(rest);
            return self.refused();
        }
        (record.version, record.lease) = (record.next_version(), None);
        self.done_with(record, rest, cleared)
    }

    fn done_with(&mut self, record: Box<Record>, rest: Rest, cleared: bool) -> State {
        self.leased = false;
        if cleared {
            self.kept = Some(record);
        }
        self.over(rest)
    }

    pub(super) fn not_finished(&mut self, rest: Rest) -> State {
        match self.on_guard(Safeguard::AckCleared) {
            true => self.halt(Halt::Port),
            false => self.over(rest),
        }
    }

    fn count_sent<'e>(&mut self, effects: impl Iterator<Item = &'e Effect>) {
        let (mut messages, mut records, mut parked) = (0, 0, 0);
        for effect in effects {
            match effect {
                Effect::Send(envelope) => messages += envelope.messages.len(),
                Effect::Schedule(_) => messages += 1,
                Effect::Egress(_) => records += 1,
                Effect::DeadLetter(letter) => parked += letter.envelope.messages.len(),
                Effect::Cancel { .. } => {}
            }
        }
        if messages + records + parked > 0 {
            self.notices.push(Notice::Sent { messages, records, parked });
        }
    }
}
