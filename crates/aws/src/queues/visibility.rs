//! When a message that failed comes again: not after the queue's long visibility timeout, but after its own pause.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_sqs::{Client, types::ChangeMessageVisibilityBatchRequestEntry};
use statefun_engine::ports::{Failed, PortError, PortErrorKind, Visibility};

use super::FunctionQueues;
use crate::{clients::Clients, error::port_error};

/// Entries of a request. Source: SQS quotas.
const MAX_ENTRIES: usize = 10;
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

    async fn request(&self, url: &str, failed: &[Failed]) -> Result<(), PortError> {
        let entry = |(index, failed): (usize, &Failed)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(index.to_string());
            entry.receipt_handle(&failed.receipt).visibility_timeout(i32::try_from(failed.seconds()).unwrap_or(i32::MAX)).build()
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

#[async_trait]
impl Visibility for SqsVisibility {
    /// All are tried, whatever fails; the error is the first.
    async fn delay(&self, queue: &str, failed: &[Failed]) -> Result<(), PortError> {
        let Some(url) = self.functions.url_of(queue) else {
            let problem = "the queue that invoked this function is not in module.yaml: add it to the functions' queues";
            return Err(PortError::new("change visibility", PortErrorKind::Refused, problem));
        };
        let requests = failed.chunks(MAX_ENTRIES).map(|chunk| self.request(url, chunk));
        futures_util::future::join_all(requests).await.into_iter().collect()
    }
}
