//! A model of SQS FIFO: groups, deduplication for five minutes, visibility, receive counts, a dead-letter queue with redrive.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use statefun_core::{Address, Delivered, Envelope, EnvelopeId, LastSeq, Timestamp};

/// SQS's deduplication interval.
const DEDUP_MS: u64 = 300_000;

/// A message in the queue.
#[derive(Debug, Clone)]
struct Message {
    envelope: Arc<Envelope>,
    seq: u128,
    enqueued_at: u64,
    visible_at: u64,
    receive_count: u32,
    receipt: u64,
}

/// One FIFO queue.
#[derive(Debug)]
pub(crate) struct Fifo {
    groups: BTreeMap<Address, Vec<Message>>,
    accepted: HashMap<EnvelopeId, u64>,
    last_seq: u128,
    receipts: u64,
    dead: Vec<Message>,
    visibility: u64,
    max_receive: u32,
}

/// A delivered message and its receipt.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) delivered: Delivered,
    pub(crate) receipt: u64,
}

impl Fifo {
    pub(crate) fn new(visibility: u64, max_receive: u32) -> Self {
        Self {
            groups: BTreeMap::new(),
            accepted: HashMap::new(),
            last_seq: 0,
            receipts: 0,
            dead: Vec::new(),
            visibility,
            max_receive,
        }
    }

    pub(crate) fn send(&mut self, envelope: &Envelope, now: u64) {
        // The interval runs from the first accepted send; copies within it do not extend it.
        if self.accepted.get(&envelope.id).is_some_and(|at| now - at < DEDUP_MS) {
            return;
        }
        self.accepted.insert(envelope.id, now);
        self.append(Arc::new(envelope.clone()), now);
    }

    fn append(&mut self, envelope: Arc<Envelope>, now: u64) {
        self.last_seq += 1;
        let to = envelope.to.clone();
        let message = Message { envelope, seq: self.last_seq, enqueued_at: now, visible_at: now, receive_count: 0, receipt: 0 };
        self.groups.entry(to).or_default().push(message);
    }

    /// Up to `max` messages, a random number of each of some groups.
    pub(crate) fn receive(&mut self, max: usize, now: u64, rng: &mut fastrand::Rng) -> Vec<Received> {
        let mut names: Vec<_> = self.groups.keys().cloned().collect();
        rng.shuffle(&mut names);
        let mut received = Vec::new();
        for name in names {
            let Some(group) = self.groups.get_mut(&name) else { continue };
            if group.iter().any(|message| message.visible_at > now) {
                continue;
            }
            // A redriven message has a new time of enqueueing, and would pass for a fresh one within the deduplication interval.
            // So the queue's own dead-letter queue must not strike before: its count times the shortest pause exceeds the interval.
            let may_die = |message: &Message| message.receive_count >= self.max_receive && now - message.enqueued_at > DEDUP_MS;
            while group.first().is_some_and(may_die) {
                self.dead.push(group.remove(0));
            }
            for message in group.iter_mut().take(rng.usize(1..=max).min(max - received.len())) {
                self.receipts += 1;
                message.receive_count += 1;
                message.visible_at = now + self.visibility;
                message.receipt = self.receipts;
                received.push(Received { delivered: message.delivered(), receipt: message.receipt });
            }
            if received.len() >= max || rng.u8(0..3) == 0 {
                break;
            }
        }
        received
    }

    /// Deletes a message, unless it was delivered again or became visible.
    pub(crate) fn delete(&mut self, received: &Received, now: u64) {
        let to = &received.delivered.envelope.to;
        if let Some(group) = self.groups.get_mut(to) {
            group.retain(|message| message.receipt != received.receipt || message.visible_at <= now);
            if group.is_empty() {
                self.groups.remove(to);
            }
        }
    }

    pub(crate) fn change_visibility(&mut self, received: &Received, now: u64, after: u64) {
        for message in self.groups.get_mut(&received.delivered.envelope.to).into_iter().flatten() {
            if message.receipt == received.receipt && message.visible_at > now {
                message.visible_at = now + after;
            }
        }
    }

    /// Moves everything from the dead-letter queue back: the same ids, new sequence numbers.
    pub(crate) fn redrive(&mut self, now: u64) {
        for message in std::mem::take(&mut self.dead) {
            self.append(message.envelope, now);
        }
    }

    /// Messages in the queue and its dead-letter queue.
    pub(crate) fn len(&self) -> usize {
        self.groups.values().map(Vec::len).sum::<usize>() + self.dead.len()
    }
}

impl Message {
    fn delivered(&self) -> Delivered {
        Delivered {
            envelope: self.envelope.clone(),
            seq: LastSeq { queue: 1, seq: self.seq },
            enqueued_at: Timestamp(self.enqueued_at),
            receive_count: self.receive_count,
        }
    }
}
