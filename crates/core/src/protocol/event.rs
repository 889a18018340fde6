//! What the machine of a batch asks for, and the answers it gets: its steps and its events.

use std::{collections::HashSet, sync::Arc, time::Duration};

use crate::{
    effects::{Effect, Reason},
    error::FunctionError,
    id::EnvelopeId,
    protocol::turn::{Commit, Context, Unreadable},
    record::{Lease, Owner, Record},
    time::{Moment, Timestamp},
    typed_value::TypedValue,
};

/// When an event is given to the machine: it has no clock of its own.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// By the wall clock: for what is stored.
    pub now: Timestamp,
    /// By the monotonic clock: for what has to pass.
    pub moment: Moment,
    /// The process stops: handlers are to be given up.
    pub cut: bool,
}

/// What to do next. Each is answered by one event, but for the last.
#[derive(Debug)]
pub enum Step<'a> {
    /// Take the record from the cache, or read it. [`Event::Loaded`] or [`Event::Failed`].
    Load {
        /// Not from the cache.
        fresh: bool,
        /// Give up by then: the read has failed then.
        within: Option<Moment>,
    },
    /// Take the record's lease. [`Event::Leased`] or [`Event::Failed`].
    Lease(Leasing),
    /// Look for ids in the spilled segments. [`Event::Found`] or [`Event::Failed`].
    LookUp {
        /// Whether these are there.
        ids: &'a [EnvelopeId],
        /// Segments whose newest entry is older need not be read.
        since: Timestamp,
    },
    /// Wait at the gate of the process. [`Event::Entered`] or [`Event::NoTime`].
    Enter(How),
    /// Call the handler. [`Event::Handled`].
    Invoke {
        /// What the handler works on.
        context: &'a mut Context,
        /// The message.
        message: &'a TypedValue,
        /// What whoever gives the run up meanwhile has to pass on.
        lost: Lost,
        /// The lease to take if the handler still runs at this moment: a second run would be a waste.
        lease: Option<(Moment, Leasing)>,
    },
    /// Write. [`Event::Committed`] or [`Event::Failed`].
    Commit {
        /// What to write.
        commit: &'a Commit,
        /// Give up by then: the write has failed then.
        within: Option<Moment>,
    },
    /// Wait until all that was written is durable. [`Event::Durable`] or [`Event::Failed`].
    Barrier {
        /// Give up by then.
        within: Option<Moment>,
    },
    /// Send. [`Event::Sent`].
    Send {
        /// What to send, in order.
        outbox: &'a [Effect],
        /// Since when its egress records wait for their deployment; zero if they do not.
        denied_since: Timestamp,
        /// Begin nothing after that.
        until: Moment,
    },
    /// Clear the outbox and free the lease. [`Event::Finished`] or [`Event::Failed`].
    Finish {
        /// The version that must be found. The next one is the record's then.
        expect: u64,
    },
    /// Free the lease, if it is this run's. [`Event::Freed`], also after a failure.
    Free(Owner),
    /// Wait. [`Event::Woken`].
    Pause {
        /// Until then.
        until: Moment,
    },
    /// Nothing: the batch is over.
    Done(&'a [Outcome]),
}

/// How a step came out.
#[derive(Debug)]
pub enum Event {
    /// The batch begins.
    Begin,
    /// The record is at hand, or not to be had.
    Loaded(Loaded),
    /// Which of the ids are in the segments.
    Found(Vec<EnvelopeId>),
    /// The gate is passed.
    Entered,
    /// There was no time left to wait.
    NoTime,
    /// What became of the lease.
    Leased(Leased),
    /// The handler came out like this, and if its lease was asked for meanwhile, that so; `None` if the backend failed.
    Handled(Handled, Option<Option<Leased>>),
    /// The store answered a commit.
    Committed(Committed),
    /// All that was written is durable.
    Durable,
    /// The outbox is sent as far as this.
    Sent(Progress),
    /// Whether the outbox was cleared, and the lease freed.
    Finished(bool),
    /// The lease is free, or runs out.
    Freed,
    /// The pause is over.
    Woken,
    /// The backend failed.
    Failed(PortErrorKind),
}

/// Where a record came from.
#[derive(Debug)]
pub enum Loaded {
    /// Of this process's last commit: somebody may have written since.
    Cached(Box<Record>),
    /// Read; `None` if there is none.
    Read(Option<Box<Record>>),
}

/// A lease that is to be taken, on condition of the record's version. Where there is no record it makes an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leasing {
    /// The version that must be found; zero if there must be no record. One that this very lease made before counts as found.
    pub expect: u64,
    /// The version that it makes.
    pub makes: u64,
    /// Of a record that it makes.
    pub born: Timestamp,
    /// The lease.
    pub lease: Lease,
}

