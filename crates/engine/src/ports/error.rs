//! What a port fails with, by what to do about it.

use std::error::Error;

pub use statefun_core::protocol::PortErrorKind;

/// A port's failure. Unless the kind says otherwise, the call may or may not have taken effect.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed ({kind})")]
pub struct PortError {
    /// What was being done, such as `commit`.
    pub call: &'static str,
    /// What to do about it.
    pub kind: PortErrorKind,
    /// What the backend said.
    pub source: Box<dyn Error + Send + Sync>,
}

impl PortError {
    /// A failure of `call`.
    pub fn new(call: &'static str, kind: PortErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { call, kind, source: source.into() }
    }
}
