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
    /// Of this safeguard, in a world with or without marks.
    #[must_use]
    pub const fn of(safeguard: Safeguard, marks: bool) -> Self {
        use Expected::{Not, Noticed};
        match safeguard {
            FinishAfterDrain => Noticed(0),
            Fence | DropStaleCache => Noticed(if marks { 0 } else { 1 }),
            _ => Not("?"),
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