/// What a store made of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leased {
    /// It is taken, and the record has the version that it makes.
    Taken,
    /// Somebody else wrote: nothing was written.
    Refused,
}

/// How a handler came out.
#[derive(Debug)]
pub enum Handled {
    /// It returned `Ok`.
    Kept,
    /// It returned an error.
    Failed(FunctionError),
    /// It panicked.
    Panicked(FunctionError),
    /// It did not return in time.
    CutShort,
}

/// How far an outbox was sent.
#[derive(Debug, Default)]
pub struct Progress {
    /// Which entries are sent.
    pub sent: HashSet<usize>,
    /// Which of these are egress records that became dead letters.
    pub refused: HashSet<usize>,
    /// A queue, topic, stream or permission was missing for an egress record.
    pub denied: bool,
    /// What failed first. Without it time ran out, if anything is left.
    pub error: Option<PortErrorKind>,
}

/// What a store made of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// The record is written; its outbox is still to be sent.
    Stored,
    /// The record is written with an empty outbox and a free lease, and in the same atomic step everything in the outbox was
    /// handed to its queue, timer, egress or dead-letter store. Only backends whose store and queues share a transaction do this.
    Settled,
    /// The version was not as expected: nothing was written.
    Fenced,
}

/// What to do about a failed call of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortErrorKind {
    /// No answer, or a failure of the backend: it may have taken effect. Try again later.
    Unavailable,
    /// The backend refuses for now, and nothing took effect. Try again more slowly.
    Throttled,
    /// The receiver does not take what was sent, and nothing took effect: other content it might. Only an egress says so.
    Rejected,
    /// A table, queue or permission is missing, or data are damaged: someone has to fix the deployment.
    Refused,
}

impl std::fmt::Display for PortErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "try again later",
            Self::Throttled => "throttled",
            Self::Rejected => "its receiver does not take it",
            Self::Refused => "the deployment needs fixing",
        })
    }
}

/// How handlers pass the gate of their process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Beside others.
    Beside,
    /// No other handler of the process runs.
    Alone,
}

/// What the next run of the same deliveries has to know of one that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    pub(super) envelope: EnvelopeId,
    pub(super) message: usize,
    /// The run, which may have left a lease.
    pub(super) owner: Owner,
}

impl Lost {
    /// This message's handler held the thread of this run, whose lease the next one may take over.
    #[must_use]
    pub const fn new(envelope: EnvelopeId, message: usize, owner: Owner) -> Self {
        Self { envelope, message, owner }
    }
}

/// What becomes of a delivered envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// What it caused is durable and sent (or it was applied before): acknowledge it.
    Done,
    /// It has to come again, after this pause; nothing later of its address may be acknowledged before it.
    Retry(Duration),
}

/// What happened on the way, for counters and logs.
#[derive(Debug, Clone)]
pub enum Notice {
    /// An envelope was applied before.
    Duplicate,
    /// A queue counts from lower numbers than before.
    WrongLastSeq,
    /// A handler is called.
    Invoked,
    /// A handler failed.
    Failed {
        /// The envelope of the message.
        envelope: EnvelopeId,
        /// The message's place in it.
        index: usize,
        /// Its attempts.
        attempt: u32,
        /// How it failed.
        kind: &'static str,
        /// With what.
        error: Arc<FunctionError>,
    },
    /// State that a handler asked for could not be read.
    Unreadable(Unreadable),
    /// Messages were given up.
    GaveUp {
        /// Their envelope.
        envelope: EnvelopeId,
        /// Their dead letter.
        letter: EnvelopeId,
        /// Why.
        reason: Reason,
        /// After so many attempts.
        attempts: u32,
    },
    /// So many messages were given up without a dead letter, as their function's policy says.
    Dropped(usize),
    /// A commit was refused, since somebody else wrote: of a cached record, or of one that was read.
    Refused {
        /// The record was a cached one.
        cached: bool,
    },
    /// A commit took effect.
    Committed {
        /// On a record that was a cached one.
        cached: bool,
    },
    /// So many messages were applied by it.
    Applied(usize),
    /// What an outbox held is sent.
    Sent {
        /// To functions.
        messages: usize,
        /// To egresses.
        records: usize,
        /// To the dead letters.
        parked: usize,
    },
    /// A delivery proved that the outbox that stood was sent.
    Proven,
    /// So many egress records were not taken, and became dead letters.
    NotTaken(usize),
    /// The batch ends early.
    Halted(Halt),
    /// What is noted of a run may count as a death of its process: it could not be taken back.
    NoteStays,
}

/// Why a batch ends before all of it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// Others wrote the record again and again: nothing of the last commit happened.
    Fenced,
    /// The backend failed.
    Port,
    /// The lease is held elsewhere.
    Busy,
    /// Time ran out while an outbox was sent; what is left of it is stored.
    Unsent,
}
