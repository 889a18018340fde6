//! The work of one turn: which deliveries are new, their handlers, and what becomes of failures.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::{
    FutureExt,
    future::{Either, select},
};
use statefun_core::{
    Delivered, FunctionError, Note, OnFailure, Reason, Record, Safeguard, Timestamp, Trial, Turn, TypedValue, Verdict,
};

use crate::{
    alone::Announced,
    metrics::FunctionCounters,
    ports::{Moment, PortError},
    run::{Ended, Halt, Run},
};

/// How an envelope came out.
enum Worked {
    /// It is dealt with.
    Closed,
    /// Time or room ran out in the middle, without a failure. What was done of it belongs to the commit.
    Left,
    /// Time ran out in its first message, without a failure: nothing of it belongs to the commit.
    Untouched,
    /// It failed and comes again after this pause.
    Failed(Duration),
}

/// How a handler came out.
enum Invoked {
    Kept,
    Failed(FunctionError),
    /// It did not return before the deadline.
    CutShort,
}

impl Run<'_> {
    /// Handles deliveries from `self.next` on until all are done or the turn should be committed. Returns the turn, the index of
    /// the first delivery that is not dealt with, and why it ended.
    pub(crate) async fn work(&mut self, record: Record) -> Result<(Turn, usize, Ended), Halt> {
        let Some(first) = self.deliveries.get(self.next.min(self.deliveries.len().saturating_sub(1))) else {
            unreachable!("a batch of an address is never empty")
        };
        let (spec, rules) = (self.function.spec.clone(), self.engine.config.rules.clone());
        let mut turn = Turn::new(spec, rules, self.address.clone(), record, &first.envelope);
        (self.applied, self.hearsay) = (0, false);
        self.looked_up.clear();
        let mut ended = Ended::All;
        let mut upto = self.next;
        while let Some(delivered) = self.deliveries.get(upto) {
            if self.out_of_time() {
                self.withdraw(&mut turn);
                ended = Ended::Stop(Duration::ZERO);
                break;
            }
            if turn.is_full() {
                ended = Ended::More;
                break;
            }
            match self.verdict(&mut turn, delivered).await? {
                Verdict::Duplicate => {
                    FunctionCounters::add(&self.counters.duplicates, 1);
                    turn.pass(delivered.seq);
                    upto += 1;
                    continue;
                }
                Verdict::TooOld => {
                    let attempts = turn.record().trial_of(delivered.envelope.id).failures;
                    self.park_whole(&mut turn, delivered, Reason::TooOld, "older than what the ledger remembers", attempts);
                    upto += 1;
                    continue;
                }
                Verdict::New | Verdict::Ask { .. } | Verdict::WrongMark => {}
            }
            let note = self.suspicion(turn.record(), delivered);
            let suspected = note != Note::None;
            if suspected && turn.is_dirty() {
                ended = Ended::More;
                break;
            }
            if suspected && self.announced != Some(delivered.envelope.id) {
                ended = Ended::More;
                match self.announce(&mut turn, delivered, note).await {
                    Announced::Noted => {}
                    Announced::Parked => upto += 1,
                    Announced::NoTime => ended = Ended::Stop(Duration::ZERO),
                }
                break;
            }
            match self.envelope(&mut turn, delivered).await {
                Worked::Closed => upto += 1,
                Worked::Left => {
                    ended = if self.out_of_time() { Ended::Stop(Duration::ZERO) } else { Ended::More };
                    break;
                }
                Worked::Untouched => {
                    ended = Ended::Stop(Duration::ZERO);
                    break;
                }
                Worked::Failed(pause) if self.on(Safeguard::FailRest) => {
                    ended = Ended::Stop(pause);
                    break;
                }
                Worked::Failed(pause) => {
                    self.overtaken.push((upto, pause));
                    upto += 1;
                }
            }
            if suspected {
                ended = Ended::More;
                break;
            }
        }
        Ok((turn, upto, ended))
    }

    async fn verdict(&mut self, turn: &mut Turn, delivered: &Delivered) -> Result<Verdict, PortError> {
        let id = delivered.envelope.id;
        if turn.has_closed(id) && self.on(Safeguard::InlineLedger) {
            return Ok(Verdict::Duplicate);
        }
        let mut verdict = self.engine.rules().protocol.classify(turn.record(), delivered, self.now());
        if verdict == Verdict::WrongMark {
            FunctionCounters::add(&self.counters.wrong_marks, 1);
            tracing::warn!(
                function = %self.address.function(),
                "a queue counts from lower numbers than before: was it deleted and made anew, or was the function invoked by hand? \
                 The ledger decides what is new"
            );
            turn.forget_mark(self.now());
            verdict = self.engine.rules().protocol.classify(turn.record(), delivered, self.now());
        }
        let Verdict::Ask { since } = verdict else { return Ok(verdict) };
        if !self.looked_up.contains_key(&id) {
            self.look_up(turn, delivered, since).await?;
        }
        let known = self.looked_up.get(&id).is_some_and(|known| *known);
        self.hearsay |= known;
        Ok(if known { Verdict::Duplicate } else { Verdict::New })
    }

    /// Looks in the spilled segments for an envelope, and for all later ones that would ask too: one pass serves them all.
    async fn look_up(&mut self, turn: &Turn, delivered: &Delivered, since: Timestamp) -> Result<(), PortError> {
        let (mut ids, mut since, now) = (vec![delivered.envelope.id], since, self.now());
        for later in &self.deliveries[self.next..] {
            if let Verdict::Ask { since: theirs } = self.engine.rules().protocol.classify(turn.record(), later, now) {
                ids.push(later.envelope.id);
                since = since.min(theirs);
            }
        }
        let found = self.engine.ports.store.spilled(self.address, &ids, since).await?;
        self.looked_up = ids.into_iter().map(|id| (id, found.contains(&id))).collect();
        Ok(())
    }

    pub(crate) fn park_whole(&self, turn: &mut Turn, delivered: &Delivered, reason: Reason, error: &str, attempts: u32) {
        let envelope = &delivered.envelope;
        turn.open(envelope, attempts);
        let done = self.done_of(turn, delivered);
        self.give_up(turn, done..envelope.messages.len(), reason, error, attempts);
        turn.close(delivered.seq);
    }

    fn done_of(&self, turn: &Turn, delivered: &Delivered) -> usize {
        if self.on(Safeguard::Partial) { turn.record().done_of(delivered.envelope.id) as usize } else { 0 }
    }

    fn give_up(&self, turn: &mut Turn, messages: std::ops::Range<usize>, reason: Reason, error: &str, attempts: u32) {
        if let OnFailure::Drop { .. } = self.function.spec.on_failure
            && reason != Reason::TooOld
        {
            FunctionCounters::add(&self.counters.dropped, messages.len());
        } else {
            tracing::warn!(function = %self.address.function(), %reason, attempts, "messages given up to the dead letters");
            turn.park(messages, reason, error, attempts, self.now());
        }
    }

    /// Runs the handlers of an envelope's messages.
    async fn envelope(&mut self, turn: &mut Turn, delivered: &Delivered) -> Worked {
        let envelope = &delivered.envelope;
        let attempt = turn.record().trial_of(envelope.id).failures + 1;
        let done = self.done_of(turn, delivered);
        turn.open(envelope, attempt);
        for (index, message) in envelope.messages.iter().enumerate().skip(done) {
            if index > done && (turn.is_full() || self.out_of_time()) {
                turn.leave(index as u32);
                self.applied += index - done;
                return Worked::Left;
            }
            let Some(_guard) = self.enter().await else { return self.cut_short(turn, index, done) };
            turn.begin(index, self.now());
            FunctionCounters::add(&self.counters.invocations, 1);
            let first = !std::mem::replace(&mut self.invoked, true) && self.has_most_of_its_time();
            let error = match self.invoke(turn, message).await {
                Invoked::Kept => {
                    turn.keep();
                    continue;
                }
                // Only a handler that had all of the time is to blame that it was not enough.
                Invoked::CutShort if !first || self.engine.cut.is_cut() => {
                    turn.undo();
                    return self.cut_short(turn, index, done);
                }
                Invoked::CutShort => FunctionError::retryable("the handler did not return before the deadline"),
                Invoked::Failed(error) => error,
            };
            FunctionCounters::add(&self.counters.failures, 1);
            tracing::debug!(target: "statefun::handler", function = %self.address.function(), attempt, ?error, "a handler failed");
            turn.undo();
            let Some(reason) = self.reason_to_give_up(&error, attempt) else {
                turn.abandon(Trial { id: envelope.id, failures: attempt, note: Note::None });
                return Worked::Failed(self.engine.config.backoff.after(attempt));
            };
            self.give_up(turn, index..index + 1, reason, &error.chain(), attempt);
        }
        self.applied += envelope.messages.len() - done;
        turn.close(delivered.seq);
        Worked::Closed
    }

    /// Leaves an envelope whose `index`-th message had too little time.
    fn cut_short(&mut self, turn: &mut Turn, index: usize, done: usize) -> Worked {
        if index > done {
            turn.leave(index as u32);
            self.applied += index - done;
            return Worked::Left;
        }
        turn.discard();
        self.withdraw(turn);
        Worked::Untouched
    }

    fn reason_to_give_up(&self, error: &FunctionError, attempt: u32) -> Option<Reason> {
        let max = self.function.spec.on_failure.max_attempts()?;
        match error.is_terminal() {
            true => Some(Reason::Terminal),
            false => (attempt >= max || !self.on(Safeguard::RetryFirst)).then_some(Reason::Exhausted),
        }
    }

    /// Calls the handler. A panic is a failure like any other.
    async fn invoke(&self, turn: &mut Turn, message: &TypedValue) -> Invoked {
        let handler = AssertUnwindSafe(self.function.handler.invoke(turn.context(), message)).catch_unwind();
        let mut handler = std::pin::pin!(handler);
        // Most handlers return at once; only the others need an alarm.
        let result = match futures_util::poll!(&mut handler) {
            std::task::Poll::Ready(result) => result,
            std::task::Poll::Pending => match select(handler, std::pin::pin!(self.its_end())).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => return Invoked::CutShort,
            },
        };
        match result {
            Ok(Ok(())) => Invoked::Kept,
            Ok(Err(error)) => Invoked::Failed(error),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(ToString::to_string);
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                Invoked::Failed(FunctionError::retryable(format!("the handler panicked: {text}")))
            }
        }
    }

    /// Whether half of the batch's time is left: before its first handler an environment may have been held up.
    fn has_most_of_its_time(&self) -> bool {
        self.last_moment().since(self.moment()) * 2 >= self.last_moment().since(self.started)
    }

    pub(crate) fn last_moment(&self) -> Moment {
        self.deadline.minus(self.engine.config.reserve)
    }

    pub(crate) fn out_of_time(&self) -> bool {
        self.moment() >= self.last_moment() || self.engine.cut.is_cut()
    }
}
