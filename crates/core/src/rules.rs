//! What holds for a whole application.

use std::collections::BTreeSet;

use crate::{
    classify::Protocol,
    limits::{COMMIT_SOFT_BYTES, COMMIT_SOFT_EFFECTS, DEFAULT_MAX_HOPS, MAX_ENVELOPE_MESSAGES},
    type_name::TypeName,
};

/// What holds for every turn of an application.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Times and shapes of the protocol.
    pub protocol: Protocol,
    /// Hops after which a loop is assumed.
    pub max_hops: u32,
    /// Where messages may go.
    pub targets: Targets,
    /// When a commit or an envelope takes no more.
    pub budget: Budget,
}

/// When a commit or an envelope takes no more. Tests use small ones; the defaults are the [`limits`](crate::limits).
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Messages of one envelope.
    pub envelope_messages: usize,
    /// Bytes after which a commit takes no further message.
    pub commit_bytes: usize,
    /// Effects after which a commit takes no further message.
    pub commit_effects: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { envelope_messages: MAX_ENVELOPE_MESSAGES, commit_bytes: COMMIT_SOFT_BYTES, commit_effects: COMMIT_SOFT_EFFECTS }
    }
}

/// Which functions can be sent to.
#[derive(Debug, Clone)]
pub enum Targets {
    /// Any: others know whether it exists.
    Any,
    /// These.
    Known(BTreeSet<TypeName>),
}

impl Default for Rules {
    fn default() -> Self {
        Self { protocol: Protocol::default(), max_hops: DEFAULT_MAX_HOPS, targets: Targets::Any, budget: Budget::default() }
    }
}
