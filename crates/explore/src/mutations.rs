//! Which safeguards' absence an exploration notices, and with how many faults; and what it has nothing of for those that it does not.

use std::fmt;

use statefun_core::Safeguard::{self, *};

/// What is known of a safeguard's absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It is noticed with so many faults, not with fewer.
    Noticed(u8),
    /// The world has nothing that it would show in.
    Not(&'static str),
}

impl Expected {
    /// Of this safeguard, in worlds with or without marks.
    #[must_use]
    pub const fn of(safeguard: Safeguard, marks: bool) -> Self {
        use Expected::{Not, Noticed};
        match safeguard {
            FinishAfterDrain => Noticed(0),
            Fence => Noticed(if marks { 0 } else { 1 }),
            DropStaleCache => Noticed(if marks { 0 } else { 2 }),
            LastSeq | DrainLeftover | AckLast | FailRest | Rollback | Partial | RetryFirst => Noticed(1),
            InlineLedger | Segments | DedupWindow => Noticed(2),
            FinishFence => Noticed(if marks { 1 } else { 2 }),
            AckCleared if marks => Not("a delivery that comes later clears, or proves, what stands"),
            AckCleared => Noticed(1),
            ProofAbove if marks => Noticed(1),
            ProofAbove | ProofQueue | ProofInTime | MarkExpires | MarkCovers if !marks => Not("there are no marks"),
            Hearsay => Not("needs a third fault beside a copy and the minutes before it"),
            MarkCovers => Not("needs an envelope before the one that is left half done"),
            ProofAbove | ProofInTime | MarkExpires | Horizon => Not("days do not pass"),
            ProofQueue | WrongLastSeq | MovedAt => Not("an address has one queue, and it is never made anew"),
            KeyedLookup | KeyHorizon => Not("no producer names keys"),
            SendOrder | KeepProgress => Not("an outbox is sent whole, or not at all"),
            OwnCommit => Not("the store repeats nothing: the loop that does is not in the machine"),
            ParkInOutbox | ParkTheDying | LetterReason | LetterAttempts => Not("nothing fails three times"),
            TrialEach | StateIsNoAttempt => Not("handlers fail for want of time only"),
            ParkOwn | TakeBack | Withdraw | RunAlone => Not("blame takes more deaths than there are faults"),
            Barrier => Not("what is written is durable at once"),
            ParkRefused | ParkUndeliverable | AwaitDeployment => Not("there are no egresses"),
            TimerDeleteLast | Tombstone | Cancel | TimerDue => Not("there are no timers"),
            HopLimit => Not("nothing is sent on for long"),
            Sweep | NudgeClears => Not("there are no nudges"),
            OwnGroup | NewerFirst | KeepUnreadable => Not("queues hold envelopes of this version in their own groups only"),
            OwnAnswer => Not("no messages share a request"),
            RouteOrder => Not("there is no router"),
        }
    }

    /// Whether it is noticed with so many faults.
    #[must_use]
    pub fn is_noticed_with(self, faults: u8) -> bool {
        matches!(self, Self::Noticed(least) if least <= faults)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noticed(1) => f.write_str("noticed with a fault"),
            Self::Noticed(least) => write!(f, "noticed with {least} faults"),
            Self::Not(why) => write!(f, "not to be noticed: {why}"),
        }
    }
}
