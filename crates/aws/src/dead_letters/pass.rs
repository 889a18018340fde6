//! One look through the dead letters.

use std::collections::BTreeSet;

use aws_sdk_sqs::types::ChangeMessageVisibilityBatchRequestEntry;
use futures_util::{StreamExt, stream};
use statefun_core::stored::{Letter, letter_from_json};
use statefun_engine::ports::{Clock, Moment, PortError, PortErrorKind};

use super::DeadLetterQueue;
use crate::{backend::SystemClock, error::port_error};

/// Messages of a request. Source: SQS quotas.
const PAGE: i32 = 10;
/// A short poll asks some of the queue's servers only, so that its empty answer proves nothing.
const WAIT_SECONDS: i32 = 1;
/// How much longer than the pass its messages stay hidden: one of them must not come twice.
const HIDDEN_LONGER_SECONDS: u64 = 10;
/// The longest visibility timeout. Source: SQS quotas.
const MAX_HIDDEN_SECONDS: u64 = 12 * 3_600;
/// Requests at a time that make messages visible again.
const PARALLEL: usize = 8;

/// A message of the queue.
#[derive(Debug)]
pub(super) struct Found {
    /// The letter's id; of anything else, the message's.
    pub(super) id: String,
    /// The letter, or why it is none.
    pub(super) letter: Result<Letter, String>,
    /// Bytes of the message.
    pub(super) bytes: usize,
    /// To delete it with.
    pub(super) receipt: String,
}

/// Sees every letter once. What was seen is hidden from others until [`end`](Self::end).
#[derive(Debug)]
pub(super) struct Pass<'a> {
    queue: &'a DeadLetterQueue,
    deadline: Moment,
    /// Receipts of what was seen and not deleted.
    held: BTreeSet<String>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(queue: &'a DeadLetterQueue, deadline: Moment) -> Self {
        Self { queue, deadline, held: BTreeSet::new() }
    }

    /// The next messages; `None` after the last.
    pub(super) async fn page(&mut self) -> Result<Option<Vec<Found>>, PortError> {
        let left = self.deadline.since(SystemClock.moment()).as_secs().saturating_add(1 + HIDDEN_LONGER_SECONDS);
        let hidden = i32::try_from(left.min(MAX_HIDDEN_SECONDS)).unwrap_or(i32::MAX);
        let request = self.queue.client.receive_message().queue_url(&*self.queue.url).max_number_of_messages(PAGE);
        let output = request.wait_time_seconds(WAIT_SECONDS).visibility_timeout(hidden).send().await;
        let messages = output.map_err(|error| port_error("receive dead letters", error))?.messages.unwrap_or_default();
        let found: Vec<_> = messages.into_iter().map(found).collect();
        self.held.extend(found.iter().map(|found| found.receipt.clone()));
        Ok((!found.is_empty()).then_some(found))
    }

    /// Deletes what was seen.
    pub(super) async fn delete(&mut self, receipt: &str) -> Result<(), PortError> {
        let request = self.queue.client.delete_message().queue_url(&*self.queue.url).receipt_handle(receipt);
        request.send().await.map_err(|error| port_error("delete a dead letter", error))?;
        self.held.remove(receipt);
        Ok(())
    }

    /// Lets others see what is left. What cannot be shown again now is shown when its time has passed.
    pub(super) async fn end(self) {
        let held: Vec<_> = self.held.into_iter().collect();
        let requests: Vec<_> = held.chunks(PAGE as usize).map(|receipts| show(self.queue, receipts.to_vec())).collect();
        for shown in stream::iter(requests).buffer_unordered(PARALLEL).collect::<Vec<_>>().await {
            if let Err(error) = shown {
                tracing::warn!(error = statefun_core::chain(&error), "dead letters stay hidden for the rest of a minute or so");
            }
        }
    }
}

async fn show(queue: &DeadLetterQueue, receipts: Vec<String>) -> Result<(), PortError> {
    const CALL: &str = "show dead letters again";
    let entry = |(index, receipt): (usize, String)| {
        let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(index.to_string());
        entry.receipt_handle(receipt).visibility_timeout(0).build()
    };
    let entries = receipts.into_iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>();
    let entries = entries.map_err(|error| PortError::new(CALL, PortErrorKind::Refused, error))?;
    let request = queue.client.change_message_visibility_batch().queue_url(&*queue.url).set_entries(Some(entries));
    let output = request.send().await.map_err(|error| port_error(CALL, error))?;
    match output.failed.first() {
        None => Ok(()),
        Some(entry) => Err(PortError::new(CALL, PortErrorKind::Unavailable, entry.code.clone())),
    }
}

fn found(message: aws_sdk_sqs::types::Message) -> Found {
    let body = message.body.unwrap_or_default();
    let letter = letter_from_json(body.as_bytes()).map_err(|error| error.to_string());
    let id = letter.as_ref().map_or_else(|_| message.message_id.unwrap_or_default(), |letter| letter.id().to_string());
    Found { id, letter, bytes: body.len(), receipt: message.receipt_handle.unwrap_or_default() }
}
