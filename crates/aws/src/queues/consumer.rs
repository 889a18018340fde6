//! The receiving side by polling. On AWS the event source mapping receives; this is for tools and tests.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use statefun_core::{Delivered, Envelope, LastSeq, Timestamp, queue_hash};
use statefun_engine::ports::{Delivery, PortError, PortErrorKind, QueueConsumer, Receipt};

use crate::{
    clients::Clients,
    error::{port_error, unreadable},
};

/// Polls one queue.
#[derive(Debug, Clone)]
pub struct SqsConsumer {
    client: aws_sdk_sqs::Client,
    url: Arc<str>,
}

impl SqsConsumer {
    /// Of the queue with this URL.
    pub fn new(clients: &Clients, url: impl Into<Arc<str>>) -> Self {
        Self { client: clients.sqs.clone(), url: url.into() }
    }
}

#[async_trait]
impl QueueConsumer for SqsConsumer {
    async fn receive(&self, max: usize) -> Result<Vec<Delivery>, PortError> {
        let max = i32::try_from(max.clamp(1, 10)).unwrap_or(10);
        let request = self.client.receive_message().queue_url(&*self.url).max_number_of_messages(max);
        let request = request.message_system_attribute_names(MessageSystemAttributeName::All);
        let output = request.send().await.map_err(|error| port_error("receive", error))?;
        output.messages.unwrap_or_default().into_iter().map(|message| delivery(&self.url, message)).collect()
    }

    async fn acknowledge(&self, receipt: &Receipt) -> Result<(), PortError> {
        let request = self.client.delete_message().queue_url(&*self.url).receipt_handle(&receipt.0);
        request.send().await.map(drop).map_err(|error| port_error("acknowledge", error))
    }

    async fn give_back(&self, receipt: &Receipt, after: Duration) -> Result<(), PortError> {
        let seconds = i32::try_from(after.as_millis().div_ceil(1_000)).unwrap_or(i32::MAX);
        let request = self.client.change_message_visibility().queue_url(&*self.url).receipt_handle(&receipt.0);
        request.visibility_timeout(seconds).send().await.map(drop).map_err(|error| port_error("give back", error))
    }
}

fn delivery(url: &str, message: Message) -> Result<Delivery, PortError> {
    let attributes = message.attributes.unwrap_or_default();
    let number = |name: &MessageSystemAttributeName| -> Result<u128, PortError> {
        let text = attributes.get(name).map(String::as_str).unwrap_or_default();
        let problem =
            || PortError::new("receive", PortErrorKind::Refused, format!("`{name}` is `{text}`: is this a FIFO queue?"));
        text.parse().map_err(|_| problem())
    };
    let envelope =
        Envelope::from_wire(message.body.unwrap_or_default().as_bytes()).map_err(|error| unreadable("receive", error))?;
    let delivered = Delivered {
        envelope: Arc::new(envelope),
        seq: LastSeq { queue: queue_hash(url), seq: number(&MessageSystemAttributeName::SequenceNumber)? },
        enqueued_at: Timestamp(number(&MessageSystemAttributeName::SentTimestamp)? as u64),
        receive_count: number(&MessageSystemAttributeName::ApproximateReceiveCount)? as u32,
    };
    Ok(Delivery { delivered, receipt: Receipt(message.receipt_handle.unwrap_or_default()) })
}

/// Makes a high-throughput FIFO queue and returns its URL. `template.yaml` makes them on AWS; tests make them here.
///
/// # Errors
/// [`PortError`] if the service refuses.
pub async fn create_fifo_queue(clients: &Clients, name: &str) -> Result<String, PortError> {
    let attributes = [
        (QueueAttributeName::FifoQueue, "true"),
        (QueueAttributeName::DeduplicationScope, "messageGroup"),
        (QueueAttributeName::FifoThroughputLimit, "perMessageGroupId"),
    ];
    create_queue(clients, name, HashMap::from(attributes.map(|(name, value)| (name, value.to_owned())))).await
}

/// Makes a standard queue and returns its URL.
///
/// # Errors
/// [`PortError`] if the service refuses.
pub async fn create_standard_queue(clients: &Clients, name: &str) -> Result<String, PortError> {
    create_queue(clients, name, HashMap::new()).await
}

async fn create_queue(
    clients: &Clients,
    name: &str,
    attributes: HashMap<QueueAttributeName, String>,
) -> Result<String, PortError> {
    let request = clients.sqs.create_queue().queue_name(name).set_attributes(Some(attributes));
    let output = request.send().await.map_err(|error| port_error("create queue", error))?;
    output.queue_url.ok_or_else(|| PortError::new("create queue", PortErrorKind::Unavailable, "the answer has no URL"))
}
