//! Requests with several messages to a queue.

use async_trait::async_trait;
use aws_sdk_sqs::{Client, types::SendMessageBatchRequestEntry};
use statefun_engine::ports::{Outgoing, PortError, PortErrorKind, Requests};

use crate::{
    entries::{FailedEntry, outcomes, repeated},
    error::port_error,
};

/// `SendMessageBatch`.
#[derive(Debug, Clone)]
pub(crate) struct SqsRequests(pub(crate) Client);

#[async_trait]
impl Requests for SqsRequests {
    async fn send(&self, queue: &str, messages: Vec<Outgoing>) -> Vec<Result<(), PortError>> {
        let count = messages.len();
        let entries =
            messages.into_iter().enumerate().map(|(index, message)| entry(index, message)).collect::<Result<Vec<_>, _>>();
        let answer = match entries {
            Ok(entries) => self.0.send_message_batch().queue_url(queue).set_entries(Some(entries)).send().await,
            Err(error) => return repeated(&PortError::new("send", PortErrorKind::Refused, error), count),
        };
        let output = match answer {
            Ok(output) => output,
            Err(error) => return repeated(&port_error("send", error), count),
        };
        let failed = output.failed.iter().map(|entry| FailedEntry {
            id: &entry.id,
            code: &entry.code,
            text: entry.message.as_deref(),
            sender_fault: entry.sender_fault,
        });
        outcomes("send", count, output.successful.iter().map(|entry| &*entry.id), failed)
    }
}

fn entry(index: usize, message: Outgoing) -> Result<SendMessageBatchRequestEntry, aws_sdk_sqs::error::BuildError> {
    let entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(message.body);
    match message.fifo {
        Some((group, id)) => entry.message_group_id(group).message_deduplication_id(id),
        None => entry.delay_seconds(message.delay_seconds),
    }
    .build()
}
