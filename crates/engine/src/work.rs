//! The work of one turn: which deliveries are new, their handlers, and what becomes of failures.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::{
    FutureExt,
    future::{Either, pending, select},
};
use statefun_core::{
    Delivered, Envelope, Failure, FunctionError, MessageInfo, Next, Note, OnFailure, Reason, Record, Safeguard, Timestamp, Trial,
    Turn, TypedValue, Unreadable, Verdict,
};

use crate::{
    alone::Announced,
    gate::{How, Pass},
    metrics::FunctionCounters,
    ports::{Moment, PortError},
    run::{Ended, Halt, Run},
    watch::{Holds, Lost, Watch},
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
    /// It comes again after this pause, uncounted. What was done of it belongs to the commit.
    Waits(Duration),
}

/// How a handler came out.
enum Invoked {
    Kept,
    Failed(FunctionError),
    Panicked(FunctionError),
    /// It did not return before the deadline.
    CutShort,
    /// It held its thread for as long, and the run before this one was given up for it.
    Held,
}

/// Held while a handler runs. That of a run that was given up has been given back already.
struct Passed<'a> {
    pass: Option<Pass<'a>>,
    watch: Option<&'a Watch>,
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        if self.watch.is_some_and(Watch::is_given_up) {
            std::mem::forget(self.pass.take());
        }
    }
}

