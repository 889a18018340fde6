//! What a data folder holds: a note beside the state, so that one folder is never fed from two files.

use std::path::PathBuf;

use lambda_statefun::local::{Host, HostError};
use serde::{Deserialize, Serialize};

use super::{Job, JobError};

const KEY: &str = "flights/run";

/// Which file's run a folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    input: String,
    /// Whether everything in it was worked through.
    pub(super) finished: bool,
}

impl Note {
    /// Reads the note of the folder; writes it, if the folder is new.
    pub(super) async fn take(host: &Host, job: &Job) -> Result<Self, JobError> {
        let open = |source| JobError::Open { path: job.input.clone(), source };
        let input = job.input.canonicalize().map_err(open)?.display().to_string();
        let Some(note) =
            host.store().cursor(KEY).map_err(HostError::from)?.and_then(|note| serde_json::from_slice::<Self>(&note).ok())
        else {
            let note = Self { input, finished: false };
            note.write(host).await?;
            return Ok(note);
        };
        if note.input != input {
            return Err(JobError::OtherInput { data: PathBuf::from(host.data()), other: note.input });
        }
        Ok(note)
    }

    /// Notes that the file was worked through.
    pub(super) async fn finish(&self, host: &Host) -> Result<(), JobError> {
        Self { finished: true, ..self.clone() }.write(host).await
    }

    async fn write(&self, host: &Host) -> Result<(), JobError> {
        // A text and a truth value: serde_json cannot fail on these.
        let note = serde_json::to_vec(self).unwrap_or_default();
        let op = host.store().set_cursor(KEY, note).map_err(HostError::from)?;
        Ok(host.store().durable(op).await.map_err(HostError::from)?)
    }
}
