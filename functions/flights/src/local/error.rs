//! Why a job did not end.

use std::{io, path::PathBuf};

use lambda_statefun::{
    InvalidApplication,
    local::{HostError, InputError},
};

/// Why a job did not end.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The input cannot be opened.
    #[error("cannot open the input `{}`", .path.display())]
    Open {
        /// The input.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The input is not a file of departures.
    #[error("`{}` has no column {}: it needs {}", .path.display(), .missing.join(", "), crate::COLUMNS.join(", "))]
    Columns {
        /// The input.
        path: PathBuf,
        /// What its header lacks.
        missing: Vec<&'static str>,
    },
    /// The folder is another file's.
    #[error("`{}` holds the run of another file, `{other}`: start anew with --fresh, or name another folder with --data", .data.display())]
    OtherInput {
        /// The folder.
        data: PathBuf,
        /// The file that it holds the run of.
        other: String,
    },
    /// The application is not well formed.
    #[error(transparent)]
    Application(#[from] InvalidApplication),
    /// The host cannot go on.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A state value cannot be read.
    #[error("the state of `{address}` cannot be read")]
    State {
        /// Whose state.
        address: String,
        /// What is wrong with it.
        source: lambda_statefun::DecodeError,
    },
    /// The alerts cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Alerts {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was stopped.
    #[error("stopped; the next run goes on where this one was left")]
    Interrupted,
}

impl JobError {
    /// The process's exit code: 2 for a mistake in the call, 130 if it was stopped, 1 for any other failure.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Open { .. } | Self::Columns { .. } | Self::OtherInput { .. } => 2,
            Self::Interrupted => 130,
            Self::Host(error) => error.exit_code(),
            Self::Application(_) | Self::State { .. } | Self::Alerts { .. } => 1,
        }
    }
}

impl From<InputError> for JobError {
    fn from(error: InputError) -> Self {
        Self::Host(error.into())
    }
}
