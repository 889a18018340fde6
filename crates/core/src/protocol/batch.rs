//! A batch of one address, from its load to its acknowledgement: one table of states and events.
//!
//! ```text
//! load ─► send what was left ─► turn: classify, invoke ─► commit ─► send ─┬─► finish ─► done
//!                                 ▲                                       │
//!                                 └────────────── more ◄──────────────────┘
//! ```

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    address::Address,
    function_spec::FunctionSpec,
    id::EnvelopeId,
    protocol::classify::Delivered,
    protocol::failure::Backoff,
    record::Record,
    rules::Rules,
    safeguard::Safeguard,
    time::{Moment, Timestamp},
};

use super::{
    alone::Suspicion,
    event::{At, Event, Halt, Loaded, Lost, Notice, Outcome, Step},
    state::{Hand, Rest, State, Then},
};

/// How a batch uses its time.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How much longer than the invocation's deadline a lease lasts: clocks differ.
    pub lease_margin: Duration,
    /// What is kept of the time before the deadline for commit and sends.
    pub reserve: Duration,
    /// Pauses between tries.
    pub backoff: Backoff,
    /// If so many entries of an outbox were sent before a failure, it is stored how far that got.
    pub drain_at_once: usize,
}

/// Deliveries of one address, in queue order, on their way. Says what to do next; does nothing itself.
///
/// [`on`](Self::on) takes what happened, [`step`](Self::step) says what to do now. What is durable, and what may be acknowledged, is in the
/// outcomes of [`Step::Done`].
#[derive(Debug, Clone)]
pub struct Batch {
    pub(super) function: Arc<FunctionSpec>,
    pub(super) rules: Arc<Rules>,
    pub(super) pace: Pace,
    pub(super) address: Address,
    pub(super) deliveries: Arc<[Delivered]>,
    pub(super) deadline: Moment,
    /// Until when its leases are: the deadline and a margin, by the wall clock of when the batch began. Others read it.
    pub(super) lease_until: Timestamp,
    /// When the batch began.
    pub(super) started: Moment,
    /// When the event at hand happened.
    pub(super) at: At,
    /// Deliveries before this one are dealt with in commits that took effect.
    pub(super) next: usize,
    /// Deliveries before this one may be acknowledged: what they caused is sent, and no longer stands in the record.
    pub(super) acknowledged: usize,
    /// Messages applied in the turn at hand.
    pub(super) applied: usize,
    /// A handler of this batch ran.
    pub(super) invoked: bool,
    /// The epoch under which a lease of ours may stand.
    pub(super) leased: Option<u64>,
    /// The record at hand was a cached one: its lease is not held, and epoch and version alone guard the commit.
    pub(super) warm: bool,
    /// Whether envelopes of this turn are in the spilled segments, as far as that was asked. The next commit may spill more.
    pub(super) looked_up: HashMap<EnvelopeId, bool>,
    /// Duplicates were told by the spilled segments, not by the record in hand.
    pub(super) hearsay: bool,
    pub(super) suspicion: Suspicion,
    /// Only without [`Safeguard::FailRest`]: failed ones that later ones overtook.
    pub(super) overtaken: Vec<(usize, Duration)>,
    pub(super) notices: Vec<Notice>,
    /// What the cache is to keep.
    pub(super) kept: Option<Box<Record>>,
    pub(super) state: State,
}

/// An event that cannot follow on what was asked for: a fault of whoever drives the batch. Nothing of the batch is acknowledged then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a batch that is {state} cannot take the event {event}")]
pub struct Illegal {
    state: &'static str,
    event: &'static str,
}

impl Batch {
    /// A batch that begins at `at` and has to be over at `deadline`. `lost` is of the run of the same deliveries that was given up before.
    #[must_use]
    pub fn new(
        function: Arc<FunctionSpec>,
        rules: Arc<Rules>,
        pace: Pace,
        (address, deliveries): (Address, Arc<[Delivered]>),
        deadline: Moment,
        lost: Option<Lost>,
        at: At,
    ) -> Self {
        Self {
            function,
            rules,
            pace,
            address,
            deliveries,
            deadline,
            lease_until: at.now.plus(deadline.since(at.moment)).plus(pace.lease_margin),
            started: at.moment,
            at,
            next: 0,
            acknowledged: 0,
            applied: 0,
            invoked: false,
            // A lease of the run that was given up: that will not free it.
            leased: lost.and_then(|lost| lost.leased),
            warm: false,
            looked_up: HashMap::new(),
            hearsay: false,
            suspicion: Suspicion::new(lost),
            overtaken: Vec::new(),
            notices: Vec::new(),
            kept: None,
            state: State::New,
        }
    }

