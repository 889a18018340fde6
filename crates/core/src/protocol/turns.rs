//! What a turn takes of the deliveries: which are new, their handlers, and what becomes of failures.

use std::{ops::Range, time::Duration};

use crate::{
    effects::Reason,
    error::FunctionError,
    function_spec::OnFailure,
    id::EnvelopeId,
    protocol::classify::{Delivered, Verdict},
    protocol::failure::{Failure, Next},
    protocol::turn::{Turn, Unreadable},
    record::{Note, Record, Trial},
    safeguard::Safeguard,
    time::Timestamp,
};

use super::{
    batch::Batch,
    event::{Handled, Leased, Notice},
    state::{Ended, Hand, Open, Question, Rest, State, Work},
};

/// Whether the machine goes on with the turn, or waits for something.
pub(super) enum Flow {
    On(Box<Work>),
    Wait(State),
}

/// Whether an envelope is new.
enum Judged {
    Is(Verdict),
    /// Only the segments can tell.
    Asks(Question),
}

pub(super) fn held() -> FunctionError {
    FunctionError::retryable("the handler did not return or yield within its time")
}

impl Batch {
    /// Begins a turn on the record.
    pub(super) fn begin_turn(&mut self, hand: Hand) -> State {
        let Hand { record, unfinished } = hand;
        let Some(first) = self.deliveries.get(self.next.min(self.deliveries.len().saturating_sub(1))) else {
            return self.over(Rest { upto: 0, more: false, pause: Duration::ZERO });
        };
        let (function, rules) = (self.function.clone(), self.rules.clone());
        let turn = Turn::new(function, rules, self.address.clone(), record, &first.envelope);
        (self.applied, self.hearsay) = (0, false);
        self.looked_up.clear();
        self.work(Box::new(Work { turn, unfinished, upto: self.next, open: Open::default() }))
    }

    /// Goes on with the turn from the delivery at hand.
    fn work(&mut self, mut work: Box<Work>) -> State {
        let deliveries = self.deliveries.clone();
        while let Some(delivered) = deliveries.get(work.upto) {
            if self.out_of_time() {
                self.withdraw(&mut work.turn);
                return self.stopped(work, Duration::ZERO);
            }
            if work.turn.is_full() {
                return self.end_turn(work, Ended::More);
            }
            if delivered.envelope.is_nudge() {
                // It only makes its run look. What stood goes with a commit, or is cleared at the end.
                work.upto += 1;
                continue;
            }
            let verdict = match self.judge(&mut work.turn, delivered) {
                Judged::Is(verdict) => verdict,
                Judged::Asks(question) => return State::LookingUp(work, question),
            };
            work = match self.take(work, delivered, verdict) {
                Flow::On(work) => work,
                Flow::Wait(state) => return state,
            };
        }
        self.end_turn(work, Ended::All)
    }

    fn flow(&mut self, flow: Flow) -> State {
        match flow {
            Flow::On(work) => self.work(work),
            Flow::Wait(state) => state,
        }
    }

    fn judge(&mut self, turn: &mut Turn, delivered: &Delivered) -> Judged {
        let (id, now) = (delivered.envelope.id, self.at.now);
        if turn.has_closed(id) && self.on_guard(Safeguard::InlineLedger) {
            return Judged::Is(Verdict::Duplicate);
        }
        let mut verdict = self.rules.protocol.classify(turn.record(), delivered, now);
        if verdict == Verdict::WrongLastSeq {
            self.notices.push(Notice::WrongLastSeq);
            turn.forget_last_seq(now);
            verdict = self.rules.protocol.classify(turn.record(), delivered, now);
        }
        match verdict {
            Verdict::Ask { .. } if self.looked_up.contains_key(&id) => Judged::Is(self.known(id)),
            Verdict::Ask { since } => Judged::Asks(self.question(turn, id, since)),
            verdict => Judged::Is(verdict),
        }
    }

    /// Asks for an envelope, and for all later ones that would ask too: one pass serves them all.
    fn question(&self, turn: &Turn, id: EnvelopeId, mut since: Timestamp) -> Question {
        let mut ids = vec![id];
        for later in self.deliveries[self.next..].iter().filter(|later| !later.envelope.is_nudge()) {
            if let Verdict::Ask { since: theirs } = self.rules.protocol.classify(turn.record(), later, self.at.now) {
                ids.push(later.envelope.id);
                since = since.min(theirs);
            }
        }
        Question { ids, since }
    }

    pub(super) fn found(&mut self, work: Box<Work>, question: &Question, found: &[EnvelopeId]) -> State {
        self.looked_up = question.ids.iter().map(|id| (*id, found.contains(id))).collect();
        let deliveries = self.deliveries.clone();
        let delivered = &deliveries[work.upto];
        let verdict = self.known(delivered.envelope.id);
        let flow = self.take(work, delivered, verdict);
        self.flow(flow)
    }

    fn known(&mut self, id: EnvelopeId) -> Verdict {
        let known = self.looked_up.get(&id).is_some_and(|known| *known);
        self.hearsay |= known;
        if known { Verdict::Duplicate } else { Verdict::New }
    }

