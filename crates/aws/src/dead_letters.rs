//! The dead-letter queue: a FIFO queue of JSON letters. It keeps them for its retention period (14 days), so alarms must fire.

use std::sync::Arc;

use async_trait::async_trait;
use statefun_core::{
    DeadLetter, Envelope, EnvelopeId, Timestamp,
    stored::{Letter, MalformedRecord, letter_from_json, letter_to_json, malformed_to_json},
};
use statefun_engine::ports::{DeadLetters, EnvelopeQueue, PortError};

use crate::{
    backend::SystemClock,
    batcher::{Batcher, Outgoing},
    clients::Clients,
    error::port_error,
    group::group_id,
    queues::as_body,
};

/// Bytes of a message. Source: SQS quotas.
const MAX_BODY: usize = 1_024 * 1_024;

/// The queue of what was given up.
#[derive(Debug, Clone)]
pub struct DeadLetterQueue {
    client: aws_sdk_sqs::Client,
    batcher: Batcher,
    url: Arc<str>,
}

/// A letter as it was received.
#[derive(Debug, Clone)]
pub struct Received {
    /// The letter.
    pub letter: Letter,
    /// To delete it with.
    pub receipt: String,
}

/// What a replay did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Letters whose message was sent again.
    pub sent: usize,
    /// Records that never were a message; they stay: correct them at their source.
    pub malformed: usize,
}

impl DeadLetterQueue {
    pub(crate) fn new(clients: &Clients, batcher: Batcher, url: impl Into<Arc<str>>) -> Self {
        Self { client: clients.sqs.clone(), batcher, url: url.into() }
    }

    /// Keeps a record that never became a message. Durable when it returns.
    ///
    /// # Errors
    /// [`PortError`] if the queue fails.
    pub async fn park_malformed(&self, record: &MalformedRecord) -> Result<(), PortError> {
        // A group of its own: they need no order, and those of one source would go one in a request.
        self.send(record.id.to_string(), record.id, malformed_to_json(record)).await
    }

    /// Up to `max` (10 at most) letters. They are hidden from others for the queue's visibility timeout. Messages that are no
    /// letters are passed over, and hidden too.
    ///
    /// # Errors
    /// [`PortError`] if the queue fails.
    pub async fn receive(&self, max: usize) -> Result<Vec<Received>, PortError> {
        let max = i32::try_from(max.clamp(1, 10)).unwrap_or(10);
        let request = self.client.receive_message().queue_url(&*self.url).max_number_of_messages(max);
        let output = request.send().await.map_err(|error| port_error("receive dead letters", error))?;
        let read = |message: aws_sdk_sqs::types::Message| {
            let letter = letter_from_json(message.body().unwrap_or_default().as_bytes()).map_err(|error| {
                tracing::warn!(%error, "a message among the dead letters is none and stays there");
            });
            Some(Received { letter: letter.ok()?, receipt: message.receipt_handle.unwrap_or_default() })
        };
        Ok(output.messages.unwrap_or_default().into_iter().filter_map(read).collect())
    }

    /// Deletes a letter.
    ///
    /// # Errors
    /// [`PortError`] if the queue fails.
    pub async fn delete(&self, receipt: &str) -> Result<(), PortError> {
        let request = self.client.delete_message().queue_url(&*self.url).receipt_handle(receipt);
        request.send().await.map(drop).map_err(|error| port_error("delete a dead letter", error))
    }

