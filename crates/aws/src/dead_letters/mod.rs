//! The dead-letter queue: a FIFO queue of JSON letters. It keeps them for its retention period (14 days), so alarms must fire.
//!
//! Each letter is a message group of its own: a FIFO queue hides a group's other messages while one of them is looked at, and an
//! operator has to find every letter. What is replayed together is sent in the order in which it was parked.

mod operate;
mod pass;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use statefun_core::{
    DeadLetter, Envelope, EnvelopeId, RefusedRecord,
    stored::{MalformedRecord, letter_to_json, malformed_to_json, refused_to_json},
};
use statefun_engine::{
    Batcher,
    ports::{DeadLetters, Letterbox, Outgoing, PortError},
};

pub use operate::{Deleted, Entry, Listed, Receivers, Replayed, Selection};

use crate::clients::Clients;

/// Bytes of a message. Source: SQS quotas.
const MAX_BODY: usize = 1_024 * 1_024;

/// The queue of what was given up.
#[derive(Debug, Clone)]
pub struct DeadLetterQueue {
    client: aws_sdk_sqs::Client,
    batcher: Batcher,
    url: Arc<str>,
}

impl DeadLetterQueue {
    pub(crate) fn new(clients: &Clients, batcher: Batcher, url: impl Into<Arc<str>>) -> Self {
        Self { client: clients.sqs.clone(), batcher, url: url.into() }
    }

    async fn send(&self, id: EnvelopeId, json: String) -> Result<(), PortError> {
        // Each letter is a group of its own.
        self.batcher.send(&self.url, Outgoing::json(json, id.to_string(), id.to_string())).await
    }
}

#[async_trait]
impl Letterbox for DeadLetterQueue {
    async fn park_malformed(&self, record: &MalformedRecord) -> Result<(), PortError> {
        self.send(record.id, malformed_to_json(record)).await
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
            self.send(letter.id, json).await?;
        }
        Ok(())
    }

    async fn park_refused(&self, refused: &RefusedRecord) -> Result<(), PortError> {
        let mut json = refused_to_json(refused);
        if json.len() > MAX_BODY {
            let mut short = refused.clone();
            short.error.truncate(short.error.floor_char_boundary(100));
            json = refused_to_json(&short);
        }
        self.send(refused.record.id, json).await
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
