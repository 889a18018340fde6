//! What a port fails with, by what to do about it.

use std::error::Error;

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

/// What to do about a [`PortError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortErrorKind {
    /// No answer, or a failure of the backend: it may have taken effect. Try again later.
    Unavailable,
    /// The backend refuses for now, and nothing took effect. Try again more slowly.
    Throttled,
    /// The receiver does not take what was sent, and nothing took effect: other content it might. Only an egress says so.
    Rejected,
    /// A table, queue or permission is missing, or data are damaged: someone has to mend the deployment.
    Refused,
}

impl std::fmt::Display for PortErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "try again later",
            Self::Throttled => "throttled",
            Self::Rejected => "its receiver does not take it",
            Self::Refused => "the deployment needs mending",
        })
    }
}

impl PortError {
    /// A failure of `call`.
    pub fn new(call: &'static str, kind: PortErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { call, kind, source: source.into() }
    }
}