fn held() -> FunctionError {
    FunctionError::retryable("the handler did not return or yield within its time")
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
            if suspected && !self.has_announced(delivered.envelope.id) {
                ended = Ended::More;
                if let Some(pause) = self.held_alone(&mut turn, delivered) {
                    ended = Ended::Stop(pause);
                    break;
                }
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
                Worked::Waits(pause) => {
                    ended = Ended::Stop(pause);
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
            let (function, envelope) = (self.address.function(), turn.context().message().envelope);
            tracing::warn!(%function, %reason, attempts, "messages given up to the dead letters");
            let letter = turn.park(messages, reason, error, attempts, self.now());
            tracing::debug!(%function, %envelope, %letter, "messages given up to the dead letters");
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
            let Some(pass) = self.enter().await else { return self.cut_short(turn, index, done) };
            let _pass = Passed { pass, watch: self.watch };
            turn.begin(index, self.now());
            FunctionCounters::add(&self.counters.invocations, 1);
            let first = !std::mem::replace(&mut self.invoked, true) && self.has_most_of_its_time();
            let (kind, error) = match self.invoke(turn, message).await {
                Invoked::Kept => {
                    turn.keep();
                    continue;
                }
                // Only a handler that had all of the time is to blame that it was not enough.
                Invoked::CutShort if !first || self.engine.cut.is_cut() => {
                    turn.undo();
                    return self.cut_short(turn, index, done);
                }
                Invoked::Held => ("time-out", held()),
                Invoked::CutShort => ("time-out", FunctionError::retryable("the handler did not return before the deadline")),
                Invoked::Panicked(error) => ("panic", error),
                Invoked::Failed(error) if error.is_terminal() => ("terminal", error),
                Invoked::Failed(error) => ("retryable", error),
            };
            FunctionCounters::add(&self.counters.failures, 1);
            self.log_failure(envelope, index, attempt, kind, &error);
            let unreadable_state = self.report_unreadable(turn);
            turn.undo();
            let failure = Failure { error: &error, unreadable_state, attempt, receives: delivered.receive_count };
            match self.after(failure) {
                Next::Wait(pause) => {
                    self.cut_short(turn, index, done);
                    return Worked::Waits(pause);
                }
                Next::Again(pause) => {
                    turn.abandon(Trial { id: envelope.id, failures: attempt, note: Note::None });
                    return Worked::Failed(pause);
                }
                Next::GiveUp(reason) => self.give_up(turn, index..index + 1, reason, &error.chain(), attempt),
            }
        }
        self.applied += envelope.messages.len() - done;
        turn.close(delivered.seq);
        Worked::Closed
    }

    /// If the run before this one was given up while it ran the envelope alone, that failed like any other. Returns the pause before the
    /// next try; `None` if there is none, and the envelope is to be parked for it.
    fn held_alone(&mut self, turn: &mut Turn, delivered: &Delivered) -> Option<Duration> {
        let envelope = &delivered.envelope;
        let trial = turn.record().trial_of(envelope.id);
        self.lost.take_if(|lost| trial.note == Note::Alone && lost.is_of(envelope.id))?;
        let (error, failures) = (held(), trial.failures + 1);
        let failure = Failure { error: &error, unreadable_state: false, attempt: failures, receives: delivered.receive_count };
        let Next::Again(pause) = self.after(failure) else { return None };
        FunctionCounters::add(&self.counters.failures, 1);
        self.log_failure(envelope, self.done_of(turn, delivered), failures, "time-out", &error);
        turn.abandon(Trial { failures, ..trial.taken_back() });
        Some(pause)
    }

    /// At `warn` nothing that a message or a handler says; at `debug`, and for the handler's own target, what ties it to a dead letter.
    fn log_failure(&self, envelope: &Envelope, index: usize, attempt: u32, kind: &str, error: &FunctionError) {
        let (function, id) = (self.address.function(), envelope.id);
        tracing::warn!(%function, attempt, kind, "a handler failed");
        let error = error.chain();
        tracing::debug!(target: "statefun::handler", %function, envelope = %id, index, attempt, kind, error, "a handler failed");
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

    fn after(&self, failure: Failure<'_>) -> Next {
        let safeguards = self.engine.rules().protocol.safeguards;
        self.engine.config.backoff.next(self.function.spec.on_failure, safeguards, failure)
    }

    /// Counts and logs that the handler asked for state that cannot be read, if it did.
    fn report_unreadable(&self, turn: &Turn) -> bool {
        let Some(Unreadable { state, stored, wanted }) = turn.unreadable() else { return false };
        FunctionCounters::add(&self.counters.unreadable, 1);
        tracing::error!(
            function = %self.address.function(), state, %stored, %wanted,
            "stored state cannot be read, and its instance waits: deploy a version that reads it, such as the one before, or give its \
             `ValueSpec` a reader for the older form"
        );
        true
    }

    /// Never returns if this run was given up: another has taken its place, and it may do nothing any more.
    async fn unless_given_up(&self) {
        if self.watch.is_some_and(Watch::is_given_up) {
            pending::<()>().await;
        }
    }

    /// Calls the handler. A panic is a failure like any other.
    async fn invoke(&mut self, turn: &mut Turn, message: &TypedValue) -> Invoked {
        let MessageInfo { envelope, index, .. } = turn.context().message();
        if self.lost.take_if(|lost| lost.is_at(envelope, index)).is_some() {
            return Invoked::Held;
        }
        let how = if self.alone.is_some() { How::Alone } else { How::Beside };
        let holds = Holds { lost: Lost::new(envelope, index, self.leased), how };
        let handler = AssertUnwindSafe(self.function.handler.invoke(turn.context(), message)).catch_unwind();
        let handler = async {
            match self.watch {
                Some(watch) => watch.over(holds, handler).await,
                None => handler.await,
            }
        };
        let mut handler = std::pin::pin!(handler);
        // Most handlers return at once; only the others need an alarm.
        let result = match futures_util::poll!(&mut handler) {
            std::task::Poll::Ready(result) => result,
            std::task::Poll::Pending => match select(handler, std::pin::pin!(self.its_end())).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => {
                    self.unless_given_up().await;
                    return Invoked::CutShort;
                }
            },
        };
        match result {
            Ok(Ok(())) => Invoked::Kept,
            Ok(Err(error)) => Invoked::Failed(error),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(ToString::to_string);
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                Invoked::Panicked(FunctionError::retryable(format!("the handler panicked: {text}")))
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
