//! What a batch of messages holds, and which of them have to come again. Pure.

use std::{collections::HashSet, sync::Arc, time::Duration};

use statefun_core::{
    DeadLetter, Delivered, Envelope, EnvelopeId, LastSeq, MalformedEnvelope, Reason, Safeguard, Safeguards, Timestamp,
    WIRE_VERSION, group_id, limits::MAX_RAW_BYTES, protocol::Outcome, protocol::behind_failures, queue_hash, resource_name,
    stored::MalformedRecord,
};

use crate::ports::Message;

/// A batch as it was read: one slot per message.
#[derive(Debug, Default)]
pub struct Batch {
    /// What the engine has to run, in queue order.
    pub envelopes: Vec<Delivered>,
    /// What each message is, in their order.
    pub slots: Vec<Slot>,
}

/// What a message is.
#[derive(Debug)]
pub enum Slot {
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
    /// Reads messages, at `now` by the wall clock.
    #[must_use]
    pub fn read(messages: &[Message], now: Timestamp, safeguards: Safeguards) -> Self {
        let mut batch = Self { envelopes: Vec::with_capacity(messages.len()), slots: Vec::with_capacity(messages.len()) };
        let mut waiting: HashSet<&str> = HashSet::new();
        for message in messages {
            let slot = if waiting.contains(&*message.group) && safeguards.on(Safeguard::NewerFirst) {
                // Run now, a later message would make the earlier one look like a duplicate.
                Slot::Wait
            } else {
                batch.slot(message, now, safeguards)
            };
            if matches!(slot, Slot::Wait) {
                waiting.insert(&message.group);
            }
            batch.slots.push(slot);
        }
        batch
    }

    fn slot(&mut self, message: &Message, now: Timestamp, safeguards: Safeguards) -> Slot {
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
                let (source, reason) = (resource_name(&message.queue), error.to_string());
                let record = MalformedRecord::new(now, source, &message.id, &reason, message.body.as_bytes(), MAX_RAW_BYTES);
                Slot::Malformed(Box::new(record))
            }
            Read::Envelope(envelope) if group_id(&envelope.to) != message.group && safeguards.on(Safeguard::OwnGroup) => {
                Slot::Stray(Box::new(stray(message, envelope, now)))
            }
            Read::Envelope(envelope) => {
                self.envelopes.push(delivered(message, envelope));
                Slot::Run(self.envelopes.len() - 1)
            }
        }
    }

    /// The messages that have to come again, and after which pause: each failed message and all later ones of its group.
    #[must_use]
    pub fn failures(&self, messages: &[Message], outcomes: &[Outcome], until_deployed: Duration) -> Vec<Option<Duration>> {
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
        behind_failures(messages.iter().zip(&self.slots).map(|(message, slot)| (Some(&*message.group), pause(slot))))
    }
}

/// Lets a message and all later ones of its group come again.
pub(super) fn fail_from(messages: &[Message], index: usize, pause: Duration, failed: &mut [Option<Duration>]) {
    for (later, failed) in failed.iter_mut().enumerate().skip(index) {
        if messages[later].group == messages[index].group {
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

fn delivered(message: &Message, envelope: Envelope) -> Delivered {
    Delivered {
        envelope: Arc::new(envelope),
        seq: LastSeq { queue: queue_hash(&message.queue), seq: message.seq },
        enqueued_at: message.sent_at,
        receive_count: message.receive_count,
    }
}

fn stray(message: &Message, envelope: Envelope, now: Timestamp) -> DeadLetter {
    let error = format!(
        "it came in the message group `{}`, its address has `{}`: only the runtime itself sends to this queue",
        message.group,
        group_id(&envelope.to)
    );
    let id = EnvelopeId::of_ingress(resource_name(&message.queue), message.id.as_bytes(), envelope.to.function());
    DeadLetter { id, at: now, reason: Reason::Malformed, error, attempts: message.receive_count, envelope }
}
