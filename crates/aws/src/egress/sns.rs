//! Requests to an SNS topic.

use async_trait::async_trait;
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use statefun_engine::ports::{PortError, PortErrorKind};

use super::{CALL, message::Message, rounds::Batches};
use crate::entries::{FailedEntry, egress_outcomes, repeated};

/// Bytes of one request. Source: the `PublishBatch` reference.
pub(super) const MAX_BYTES: usize = 256 * 1_024;

pub(super) struct Topic<'a> {
    pub(super) client: &'a aws_sdk_sns::Client,
    pub(super) arn: &'a str,
}

#[async_trait]
impl Batches for Topic<'_> {
    fn max_bytes(&self) -> usize {
        MAX_BYTES
    }

    async fn send(&self, batch: &[&Message]) -> Vec<Result<(), PortError>> {
        let entries: Result<Vec<_>, _> = batch.iter().enumerate().map(|(index, message)| entry(index, message)).collect();
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => return repeated(&PortError::new(CALL, PortErrorKind::Refused, error), batch.len()),
        };
        let sent = self.client.publish_batch().topic_arn(self.arn).set_publish_batch_request_entries(Some(entries)).send().await;
        let output = match sent {
            Ok(output) => output,
            Err(error) => return repeated(&crate::error::egress_error(CALL, error, batch.len()), batch.len()),
        };
        let failed = output.failed().iter().map(|entry| FailedEntry {
            id: &entry.id,
            code: &entry.code,
            text: entry.message.as_deref(),
            sender_fault: entry.sender_fault,
        });
        egress_outcomes(CALL, batch.len(), output.successful().iter().filter_map(|entry| entry.id()), failed)
    }
}

fn entry(index: usize, message: &Message) -> Result<PublishBatchRequestEntry, aws_smithy_types::error::operation::BuildError> {
    let mut entry = PublishBatchRequestEntry::builder().id(index.to_string()).message(&message.body);
    for (name, value) in &message.attributes {
        entry =
            entry.message_attributes(*name, MessageAttributeValue::builder().data_type("String").string_value(value).build()?);
    }
    if let Some(fifo) = &message.fifo {
        entry = entry.message_group_id(&fifo.group).message_deduplication_id(&fifo.deduplication);
    }
    entry.build()
}