    /// Takes what happened.
    ///
    /// # Errors
    /// [`Illegal`] if that does not answer the step that was asked for.
    pub fn on(&mut self, event: Event, at: At) -> Result<(), Illegal> {
        self.at = at;
        let illegal = Illegal { state: self.state.name(), event: event.name() };
        self.state = match (std::mem::replace(&mut self.state, State::Between), event) {
            (State::New, Event::Begin) => self.begin(),
            (State::Freeing(_, then), Event::Freed) => self.freed(then),
            (State::Loading, Event::Loaded(loaded)) => self.loaded(loaded),
            (State::LookingUp(work, question), Event::Found(found)) => self.found(work, &question, &found),
            (State::EnteringAlone(work, suspect), Event::Entered) => self.entered_alone(work, suspect),
            (State::EnteringAlone(work, _), Event::NoTime) => self.stopped(work, Duration::ZERO),
            (State::Entering(work), Event::Entered) => self.entered(work),
            (State::Entering(work), Event::NoTime) => self.not_entered(work),
            (State::Invoking(work), Event::Handled(handled)) => self.handled(work, handled),
            (State::Committing(planned), Event::Committed(committed)) => self.written(planned, committed),
            (State::Barrier(planned, committed), Event::Durable) => self.noted(planned, committed),
            (State::ClearingFirst(sending), Event::Finished(_)) => State::Sending(sending),
            (State::Sending(sending), Event::Sent(progress)) => self.sent(sending, progress),
            (State::KeepingProgress(_, halt), Event::Committed(committed)) => self.kept_progress(committed, halt),
            (State::Finishing(record, rest), Event::Finished(cleared)) => self.finished(record, rest, cleared),
            (State::Finishing(_, rest), Event::Failed(_)) => self.not_finished(rest),
            (State::TakingBack(taking), Event::Committed(committed)) => self.took_back(taking, committed),
            (State::TakenBack(taking), Event::Durable) => self.is_taken_back(taking),
            (State::TakingBack(taking) | State::TakenBack(taking), Event::Failed(kind)) => self.not_taken_back(taking, kind),
            (State::Pausing(taking, _), Event::Woken) => self.take_back_again(taking),
            (
                State::Loading
                | State::LookingUp(..)
                | State::Committing(_)
                | State::Barrier(..)
                | State::ClearingFirst(_)
                | State::KeepingProgress(..),
                Event::Failed(_),
            ) => self.halt(Halt::Port),
            _ => return Err(illegal),
        };
        Ok(())
    }