    /// Deals with a delivery of which it is known whether it is new.
    fn take(&mut self, mut work: Box<Work>, delivered: &Delivered, verdict: Verdict) -> Flow {
        match verdict {
            Verdict::Duplicate => {
                self.notices.push(Notice::Duplicate);
                work.turn.pass(delivered.seq);
                work.upto += 1;
                return Flow::On(work);
            }
            Verdict::TooOld => {
                let attempts = work.turn.record().trial_of(delivered.envelope.id).failures;
                self.park_whole(&mut work.turn, delivered, Reason::TooOld, "older than what the ledger remembers", attempts);
                work.upto += 1;
                return Flow::On(work);
            }
            Verdict::New | Verdict::Ask { .. } | Verdict::WrongLastSeq => {}
        }
        let note = self.suspect(work.turn.record(), delivered);
        let suspected = note != Note::None;
        if suspected && work.turn.is_dirty() {
            return Flow::Wait(self.end_turn(work, Ended::More));
        }
        if suspected && !self.suspicion.has_announced(delivered.envelope.id) {
            return Flow::Wait(match self.held_alone(&mut work.turn, delivered) {
                Some(pause) => self.stopped(work, pause),
                None => self.announce(work, delivered, note),
            });
        }
        let attempt = work.turn.record().trial_of(delivered.envelope.id).failures + 1;
        let done = self.done_of(work.turn.record(), delivered);
        work.turn.open(&delivered.envelope, attempt);
        work.open = Open { index: done, done, attempt, suspected, first: false };
        self.message(work, delivered)
    }

    /// Goes on with the envelope at hand, from the message at hand.
    fn message(&mut self, mut work: Box<Work>, delivered: &Delivered) -> Flow {
        let Open { index, done, .. } = work.open;
        if index >= delivered.envelope.messages.len() {
            self.applied += delivered.envelope.messages.len().saturating_sub(done);
            work.turn.close(delivered.seq);
            return self.closed(work);
        }
        if index > done && (work.turn.is_full() || self.out_of_time()) {
            return Flow::Wait(self.leave(work));
        }
        match self.is_alone() {
            // It has passed the gate already.
            true => self.call(work, delivered),
            false => Flow::Wait(State::Entering(work)),
        }
    }

    /// A delivery is dealt with. A suspect is a commit of its own.
    fn closed(&mut self, mut work: Box<Work>) -> Flow {
        work.upto += 1;
        match work.open.suspected {
            true => Flow::Wait(self.end_turn(work, Ended::More)),
            false => Flow::On(work),
        }
    }

    pub(super) fn entered(&mut self, work: Box<Work>) -> State {
        let deliveries = self.deliveries.clone();
        let delivered = &deliveries[work.upto];
        let flow = self.call(work, delivered);
        self.flow(flow)
    }

    /// There was no time left to wait at the gate.
    pub(super) fn not_entered(&mut self, work: Box<Work>) -> State {
        self.cut_short(work)
    }

    /// Calls the handler with the message at hand.
    fn call(&mut self, mut work: Box<Work>, delivered: &Delivered) -> Flow {
        work.turn.begin(work.open.index, self.at.now);
        self.notices.push(Notice::Invoked);
        work.open.first = !std::mem::replace(&mut self.invoked, true) && self.has_most_of_its_time();
        if self.suspicion.lost_at(delivered.envelope.id, work.open.index) {
            return self.failed(work, delivered, "time-out", held());
        }
        Flow::Wait(State::Invoking(work))
    }

    /// The handler came out, and perhaps took a lease meanwhile.
    pub(super) fn handled(&mut self, mut work: Box<Work>, handled: Handled, leased: Option<Option<Leased>>) -> State {
        match leased {
            None => {}
            Some(Some(Leased::Taken)) => {
                work.turn.leased(self.lease);
                (self.leased, work.unfinished) = (true, true);
            }
            Some(Some(Leased::Refused)) => return self.refused(),
            // It may stand all the same.
            Some(None) => self.leased = true,
        }
        let deliveries = self.deliveries.clone();
        let delivered = &deliveries[work.upto];
        let (kind, error) = match handled {
            Handled::Kept => {
                work.turn.keep();
                work.open.index += 1;
                let flow = self.message(work, delivered);
                return self.flow(flow);
            }
            // Only a handler that had all of the time is to blame that it was not enough.
            Handled::CutShort if !work.open.first || self.at.cut => {
                work.turn.undo();
                return self.cut_short(work);
            }
            Handled::CutShort => ("time-out", FunctionError::retryable("the handler did not return before the deadline")),
            Handled::Panicked(error) => ("panic", error),
            Handled::Failed(error) if error.is_terminal() => ("terminal", error),
            Handled::Failed(error) => ("retryable", error),
        };
        let flow = self.failed(work, delivered, kind, error);
        self.flow(flow)
    }