    /// Sends the messages of up to `max` letters again, each as a new envelope, and deletes the letters; stops at `deadline`. A
    /// letter whose deletion fails is sent again under the same new id by the next replay: its message still takes effect once.
    /// Letters that hold no message are passed over.
    ///
    /// # Errors
    /// The first [`PortError`]; what was sent before it stays sent.
    pub async fn replay(&self, queue: &dyn EnvelopeQueue, max: usize, deadline: Timestamp) -> Result<Replayed, PortError> {
        let mut replayed = Replayed::default();
        while replayed.sent < max && SystemClock::time() < deadline {
            let received = self.receive(max - replayed.sent).await?;
            if received.is_empty() {
                break;
            }
            for Received { letter, receipt } in received {
                let Letter::Dead(letter) = letter else {
                    replayed.malformed += 1;
                    continue;
                };
                let DeadLetter { id, envelope, .. } = *letter;
                let again =
                    Envelope { id: EnvelopeId::of_replay(id, 0), sent_at: SystemClock::time(), keyed: true, hops: 0, ..envelope };
                queue.send(&[&again]).await.into_iter().collect::<Result<(), _>>()?;
                self.delete(&receipt).await?;
                replayed.sent += 1;
            }
        }
        Ok(replayed)
    }

    async fn send(&self, group: String, id: EnvelopeId, json: String) -> Result<(), PortError> {
        let fifo = Some((group, id.to_string()));
        self.batcher.send(&self.url, Outgoing { body: as_body(json), fifo, delay_seconds: 0 }).await
    }
}

#[async_trait]
impl DeadLetters for DeadLetterQueue {
    async fn park(&self, letter: &DeadLetter) -> Result<(), PortError> {
        for mut letter in fitting(letter.clone()) {
            let mut json = letter_to_json(&letter);
            if json.len() > MAX_BODY {
                // The largest message with the longest addresses and reason: the reason gives way.
                letter.error.truncate(letter.error.floor_char_boundary(100));
                json = letter_to_json(&letter);
            }
            self.send(group_id(&letter.envelope.to), letter.id, json).await?;
        }
        Ok(())
    }
}

/// A letter as parts that a message of the queue can hold: an envelope may fill a message by itself.
fn fitting(letter: DeadLetter) -> Vec<DeadLetter> {
    if letter_to_json(&letter).len() <= MAX_BODY || letter.envelope.messages.len() < 2 {
        return vec![letter];
    }
    let mut first = letter;
    let half = first.envelope.messages.len() / 2;
    let rest = first.envelope.messages.split_off(half);
    // Its own id, derived from the whole's: the same parts are the same letters.
    let id = EnvelopeId::of_ingress(
        "dead-letter-part",
        &[&first.id.0[..], &half.to_be_bytes()].concat(),
        first.envelope.to.function(),
    );
    let second = DeadLetter { id, envelope: Envelope { messages: rest, ..first.envelope.clone() }, ..first.clone() };
    [fitting(first), fitting(second)].concat()
}

#[cfg(test)]
mod tests {
    use statefun_core::{Address, Reason, TypeName, TypedValue};

    use super::*;

    #[test]
    fn a_letter_that_is_too_big_is_cut_into_letters() {
        let message = |size| TypedValue::present(TypeName::from_static("a/v"), vec![b'x'; size]);
        let envelope = Envelope {
            id: EnvelopeId([1; 16]),
            to: Address::parse("a/b/c").unwrap(),
            from: None,
            sent_at: Timestamp(1),
            keyed: false,
            hops: 0,
            trace: None,
            messages: vec![message(300_000), message(300_000), message(300_000), message(148_000)],
        };
        let letter = DeadLetter {
            id: EnvelopeId([2; 16]),
            at: Timestamp(2),
            reason: Reason::Died,
            error: "x".repeat(2_000),
            attempts: 5,
            envelope,
        };
        let parts = fitting(letter.clone());
        assert_eq!(parts.iter().map(|part| part.envelope.messages.len()).collect::<Vec<_>>(), [2, 2]);
        assert!(parts[0].id == letter.id && parts[1].id != letter.id);
        assert_eq!(fitting(letter.clone()), parts, "the same parts each time");
        let messages: Vec<_> = parts.into_iter().flat_map(|part| part.envelope.messages).collect();
        assert_eq!(messages, letter.envelope.messages);
    }
}
