//! The states of a batch. Each is a step that was asked for and not answered yet.

use std::time::Duration;

use crate::{
    effects::Effect,
    id::EnvelopeId,
    protocol::turn::{Commit, Turn},
    record::{Note, Outbox, Record},
    time::{Moment, Timestamp},
};

use super::{
    alone::TakeBack,
    event::{Committed, Halt, Outcome},
};

/// Where a batch is.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// Nothing was done yet.
    New,
    /// A transition is under way, or was refused.
    Between,
    /// The record is loaded.
    Loading,
    /// Its lease is taken.
    Leasing(Box<Hand>),
    /// The segments are asked for ids.
    LookingUp(Box<Work>, Question),
    /// A suspect waits until no other handler runs, to be announced then.
    EnteringAlone(Box<Work>, Suspect),
    /// A handler waits at the gate.
    Entering(Box<Work>),
    /// A handler runs.
    Invoking(Box<Work>),
    /// Duplicates are known from segments alone: the record is read again before they are acknowledged.
    Rereading(Box<Hand>, Rest),
    /// A turn is committed.
    Committing(Box<Planned>),
    /// What it wrote of a suspect becomes durable.
    Barrier(Box<Planned>, Committed),
    /// An outbox is cleared before it is sent: without `FinishAfterDrain` only.
    ClearingFirst(Box<Sending>),
    /// An outbox is sent.
    Sending(Box<Sending>),
    /// What is left of an outbox replaces it.
    KeepingProgress(Box<Commit>, Halt),
    /// The outbox is cleared and the lease freed.
    Finishing(Box<Record>, Rest),
    /// The note of a run is looked for.
    FindingNote(TakeBack),
    /// It is taken back.
    TakingBack(TakeBack, Box<Commit>),
    /// That becomes durable.
    TakenBack(TakeBack),
    /// Before it is tried again.
    Pausing(TakeBack, Moment),
    /// The batch is over but for its lease; what is left of it comes again after this pause.
    Freeing(Duration, Halt),
    /// The end.
    Done(Vec<Outcome>),
}

/// A record in hand.
#[derive(Debug, Clone)]
pub(super) struct Hand {
    pub(super) record: Record,
    /// The stored record has an outbox that is already sent, or a lease that is ours.
    pub(super) unfinished: bool,
}

/// A turn that grows.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) turn: Turn,
    pub(super) unfinished: bool,
    /// The delivery at hand: those before it are dealt with.
    pub(super) upto: usize,
    pub(super) open: Open,
}

/// The envelope at hand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Open {
    /// The message at hand.
    pub(super) index: usize,
    /// Messages that were applied by earlier commits.
    pub(super) done: usize,
    pub(super) attempt: u32,
    pub(super) suspected: bool,
    /// No handler of the batch ran before, and most of the time was left.
    pub(super) first: bool,
}

/// What the segments are asked.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) ids: Vec<EnvelopeId>,
    pub(super) since: Timestamp,
}

/// An envelope that is about to be announced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspect {
    pub(super) note: Note,
    pub(super) failures: u32,
}

/// How the work on a turn ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ended {
    /// All deliveries are dealt with.
    All,
    /// The turn is to be committed; more work may follow under the same lease.
    More,
    /// The turn is to be committed; the rest comes again after this pause.
    Stop(Duration),
}

/// What comes after a turn's commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    /// Deliveries before this one are dealt with.
    pub(super) upto: usize,
    /// Another turn follows.
    pub(super) more: bool,
    /// What is left comes again after this pause.
    pub(super) pause: Duration,
}

/// A commit on its way.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) commit: Commit,
    pub(super) unfinished: bool,
    pub(super) rest: Rest,
    /// Without `ParkInOutbox` only: dead letters that go beside the outbox.
    pub(super) letters: Vec<Effect>,
}

/// An outbox on its way.
#[derive(Debug, Clone)]
pub(super) struct Sending {
    pub(super) hand: Hand,
    pub(super) outbox: Outbox,
    pub(super) until: Moment,
    pub(super) why: Why,
}

/// Whose outbox it is.
#[derive(Debug, Clone)]
pub(super) enum Why {
    /// Somebody's who did not get to its end.
    Leftover,
    /// Of the commit just made.
    Own(Rest, Vec<Effect>),
    /// The letters beside it.
    Letters(Rest),
}

impl State {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Between => "between two states",
            Self::Loading => "loading",
            Self::Leasing(_) => "taking a lease",
            Self::LookingUp(..) => "looking up",
            Self::EnteringAlone(..) => "entering alone",
            Self::Entering(_) => "entering",
            Self::Invoking(_) => "invoking",
            Self::Rereading(..) => "reading again",
            Self::Committing(_) => "committing",
            Self::Barrier(..) => "at the barrier",
            Self::ClearingFirst(_) => "clearing first",
            Self::Sending(_) => "sending",
            Self::KeepingProgress(..) => "keeping progress",
            Self::Finishing(..) => "finishing",
            Self::FindingNote(_) => "looking for a note",
            Self::TakingBack(..) => "taking a note back",
            Self::TakenBack(_) => "at the barrier behind a note that was taken back",
            Self::Pausing(..) => "pausing",
            Self::Freeing(..) => "freeing a lease",
            Self::Done(_) => "done",
        }
    }
}