    /// The message failed.
    fn failed(&mut self, mut work: Box<Work>, delivered: &Delivered, kind: &'static str, error: FunctionError) -> Flow {
        let (envelope, Open { index, attempt, .. }) = (delivered.envelope.id, work.open);
        let unreadable = work.turn.unreadable().cloned();
        work.turn.undo();
        let next = self.after(&error, unreadable.is_some(), attempt, delivered.receive_count);
        let text = matches!(next, Next::GiveUp(_)).then(|| error.chain());
        self.note_failure(envelope, index, attempt, kind, error, unreadable);
        match next {
            Next::Wait(pause) => Flow::Wait(self.cut_short_for(work, pause)),
            Next::Again(pause) => {
                work.turn.abandon(Trial { id: envelope, failures: attempt, note: Note::None });
                if self.on_guard(Safeguard::FailRest) {
                    return Flow::Wait(self.stopped(work, pause));
                }
                self.overtaken.push((work.upto, pause));
                self.closed(work)
            }
            Next::GiveUp(reason) => {
                self.give_up(&mut work.turn, index..index + 1, reason, &text.unwrap_or_default(), attempt);
                work.open.index += 1;
                self.message(work, delivered)
            }
        }
    }

    pub(super) fn note_failure(
        &mut self,
        envelope: EnvelopeId,
        index: usize,
        attempt: u32,
        kind: &'static str,
        error: FunctionError,
        unreadable: Option<Unreadable>,
    ) {
        self.notices.push(Notice::Failed { envelope, index, attempt, kind, error: error.into() });
        self.notices.extend(unreadable.map(Notice::Unreadable));
    }

    pub(super) fn after(&self, error: &FunctionError, unreadable_state: bool, attempt: u32, receives: u32) -> Next {
        let failure = Failure { error, unreadable_state, attempt, receives };
        self.pace.backoff.next(self.function.on_failure, self.rules.protocol.safeguards, failure)
    }

    /// Leaves the envelope after the messages that were done of it: time or room ran out.
    fn leave(&mut self, mut work: Box<Work>) -> State {
        let Open { index, done, .. } = work.open;
        work.turn.leave(index as u32);
        self.applied += index - done;
        match self.out_of_time() {
            true => self.stopped(work, Duration::ZERO),
            false => self.end_turn(work, Ended::More),
        }
    }

    /// Leaves the envelope at a message that had too little time.
    fn cut_short(&mut self, mut work: Box<Work>) -> State {
        if work.open.index > work.open.done {
            return self.leave(work);
        }
        work.turn.discard();
        self.withdraw(&mut work.turn);
        self.stopped(work, Duration::ZERO)
    }

    /// The same, and it comes again after this pause.
    fn cut_short_for(&mut self, mut work: Box<Work>, pause: Duration) -> State {
        let Open { index, done, .. } = work.open;
        if index > done {
            work.turn.leave(index as u32);
            self.applied += index - done;
        } else {
            work.turn.discard();
            self.withdraw(&mut work.turn);
        }
        self.stopped(work, pause)
    }

    /// The turn ends here, and what is left comes again after this pause.
    pub(super) fn stopped(&mut self, work: Box<Work>, pause: Duration) -> State {
        self.end_turn(work, Ended::Stop(pause))
    }

    pub(super) fn end_turn(&mut self, work: Box<Work>, ended: Ended) -> State {
        let Work { turn, unfinished, upto, .. } = *work;
        let (more, pause) = match ended {
            Ended::All => (false, Duration::ZERO),
            Ended::More => (true, Duration::ZERO),
            Ended::Stop(pause) => (false, pause),
        };
        let rest = Rest { upto, more, pause };
        if turn.is_dirty() {
            return self.commit(turn, unfinished, rest);
        }
        let hand = Hand { record: turn.into_record(), unfinished };
        if (self.hearsay || self.warm) && self.on_guard(Safeguard::Hearsay) {
            // Someone else took these, and may have died before it sent what they caused: only a later look can tell. A cached record
            // knows no more of others than a segment does.
            return State::Rereading(Box::new(hand), rest);
        }
        self.finish(hand, rest)
    }

    /// Gives all of an envelope up.
    pub(super) fn park_whole(&mut self, turn: &mut Turn, delivered: &Delivered, reason: Reason, error: &str, attempts: u32) {
        let envelope = &delivered.envelope;
        turn.open(envelope, attempts);
        let done = self.done_of(turn.record(), delivered);
        self.give_up(turn, done..envelope.messages.len(), reason, error, attempts);
        turn.close(delivered.seq);
    }

    /// How many messages of the envelope earlier commits applied.
    pub(super) fn done_of(&self, record: &Record, delivered: &Delivered) -> usize {
        if self.on_guard(Safeguard::Partial) { record.done_of(delivered.envelope.id) as usize } else { 0 }
    }

    fn give_up(&mut self, turn: &mut Turn, messages: Range<usize>, reason: Reason, error: &str, attempts: u32) {
        if let OnFailure::Drop { .. } = self.function.on_failure
            && reason != Reason::TooOld
        {
            self.notices.push(Notice::Dropped(messages.len()));
            return;
        }
        let envelope = turn.context().message().envelope;
        let letter = turn.park(messages, reason, error, attempts, self.at.now);
        self.notices.push(Notice::GaveUp { envelope, letter, reason, attempts });
    }
}
