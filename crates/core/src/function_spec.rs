//! What the engine knows of a function: its name, its state, what to do when it fails.

use std::collections::BTreeMap;

use crate::{messages::Accepted, type_name::TypeName, value_spec::StateSpec};

/// What becomes of a message that keeps failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// After `max_attempts` a copy goes to the dead letters, with its reason, and the address goes on. The default, with 5.
    DeadLetter {
        /// Tries before it is parked, 1 to [`MAX_ATTEMPTS`](crate::limits::MAX_ATTEMPTS).
        max_attempts: u32,
    },
    /// It is tried until it succeeds; later messages of its address wait. Terminal errors are retried too. On AWS
    /// it is lost after the 14 days that a queue keeps a message.
    RetryForever,
    /// After `max_attempts` it is dropped and counted.
    Drop {
        /// Tries before it is dropped, 1 to [`MAX_ATTEMPTS`](crate::limits::MAX_ATTEMPTS).
        max_attempts: u32,
    },
}

impl OnFailure {
    /// Tries of a message where nothing else is said.
    pub const DEFAULT_ATTEMPTS: u32 = 5;

    /// Tries before the runtime gives the message up; `None` for ever.
    #[must_use]
    pub const fn max_attempts(self) -> Option<u32> {
        match self {
            Self::DeadLetter { max_attempts } | Self::Drop { max_attempts } => Some(max_attempts),
            Self::RetryForever => None,
        }
    }
}

impl Default for OnFailure {
    fn default() -> Self {
        Self::DeadLetter { max_attempts: Self::DEFAULT_ATTEMPTS }
    }
}

/// A function type: its name, the state it declares and its policy.
#[derive(Debug, Clone)]
pub struct FunctionSpec {
    /// The function's type.
    pub name: TypeName,
    /// Declared state by name.
    pub states: BTreeMap<&'static str, StateSpec>,
    /// Message types it takes; none means any.
    pub accepts: Vec<Accepted>,
    /// What becomes of a message that keeps failing.
    pub on_failure: OnFailure,
    /// Each run takes a lease of its instance before it calls a handler.
    pub exclusive: bool,
}

impl FunctionSpec {
    /// A function without state that takes any message, with the default policy.
    #[must_use]
    pub fn new(name: TypeName) -> Self {
        Self { name, states: BTreeMap::new(), accepts: Vec::new(), on_failure: OnFailure::default(), exclusive: false }
    }
}
