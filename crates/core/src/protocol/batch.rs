//! A batch of one address, from its load to its acknowledgement: one table of states and events.
//!
//! ```text
//! load ─► (lease) ─► send what was left ─► turn: classify, invoke ─► commit ─► send ─┬─► clear ─► done
//!  ▲                                        ▲                         │               │
//!  └───────────────── refused ◄─────────────┼─────────────────────────┘               │
//!                                           └──────────────── more ◄──────────────────┘
//! ```

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    address::Address,
    function_spec::FunctionSpec,
    id::EnvelopeId,
    protocol::classify::Delivered,
    protocol::failure::Backoff,
    record::{Lease, Outbox, Owner, Record},
    rules::Rules,
    safeguard::Safeguard,
    time::{Moment, Timestamp},
};

use super::{
    alone::Suspicion,
    event::{At, Event, Halt, Leased, Leasing, Loaded, Lost, Notice, Outcome, Step},
    state::{Hand, Rest, State},
};

/// How often a batch that others came before begins anew, in its own invocation.
const MAX_REFUSALS: u32 = 2;

/// How a batch uses its time.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long a handler runs before its run asks others to wait.
    pub lease_after: Duration,
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
#[derive(Clone)]
pub struct Batch {
    pub(super) function: Arc<FunctionSpec>,
    pub(super) rules: Arc<Rules>,
    pub(super) pace: Pace,
    pub(super) address: Address,
    pub(super) deliveries: Arc<[Delivered]>,
    pub(super) deadline: Moment,
    /// Its lease, if it takes one: to the deadline and a margin, by the wall clock of when the batch began. Others read it.
    pub(super) lease: Lease,
    /// When the batch began.
    pub(super) started: Moment,
    pub(super) began: Timestamp,
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
    /// Its lease may stand in the record.
    pub(super) leased: bool,
    /// A nudge is among the deliveries: it asks to look at the record, and to clear what stands.
    pub(super) nudged: bool,
    /// The record at hand was a cached one.
    pub(super) warm: bool,
    /// How often somebody else wrote the record since it was loaded.
    pub(super) refusals: u32,
    /// Whether envelopes of this turn are in the spilled segments, as far as that was asked. The next commit may spill more.
    pub(super) looked_up: HashMap<EnvelopeId, bool>,
    /// Duplicates were found in the spilled segments, not by the record in hand.
    pub(super) hearsay: bool,
    pub(super) suspicion: Suspicion,
    /// All is committed and sent but for clearing the outbox, which was refused.
    pub(super) closing: Option<Rest>,
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
    /// A batch that begins at `at` and has to be over at `deadline`; its run is `owner`. `lost` is of the run of the same deliveries that was
    /// given up before.
    #[expect(clippy::too_many_arguments, reason = "each is a thing of its own")]
    #[must_use]
    pub fn new(
        function: Arc<FunctionSpec>,
        rules: Arc<Rules>,
        pace: Pace,
        (address, deliveries): (Address, Arc<[Delivered]>),
        deadline: Moment,
        owner: Owner,
        lost: Option<Lost>,
        at: At,
    ) -> Self {
        let is_nudge = |delivered: &Delivered| delivered.envelope.is_nudge();
        let nudged = deliveries.iter().any(is_nudge) && rules.protocol.safeguards.on(Safeguard::NudgeClears);
        let until = at.now.plus(deadline.since(at.moment)).plus(pace.lease_margin);
        Self {
            function,
            rules,
            pace,
            address,
            deliveries,
            deadline,
            // What the run that was given up has is this one's.
            lease: Lease { owner: lost.map_or(owner, |lost| lost.owner), until },
            started: at.moment,
            began: at.now,
            at,
            next: 0,
            acknowledged: 0,
            applied: 0,
            invoked: false,
            leased: lost.is_some(),
            nudged,
            warm: false,
            refusals: 0,
            looked_up: HashMap::new(),
            hearsay: false,
            suspicion: Suspicion::new(lost),
            closing: None,
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
            (State::New, Event::Begin) => State::Loading,
            (State::Loading, Event::Loaded(loaded)) => self.loaded(loaded),
            (State::Leasing(hand), Event::Leased(leased)) => self.leased(hand, leased),
            (State::LookingUp(work, question), Event::Found(found)) => self.found(work, &question, &found),
            (State::EnteringAlone(work, suspect), Event::Entered) => self.entered_alone(work, suspect),
            (State::EnteringAlone(work, _), Event::NoTime) => self.stopped(work, Duration::ZERO),
            (State::Entering(work), Event::Entered) => self.entered(work),
            (State::Entering(work), Event::NoTime) => self.not_entered(work),
            (State::Invoking(work), Event::Handled(handled, leased)) => self.handled(work, handled, leased),
            (State::Rereading(hand, rest), Event::Loaded(loaded)) => self.reread(*hand, rest, loaded),
            (State::Committing(planned), Event::Committed(committed)) => self.written(planned, committed),
            (State::Barrier(planned, committed), Event::Durable) => self.noted(planned, committed),
            (State::ClearingFirst(sending), Event::Finished(_)) => State::Sending(sending),
            (State::Sending(sending), Event::Sent(progress)) => self.sent(sending, progress),
            (State::KeepingProgress(_, halt), Event::Committed(committed)) => self.kept_progress(committed, halt),
            (State::Finishing(record, rest), Event::Finished(cleared)) => self.finished(record, rest, cleared),
            (State::Finishing(_, rest), Event::Failed(_)) => self.not_finished(rest),
            (State::FindingNote(taking), Event::Loaded(loaded)) => self.found_note(taking, loaded),
            (State::TakingBack(taking, _), Event::Committed(committed)) => self.took_back(taking, committed),
            (State::TakenBack(taking), Event::Durable) => self.is_taken_back(taking),
            (State::FindingNote(taking) | State::TakingBack(taking, _) | State::TakenBack(taking), Event::Failed(kind)) => {
                self.not_taken_back(taking, kind)
            }
            (State::Pausing(taking, _), Event::Woken) => State::FindingNote(taking),
            (State::Freeing(pause, halt), Event::Freed) => self.ended(pause, halt),
            (
                State::Loading
                | State::Leasing(_)
                | State::LookingUp(..)
                | State::Rereading(..)
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
            State::Loading => Step::Load { fresh: self.refusals > 0 || self.nudged, within: None },
            State::Rereading(..) => Step::Load { fresh: true, within: None },
            State::Leasing(hand) => Step::Lease(leasing(&hand.record, self.lease)),
            State::LookingUp(_, question) => Step::LookUp { ids: &question.ids, since: question.since },
            State::EnteringAlone(..) => Step::Enter(super::How::Alone),
            State::Entering(_) => Step::Enter(super::How::Beside),
            State::Invoking(work) => {
                let delivered = &self.deliveries[work.upto];
                let lost = Lost::new(delivered.envelope.id, work.open.index, self.lease.owner);
                let after = self.at.moment.plus(self.pace.lease_after);
                let lease = (!self.leased).then(|| (after, leasing(work.turn.record(), self.lease)));
                let message = &delivered.envelope.messages[work.open.index];
                Step::Invoke { context: work.turn.context(), message, lost, lease }
            }
            State::Committing(planned) => Step::Commit { commit: &planned.commit, within: None },
            State::Barrier(..) => Step::Barrier { within: None },
            State::ClearingFirst(sending) => Step::Finish { expect: sending.hand.record.version },
            State::Sending(sending) => {
                let Outbox { entries, denied_since, .. } = &sending.outbox;
                Step::Send { outbox: entries, denied_since: *denied_since, until: sending.until }
            }
            State::KeepingProgress(commit, _) => Step::Commit { commit, within: None },
            State::Finishing(record, _) => Step::Finish { expect: record.version },
            State::FindingNote(_) => Step::Load { fresh: true, within },
            State::TakingBack(_, commit) => Step::Commit { commit, within },
            State::TakenBack(_) => Step::Barrier { within },
            State::Pausing(_, until) => Step::Pause { until: (*until).min(deadline) },
            State::Freeing(..) => Step::Free(self.lease.owner),
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

    /// Whether it has not begun: it waits for [`Event::Begin`].
    #[must_use]
    pub const fn is_new(&self) -> bool {
        matches!(self.state, State::New)
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

    fn loaded(&mut self, loaded: Loaded) -> State {
        let (record, warm) = match loaded {
            Loaded::Cached(record) => (*record, true),
            Loaded::Read(record) => (record.map_or_else(|| Record::new(self.at.now), |record| *record), false),
        };
        self.warm = warm;
        if record.is_leased_to_another(self.lease.owner, self.at.now) {
            return self.halt(Halt::Busy);
        }
        let is_ours = record.lease.is_some_and(|lease| lease.owner == self.lease.owner);
        let hand = Hand { record, unfinished: is_ours };
        match self.must_lease() && !is_ours {
            true => {
                self.leased = true;
                State::Leasing(Box::new(hand))
            }
            false => self.leftover(hand),
        }
    }

    /// Whether the run takes a lease before anything else: others came between, and would again; or its function wants to be alone.
    fn must_lease(&self) -> bool {
        self.refusals > 0 || self.function.exclusive
    }

    fn leased(&mut self, mut hand: Box<Hand>, leased: Leased) -> State {
        match leased {
            Leased::Taken => {
                let Leasing { makes, lease, .. } = leasing(&hand.record, self.lease);
                (hand.record.version, hand.record.lease, hand.unfinished) = (makes, Some(lease), true);
                self.leftover(*hand)
            }
            Leased::Refused => self.refused(),
        }
    }

    /// Somebody else wrote the record: it is loaded, drained, classified and worked anew, twice at most.
    pub(super) fn refused(&mut self) -> State {
        self.notices.push(Notice::Refused { cached: self.warm });
        self.suspicion.forget();
        self.refusals += 1;
        match self.refusals <= MAX_REFUSALS && !self.out_of_time() {
            true => State::Loading,
            false => self.halt(Halt::Fenced),
        }
    }

    /// The record as it is after the segments were asked: who put the duplicates there may not have got to its end.
    fn reread(&mut self, hand: Hand, rest: Rest, loaded: Loaded) -> State {
        match &loaded {
            Loaded::Read(Some(record)) if record.version == hand.record.version => self.finish(hand, rest),
            _ => {
                self.refusals += 1;
                match self.refusals <= MAX_REFUSALS {
                    true => self.loaded(loaded),
                    false => self.halt(Halt::Fenced),
                }
            }
        }
    }

    /// The batch ends.
    pub(super) fn halt(&mut self, halt: Halt) -> State {
        let pause = self.pause_after(halt);
        self.notices.push(Notice::Halted(halt));
        match halt {
            Halt::Port => self.take_back_note(pause),
            Halt::Fenced | Halt::Busy | Halt::Unsent => self.let_others_in(pause, halt),
        }
    }

    /// Frees the lease, if there is one: it lets the next try in, here or elsewhere, before it runs out.
    pub(super) fn let_others_in(&mut self, pause: Duration, halt: Halt) -> State {
        match std::mem::take(&mut self.leased) {
            true => State::Freeing(pause, halt),
            false => self.ended(pause, halt),
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

/// What distinguishes two batches of one address, without what holds for all: an exploration knows states by it.
impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let deliveries = self.deliveries.iter();
        let deliveries: Vec<_> =
            deliveries.map(|one| (one.envelope.id, one.seq.seq, one.enqueued_at.0, one.receive_count)).collect();
        let looked_up: std::collections::BTreeMap<_, _> = self.looked_up.iter().map(|(id, found)| (id.0, found)).collect();
        f.debug_struct("Batch")
            .field("state", &self.state)
            .field("deliveries", &deliveries)
            .field("times", &(self.began, self.started, self.at.moment, self.deadline, self.lease))
            .field("upto", &(self.next, self.acknowledged, self.applied, &self.overtaken))
            .field("run", &(self.invoked, self.leased, self.warm, self.refusals, self.hearsay, looked_up))
            .field("suspicion", &self.suspicion)
            .field("closing", &self.closing)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

/// The lease of a run on this record.
fn leasing(record: &Record, lease: Lease) -> Leasing {
    Leasing { expect: record.version, makes: record.next_version(), born: record.born, lease }
}

impl Event {
    const fn name(&self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Loaded(_) => "loaded",
            Self::Leased(_) => "leased",
            Self::Found(_) => "found",
            Self::Entered => "entered",
            Self::NoTime => "no time",
            Self::Handled(..) => "handled",
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