    /// What to do now.
    pub fn step(&mut self) -> Step<'_> {
        let (deadline, within) = (self.deadline, Some(self.deadline));
        match &mut self.state {
            // Begun by the driver, which has nothing to do for it.
            State::New | State::Between => Step::Done(&[]),
            State::Freeing(epoch, _) => Step::Free { epoch: *epoch },
            State::Loading => Step::Load { until: self.lease_until },
            State::LookingUp(_, question) => Step::LookUp { ids: &question.ids, since: question.since },
            State::EnteringAlone(..) => Step::Enter(super::How::Alone),
            State::Entering(_) => Step::Enter(super::How::Beside),
            State::Invoking(work) => {
                let delivered = &self.deliveries[work.upto];
                let lost = Lost::new(delivered.envelope.id, work.open.index, self.leased);
                Step::Invoke { context: work.turn.context(), message: &delivered.envelope.messages[work.open.index], lost }
            }
            State::Committing(planned) => Step::Commit { commit: &planned.commit, within: None },
            State::Barrier(..) => Step::Barrier { within: None },
            State::ClearingFirst(sending) => Step::Finish { expect: sending.hand.record.held() },
            State::Sending(sending) => {
                let denied_since = sending.hand.record.denied_since;
                Step::Send { outbox: &sending.outbox, denied_since, until: sending.until }
            }
            State::KeepingProgress(commit, _) => Step::Commit { commit, within: None },
            State::Finishing(record, _) => Step::Finish { expect: record.held() },
            State::TakingBack(taking) => Step::Commit { commit: &taking.commit, within },
            State::TakenBack(_) => Step::Barrier { within },
            State::Pausing(_, until) => Step::Pause { until: (*until).min(deadline) },
            State::Done(outcomes) => Step::Done(outcomes),
        }
    }

    /// What happened since it was last asked.
    pub fn take_notices(&mut self) -> std::vec::Drain<'_, Notice> {
        self.notices.drain(..)
    }

    /// A record that the cache is to keep, if there is one.
    pub fn take_kept(&mut self) -> Option<Box<Record>> {
        self.kept.take()
    }

    /// How many deliveries it has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// Whether the batch runs a suspect alone: no other handler of the process may run.
    #[must_use]
    pub const fn is_alone(&self) -> bool {
        self.suspicion.alone
    }

    /// When its handlers have to be done.
    #[must_use]
    pub fn last_moment(&self) -> Moment {
        self.deadline.minus(self.pace.reserve)
    }

    fn begin(&mut self) -> State {
        match self.lease_to_free() {
            Some(epoch) => State::Freeing(epoch, Then::Load),
            None => State::Loading,
        }
    }

    fn freed(&mut self, then: Then) -> State {
        match then {
            Then::Load => {
                self.suspicion.forget();
                State::Loading
            }
            Then::End(pause, halt) => self.ended(pause, halt),
        }
    }

    fn loaded(&mut self, loaded: Loaded) -> State {
        let (record, warm) = match loaded {
            Loaded::Cached(record) => (*record, true),
            Loaded::Held(record) => {
                self.leased = Some(record.epoch);
                (*record, false)
            }
            Loaded::Busy => return self.halt(Halt::Busy),
        };
        self.warm = warm;
        self.leftover(Hand { record, unfinished: !warm })
    }

    /// The lease that is to be freed after a failure: it lets the next try in, here or elsewhere, before it runs out.
    fn lease_to_free(&mut self) -> Option<u64> {
        self.leased.take().filter(|_| self.on_guard(Safeguard::FreeLease))
    }

    /// The batch ends, or begins anew.
    pub(super) fn halt(&mut self, halt: Halt) -> State {
        if halt == Halt::Fenced && self.warm {
            // The cached record was stale: load it and try again. A commit of this run may have taken the lease.
            return match self.lease_to_free() {
                Some(epoch) => State::Freeing(epoch, Then::Load),
                None => self.freed(Then::Load),
            };
        }
        let pause = self.pause_after(halt);
        self.notices.push(Notice::Halted(halt));
        match halt {
            Halt::Port => self.take_back_note(pause),
            Halt::Fenced | Halt::Busy | Halt::Unsent => self.ended(pause, halt),
        }
    }

    /// After a failure of the backend, once the note of a run is taken back.
    pub(super) fn let_others_in(&mut self, pause: Duration) -> State {
        match self.lease_to_free() {
            Some(epoch) => State::Freeing(epoch, Then::End(pause, Halt::Port)),
            None => self.ended(pause, Halt::Port),
        }
    }

    fn ended(&mut self, pause: Duration, halt: Halt) -> State {
        if halt == Halt::Port && !self.on_guard(Safeguard::AckLast) {
            self.acknowledged = self.deliveries.len();
        }
        State::Done(self.outcomes(pause))
    }

    /// The pause before the next try.
    fn pause_after(&self, halt: Halt) -> Duration {
        let (backoff, receives) = (&self.pace.backoff, self.deliveries.first().map_or(1, |first| first.receive_count));
        match halt {
            Halt::Fenced | Halt::Unsent => Duration::ZERO,
            Halt::Busy => backoff.busy(receives),
            Halt::Port => backoff.after(receives).min(backoff.backend),
        }
    }

    /// The batch is dealt with as far as it goes.
    pub(super) fn over(&mut self, rest: Rest) -> State {
        (self.next, self.acknowledged) = (rest.upto, rest.upto);
        State::Done(self.outcomes(rest.pause))
    }

    fn outcomes(&self, pause: Duration) -> Vec<Outcome> {
        let outcome = |index| match self.overtaken.iter().find(|(overtaken, _)| *overtaken == index) {
            Some((_, pause)) => Outcome::Retry(*pause),
            None if index < self.acknowledged => Outcome::Done,
            None => Outcome::Retry(pause),
        };
        (0..self.deliveries.len()).map(outcome).collect()
    }

    /// Whether half of the batch's time is left: before its first handler an environment may have been held up.
    pub(super) fn has_most_of_its_time(&self) -> bool {
        self.last_moment().since(self.at.moment) * 2 >= self.last_moment().since(self.started)
    }

    pub(super) fn out_of_time(&self) -> bool {
        self.at.moment >= self.last_moment() || self.at.cut
    }

    pub(super) fn on_guard(&self, safeguard: Safeguard) -> bool {
        self.rules.protocol.safeguards.on(safeguard)
    }
}

impl Event {
    const fn name(&self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Loaded(_) => "loaded",
            Self::Found(_) => "found",
            Self::Entered => "entered",
            Self::NoTime => "no time",
            Self::Handled(_) => "handled",
            Self::Committed(_) => "committed",
            Self::Durable => "durable",
            Self::Sent(_) => "sent",
            Self::Finished(_) => "finished",
            Self::Freed => "freed",
            Self::Woken => "woken",
            Self::Failed(_) => "failed",
        }
    }
}
