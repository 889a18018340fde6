//! What a batch of messages holds, and which of them have to come again. Pure.

use std::{sync::Arc, time::Duration};

use statefun_aws::{group_id, queue_hash};
use statefun_core::{
    DeadLetter, Delivered, Envelope, EnvelopeId, LastSeq, MalformedEnvelope, Reason, Timestamp, WIRE_VERSION,
    protocol::behind_failures, resource_name, stored::MalformedRecord,
};
use statefun_engine::Outcome;
use statefun_router::MAX_RAW_BYTES;

use crate::events::SqsMessage;

/// A batch as it was read: one slot per message.
pub(crate) struct Batch {
    /// What the engine has to run, in queue order.
    pub(crate) envelopes: Vec<Delivered>,
    pub(crate) slots: Vec<Slot>,
}

/// What a message is.
pub(crate) enum Slot {
    /// An envelope, by its place among those to run.
    Run(usize),
    /// No envelope at all.
    Malformed(Box<MalformedRecord>),
    /// An envelope, but not in the group of its address, so that its order is lost and its sequence number means nothing.
    Stray(Box<DeadLetter>),
    /// Written by a newer version of the runtime, or behind such a one: it waits for a deployment.
    Wait,
}

enum Read {
    Envelope(Envelope),
    Malformed(MalformedEnvelope),
    Newer(u32),
}

impl Batch {
    pub(crate) fn read(messages: &[SqsMessage], now: Timestamp) -> Self {
        let mut batch = Self { envelopes: Vec::with_capacity(messages.len()), slots: Vec::with_capacity(messages.len()) };
        let mut waiting: Vec<&str> = Vec::new();
        for message in messages {
            let group = group(message);
            let slot = if waiting.contains(&group) {
                // Run now, a later message would make the earlier one look like a duplicate.
                Slot::Wait
            } else {
                batch.slot(message, now)
            };
            if matches!(slot, Slot::Wait) {
                waiting.push(group);
            }
            batch.slots.push(slot);
        }
        batch
    }

    fn slot(&mut self, message: &SqsMessage, now: Timestamp) -> Slot {
        match read(&message.body) {
            Read::Newer(version) => {
                tracing::error!(
                    version,
                    known = WIRE_VERSION,
                    "messages wait that a newer version of the runtime wrote: deploy this function anew"
                );
                Slot::Wait
            }
            Read::Malformed(error) => {
                let source = resource_name(&message.source_arn);
                let (position, reason) = (&message.message_id, error.to_string());
                let record = MalformedRecord::new(now, source, position, &reason, message.body.as_bytes(), MAX_RAW_BYTES);
                Slot::Malformed(Box::new(record))
            }
            Read::Envelope(envelope) if group_id(&envelope.to) != group(message) => {
                Slot::Stray(Box::new(stray(message, envelope, now)))
            }
            Read::Envelope(envelope) => {
                self.envelopes.push(delivered(message, envelope));
                Slot::Run(self.envelopes.len() - 1)
            }
        }
    }

    /// Who has to come again, and after which pause: each failed message and all later ones of its group.
    pub(crate) fn failures(
        &self,
        messages: &[SqsMessage],
        outcomes: &[Outcome],
        until_deployed: Duration,
    ) -> Vec<Option<Duration>> {
        let pause = |slot: &Slot| match slot {
            Slot::Run(index) => match outcomes.get(*index) {
                Some(Outcome::Done) => None,
                Some(Outcome::Retry(pause)) => Some(*pause),
                None => Some(Duration::ZERO),
            },
            Slot::Malformed(_) | Slot::Stray(_) => None,
            Slot::Wait => Some(until_deployed),
        };
        // The whole rest waits as long as the first: while one is invisible, its group is not delivered.
        behind_failures(messages.iter().zip(&self.slots).map(|(message, slot)| (Some(group(message)), pause(slot))))
    }
}

/// Lets a message and all later ones of its group come again.
pub(super) fn fail_from(messages: &[SqsMessage], index: usize, pause: Duration, failed: &mut [Option<Duration>]) {
    let of_group = |message: &SqsMessage| group(message) == group(&messages[index]);
    for (later, failed) in failed.iter_mut().enumerate().skip(index) {
        if of_group(&messages[later]) {
            *failed = Some(pause);
        }
    }
}

fn read(body: &str) -> Read {
    match Envelope::from_wire(body.as_bytes()) {
        Ok(envelope) => Read::Envelope(envelope),
        Err(MalformedEnvelope::Version(version)) if version > WIRE_VERSION => Read::Newer(version),
        Err(error) => Read::Malformed(error),
    }
}

fn delivered(message: &SqsMessage, envelope: Envelope) -> Delivered {
    let attributes = &message.attributes;
    Delivered {
        envelope: Arc::new(envelope),
        seq: LastSeq { queue: queue_hash(&message.source_arn), seq: attributes.sequence_number.unwrap_or_default() },
        enqueued_at: Timestamp(attributes.sent_timestamp),
        receive_count: attributes.approximate_receive_count,
    }
}

fn stray(message: &SqsMessage, envelope: Envelope, now: Timestamp) -> DeadLetter {
    let error = format!(
        "it came in the message group `{}`, its address has `{}`: only the runtime itself sends to this queue",
        group(message),
        group_id(&envelope.to)
    );
    let id = EnvelopeId::of_ingress(resource_name(&message.source_arn), message.message_id.as_bytes(), envelope.to.function());
    let attempts = message.attributes.approximate_receive_count;
    DeadLetter { id, at: now, reason: Reason::Malformed, error, attempts, envelope }
}

fn group(message: &SqsMessage) -> &str {
    message.attributes.message_group_id.as_deref().unwrap_or_default()
}
