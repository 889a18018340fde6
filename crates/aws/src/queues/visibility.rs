//! When a message that failed comes again: not after the queue's long visibility timeout, but after its own pause.

use std::{sync::Arc, time::Duration};

use aws_sdk_sqs::{Client, types::ChangeMessageVisibilityBatchRequestEntry};
use statefun_engine::ports::{PortError, PortErrorKind};

use super::FunctionQueues;
use crate::{clients::Clients, error::port_error};

/// Entries of a request. Source: SQS quotas.
const MAX_ENTRIES: usize = 10;
/// The longest visibility timeout. Source: SQS quotas.
const MAX_SECONDS: u64 = 12 * 3_600;

/// A delivered message that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The delivery's receipt handle.
    pub receipt: String,
    /// When it is to come again; rounded up to seconds, at least one, since the queue's own redrive counts receives (see
    /// `docs/protocol.md`).
    pub after: Duration,
}

/// Sets the visibility of failed messages.
#[derive(Debug, Clone)]
pub struct SqsVisibility {
    client: Client,
    functions: Arc<FunctionQueues>,
}

impl SqsVisibility {
    /// For the declared queues.
    pub fn new(clients: &Clients, functions: Arc<FunctionQueues>) -> Self {
        Self { client: clients.sqs.clone(), functions }
    }

    /// Lets the messages of a queue (ARN, URL or name) come again after their pauses. What fails here comes again after the queue's own
    /// visibility timeout: later, but nothing is lost.
    ///
    /// # Errors
    /// The first [`PortError`], after all were tried.
    pub async fn delay(&self, queue: &str, failed: &[Failed]) -> Result<(), PortError> {
        let Some(url) = self.functions.url_of(queue) else {
            let problem = "the queue that invoked this function is not in module.yaml: add it to the functions' queues";
            return Err(PortError::new("change visibility", PortErrorKind::Refused, problem));
        };
        let requests = failed.chunks(MAX_ENTRIES).map(|chunk| self.request(url, chunk));
        futures_util::future::join_all(requests).await.into_iter().collect()
    }

    async fn request(&self, url: &str, failed: &[Failed]) -> Result<(), PortError> {
        let entry = |(index, failed): (usize, &Failed)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(index.to_string());
            entry.receipt_handle(&failed.receipt).visibility_timeout(seconds(failed.after)).build()
        };
        let entries = failed.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>();
        let entries = entries.map_err(|error| PortError::new("change visibility", PortErrorKind::Refused, error))?;
        let request = self.client.change_message_visibility_batch().queue_url(url).set_entries(Some(entries));
        let output = request.send().await.map_err(|error| port_error("change visibility", error))?;
        match output.failed.first() {
            None => Ok(()),
            Some(entry) => Err(PortError::new("change visibility", PortErrorKind::Unavailable, entry.code.clone())),
        }
    }
}

fn seconds(pause: Duration) -> i32 {
    pause.as_secs_f64().ceil().clamp(1.0, MAX_SECONDS as f64) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_whole_seconds() {
        for (millis, expected) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (300_000, 300), (u64::MAX, 43_200)] {
            assert_eq!(seconds(Duration::from_millis(millis)), expected, "{millis}");
        }
    }
}
