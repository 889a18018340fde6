//! The safeguards of the protocol by name, so that a test can switch one off and see that the tests notice.

/// One safeguard. Without it some fault breaks an invariant; `cargo xtask mutations` shows which seed notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Safeguard {
    /// A commit is conditional on the record's version.
    Fence,
    /// An envelope at or below the last sequence number is a duplicate.
    LastSeq,
    /// An id in the record is a duplicate.
    InlineLedger,
    /// Where record and freshness prove nothing, the spilled segments are asked.
    Segments,
    /// Only an envelope enqueued well within the queue's deduplication window is taken for a first copy.
    DedupWindow,
    /// An envelope with a producer's own key is never taken for a first copy.
    KeyedLookup,
    /// An envelope older than the horizon goes to the dead letters.
    Horizon,
    /// An outbox left by an earlier invocation is sent before anything new.
    DrainLeftover,
    /// After a failed send nothing later of that group is sent.
    SendOrder,
    /// The outbox is cleared only once all of it is sent.
    FinishAfterDrain,
    /// An outbox that takes more than one invocation is not begun again by each.
    KeepProgress,
    /// Clearing the outbox is conditional on the record's version.
    FinishFence,
    /// Envelopes are acknowledged only after what they caused is durable and sent.
    AckLast,
    /// With a failed envelope, all later ones of its address are reported as failed too.
    FailRest,
    /// A failed message leaves no effect.
    Rollback,
    /// What was given up is parked through the outbox, with its mark in the ledger.
    ParkInOutbox,
    /// An egress record that its receiver refuses leaves the outbox only once its dead letter is kept.
    ParkRefused,
    /// A missing queue or permission holds up those behind it for an hour, and not for ever.
    ParkUndeliverable,
    /// For an hour it is waited for.
    AwaitDeployment,
    /// An envelope that dies when run alone is parked unrun.
    ParkTheDying,
    /// An environment whose cached record turns out stale loads it anew.
    DropStaleCache,
    /// An envelope left half done goes on where it was left.
    Partial,
    /// A timer is deleted only after its envelope was sent.
    TimerDeleteLast,
    /// A message beyond the hop limit is refused.
    HopLimit,
    /// After a lost reply a failed condition is a success only if what was found has the commit's own tag.
    OwnCommit,
    /// A cancelled timer leaves a tombstone, and a row that is written again does not fire.
    Tombstone,
    /// A sequence number that was enqueued later than the mark above it proves the mark wrong.
    WrongLastSeq,
    /// What was sent before an address moved to another queue is never taken for a first copy.
    MovedAt,
    /// Duplicates known from segments alone are acknowledged only after the record was read again.
    Hearsay,
    /// A producer's key is forgotten after the horizon.
    KeyHorizon,
    /// Envelopes are acknowledged only after the outbox of what they caused is cleared.
    AckCleared,
    /// Each failing envelope has a count of its own.
    TrialEach,
    /// A message that failed is tried as often as its function allows.
    RetryFirst,
    /// State that cannot be read is not an attempt of the message that asked for it.
    StateIsNoAttempt,
    /// A dead letter says why its message was given up.
    LetterReason,
    /// A dead letter says how often its message was tried.
    LetterAttempts,
    /// Only a death that was an envelope's own counts as its failure.
    ParkOwn,
    /// After a failure of the backend the note is taken back that an envelope runs.
    TakeBack,
    /// The note that an envelope runs is taken back when it does not run after all.
    Withdraw,
    /// While an envelope runs alone, no other handler of its process runs.
    RunAlone,
    /// The note that an envelope runs is durable before it runs.
    Barrier,
    /// A cancellation gets to its timer.
    Cancel,
    /// A timer fires only when it is due.
    TimerDue,
    /// What proves an outbox sent lies beyond all that its run had dealt with.
    ProofAbove,
    /// It is of the queue that delivered to that run.
    ProofQueue,
    /// It comes before the mark ends.
    ProofInTime,
    /// A mark ends before what was delivered to its run expires.
    MarkExpires,
    /// A mark is above what its run left half done, too.
    MarkCovers,
    /// A nudge is sent to what nothing else comes to.
    Sweep,
    /// The run of a nudge reads, and clears what stands.
    NudgeClears,
    /// An envelope that comes in another group than its address's is not run.
    OwnGroup,
    /// Behind a message that only a newer version can read, nothing of its group is run.
    NewerFirst,
    /// What cannot be read is acknowledged only once its dead letter is kept.
    KeepUnreadable,
    /// In a request that several share, each message has its own answer.
    OwnAnswer,
    /// A router sends nothing of an order or to an address after a failure.
    RouteOrder,
}

impl Safeguard {
    /// All of them.
    pub const ALL: [Self; 55] = [
        Self::Fence,
        Self::LastSeq,
        Self::InlineLedger,
        Self::Segments,
        Self::DedupWindow,
        Self::KeyedLookup,
        Self::Horizon,
        Self::DrainLeftover,
        Self::SendOrder,
        Self::FinishAfterDrain,
        Self::KeepProgress,
        Self::FinishFence,
        Self::AckLast,
        Self::FailRest,
        Self::Rollback,
        Self::ParkInOutbox,
        Self::ParkRefused,
        Self::ParkUndeliverable,
        Self::AwaitDeployment,
        Self::ParkTheDying,
        Self::DropStaleCache,
        Self::Partial,
        Self::TimerDeleteLast,
        Self::HopLimit,
        Self::OwnCommit,
        Self::Tombstone,
        Self::WrongLastSeq,
        Self::MovedAt,
        Self::Hearsay,
        Self::KeyHorizon,
        Self::AckCleared,
        Self::TrialEach,
        Self::RetryFirst,
        Self::StateIsNoAttempt,
        Self::LetterReason,
        Self::LetterAttempts,
        Self::ParkOwn,
        Self::TakeBack,
        Self::Withdraw,
        Self::RunAlone,
        Self::Barrier,
        Self::Cancel,
        Self::TimerDue,
        Self::ProofAbove,
        Self::ProofQueue,
        Self::ProofInTime,
        Self::MarkExpires,
        Self::MarkCovers,
        Self::Sweep,
        Self::NudgeClears,
        Self::OwnGroup,
        Self::NewerFirst,
        Self::KeepUnreadable,
        Self::OwnAnswer,
        Self::RouteOrder,
    ];
}

/// Which safeguards are on: all, but in builds with the feature `mutations`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Safeguards {
    #[cfg(feature = "mutations")]
    off: Option<Safeguard>,
}

impl Safeguards {
    /// All but one.
    #[cfg(feature = "mutations")]
    #[must_use]
    pub const fn without(safeguard: Safeguard) -> Self {
        Self { off: Some(safeguard) }
    }

    /// Whether the safeguard is on.
    #[inline]
    #[must_use]
    pub fn on(&self, safeguard: Safeguard) -> bool {
        #[cfg(feature = "mutations")]
        return self.off != Some(safeguard);
        #[cfg(not(feature = "mutations"))]
        {
            let _ = safeguard;
            true
        }
    }
}
