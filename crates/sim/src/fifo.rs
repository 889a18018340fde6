//! A model of SQS FIFO: groups, deduplication for five minutes, visibility, receive counts, a dead-letter queue with redrive.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
#[derive(Debug, Clone, Default)]
pub(crate) struct Fifo {
    /// Which one: sequence numbers of different queues cannot be compared.
    number: u64,
    groups: BTreeMap<Address, Vec<Message>>,
    accepted: HashMap<EnvelopeId, u64>,
    last_seq: u128,
    receipts: u64,
    dead: Vec<Message>,
    visibility: u64,
    max_receive: u32,
    /// How long it keeps a message.
    retention: u64,
    /// What it kept no longer.
    removed: BTreeSet<EnvelopeId>,
}

/// A delivered message and its receipt.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) delivered: Delivered,
    pub(crate) receipt: u64,
}

impl Fifo {
    pub(crate) fn new(number: u64, visibility: u64, max_receive: u32, retention: u64) -> Self {
        Self {
            number,
            groups: BTreeMap::new(),
            accepted: HashMap::new(),
            last_seq: 0,
            receipts: 0,
            dead: Vec::new(),
            visibility,
            max_receive,
            retention,
            removed: BTreeSet::new(),
        }
    }

    /// What it kept no longer.
    pub(crate) const fn removed(&self) -> &BTreeSet<EnvelopeId> {
        &self.removed
    }

    /// Removes what is too old, also what somebody has at the moment. Returns how many.
    pub(crate) fn expire(&mut self, now: u64) -> usize {
        let before = self.removed.len();
        for group in self.groups.values_mut() {
            let gone = group.extract_if(.., |message| message.enqueued_at + self.retention <= now);
            self.removed.extend(gone.filter(|message| !message.envelope.is_nudge()).map(|message| message.envelope.id));
        }
        self.groups.retain(|_, group| !group.is_empty());
        self.removed.len() - before
    }

    pub(crate) fn send(&mut self, envelope: &Envelope, now: u64) {
        // The interval runs from the first accepted send; copies within it do not extend it.
        if self.accepted.get(&envelope.id).is_some_and(|at| now - at < DEDUP_MS) {
            return;
        }
        self.accepted.insert(envelope.id, now);
        self.append(Arc::new(envelope.clone()), now);
    }

    /// Adds a message.
    fn append(&mut self, envelope: Arc<Envelope>, now: u64) {
        self.last_seq += 1;
        let to = envelope.to.clone();
        let message = Message { envelope, seq: self.last_seq, enqueued_at: now, visible_at: now, receive_count: 0, receipt: 0 };
        self.groups.entry(to).or_default().push(message);
    }

    /// Up to `max` messages, a random number of each of some groups.
    ///
    /// Also says how many were given up for having been received too often.
    pub(crate) fn receive(&mut self, max: usize, now: u64, rng: &mut fastrand::Rng) -> (Vec<Received>, usize) {
        let dead = self.dead.len();
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
                received.push(Received { delivered: message.delivered(self.number), receipt: message.receipt });
            }
            if received.len() >= max || rng.u8(0..3) == 0 {
                break;
            }
        }
        (received, self.dead.len() - dead)
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

    /// Moves everything from the dead-letter queue back: the same ids, new sequence numbers. Returns the envelopes.
    pub(crate) fn redrive(&mut self, now: u64) -> Vec<EnvelopeId> {
        let dead = std::mem::take(&mut self.dead);
        let ids = dead.iter().map(|message| message.envelope.id).collect();
        dead.into_iter().for_each(|message| self.append(message.envelope, now));
        ids
    }

    /// The queue is deleted. What was in it is kept aside, for whoever sends it again by hand.
    pub(crate) fn delete_queue(&mut self) -> Vec<Arc<Envelope>> {
        self.accepted.clear();
        let groups = std::mem::take(&mut self.groups);
        groups.into_values().flatten().map(|message| message.envelope).collect()
    }

    /// The queue is made anew under its name: it forgot what it accepted, and counts from another number on.
    pub(crate) fn make_anew(&mut self, first: u128, kept: Vec<Arc<Envelope>>, now: u64) {
        self.last_seq = first;
        kept.into_iter().for_each(|envelope| self.send(&envelope, now));
    }

    /// Whether nothing of this address waits, is under way, or was given up and is to be redriven.
    pub(crate) fn is_quiet(&self, address: &Address) -> bool {
        !self.groups.contains_key(address) && self.dead.iter().all(|message| message.envelope.to != *address)
    }

    /// The process that held it died: everything is to be delivered again.
    pub(crate) fn reopen(&mut self, now: u64) {
        for message in self.groups.values_mut().flatten() {
            message.receive_count += 1;
            (message.visible_at, message.receipt) = (now, 0);
        }
    }

    /// Messages in the queue and its dead-letter queue.
    pub(crate) fn len(&self) -> usize {
        self.groups.values().map(Vec::len).sum::<usize>() + self.dead.len()
    }
}

impl Message {
    fn delivered(&self, queue: u64) -> Delivered {
        Delivered {
            envelope: self.envelope.clone(),
            seq: LastSeq { queue, seq: self.seq },
            enqueued_at: Timestamp(self.enqueued_at),
            receive_count: self.receive_count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Entry;

    /// Seed 5402124: its record rightly kept an outbox, for it was not acknowledged.
    #[test]
    fn what_was_given_up_is_not_done() {
        let (mut queue, mut rng) = (Fifo::new(1, 10, 2, u64::MAX / 2), fastrand::Rng::with_seed(1));
        let to = Address::parse("sim/a/1").unwrap();
        assert!(queue.is_quiet(&to));
        queue.send(&Entry { target: 'A', to: to.clone(), at: 0, key: 0, keyed: false, payloads: Vec::new() }.envelope(), 0);
        let (mut now, mut late) = (0, Vec::new());
        loop {
            let (received, given_up) = queue.receive(1, now, &mut rng);
            late.extend(received);
            now += DEDUP_MS + 1;
            if given_up > 0 {
                break;
            }
        }
        // Whoever received it before answers only now.
        late.iter().for_each(|received| queue.delete(received, now));
        assert!(!queue.is_quiet(&to));
        queue.redrive(now);
        let (received, _) = queue.receive(1, now, &mut rng);
        queue.delete(&received[0], now);
        assert!(queue.is_quiet(&to));
    }
}
