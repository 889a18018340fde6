//! What holds for a whole application.

use std::collections::BTreeSet;

use crate::{classify::Protocol, limits::DEFAULT_MAX_HOPS, type_name::TypeName};

/// What holds for every turn of an application.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Times and shapes of the protocol.
    pub protocol: Protocol,
    /// Hops after which a loop is assumed.
    pub max_hops: u32,
    /// Where messages may go.
    pub targets: Targets,
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
        Self { protocol: Protocol::default(), max_hops: DEFAULT_MAX_HOPS, targets: Targets::Any }
    }
}
