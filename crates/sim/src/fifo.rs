//! A model of SQS FIFO: groups, deduplication for five minutes, visibility, receive counts, a dead-letter queue with redrive. It knows nothing of
//! envelopes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use statefun_core::{Address, Envelope, EnvelopeId, Timestamp, group_id};
use statefun_engine::ports::{self, Outgoing};

/// SQS's deduplication interval.
const DEDUP_MS: u64 = 300_000;

/// What somebody sends.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    pub(crate) body: Arc<str>,
    pub(crate) group: Arc<str>,
    /// Its deduplication id.
    pub(crate) id: Arc<str>,
}

/// A message in the queue.
#[derive(Debug, Clone)]
struct Message {
    posted: Posted,
    seq: u128,
    enqueued_at: u64,
    visible_at: u64,
    receive_count: u32,
    receipt: u64,
}

/// One FIFO queue.
#[derive(Debug, Clone)]
pub(crate) struct Fifo {
    /// Sequence numbers of different queues cannot be compared.
    name: Arc<str>,
    groups: BTreeMap<Arc<str>, Vec<Message>>,
    accepted: HashMap<Arc<str>, u64>,
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

impl Fifo {
    pub(crate) fn new(name: &str, visibility: u64, max_receive: u32, retention: u64) -> Self {
        Self {
            name: name.into(),
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

    pub(crate) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it kept no longer.
    pub(crate) const fn removed(&self) -> &BTreeSet<EnvelopeId> {
        &self.removed
    }

    /// Removes what is too old, also what somebody has at the moment. Returns how many.
    pub(crate) fn expire(&mut self, now: u64) -> usize {
        let retention = self.retention;
        self.remove_if(|message| message.enqueued_at + retention <= now)
    }

    /// Removes all, also what somebody has at the moment. Returns how many.
    pub(crate) fn purge(&mut self) -> usize {
        self.remove_if(|_| true)
    }

    fn remove_if(&mut self, goes: impl Fn(&Message) -> bool) -> usize {
        let before = self.removed.len();
        for group in self.groups.values_mut() {
            self.removed.extend(group.extract_if(.., |message| goes(message)).filter_map(|message| message.posted.lost()));
        }
        self.groups.retain(|_, group| !group.is_empty());
        self.removed.len() - before
    }

    /// Takes an envelope as the runtime sends it.
    pub(crate) fn send(&mut self, envelope: &Envelope, now: u64) {
        self.post(Posted::envelope(envelope), now);
    }

    pub(crate) fn post(&mut self, posted: Posted, now: u64) {
        // The interval runs from the first accepted send; copies within it do not extend it.
        if self.accepted.get(&posted.id).is_some_and(|at| now - at < DEDUP_MS) {
            return;
        }
        self.accepted.insert(posted.id.clone(), now);
        self.append(posted, now);
    }

    /// Adds a message.
    fn append(&mut self, posted: Posted, now: u64) {
        self.last_seq += 1;
        let group = posted.group.clone();
        let message = Message { posted, seq: self.last_seq, enqueued_at: now, visible_at: now, receive_count: 0, receipt: 0 };
        self.groups.entry(group).or_default().push(message);
    }

    /// Up to `max` messages, a random number of each of some groups.
    ///
    /// Also says how many were given up for having been received too often.
    pub(crate) fn receive(&mut self, max: usize, now: u64, rng: &mut fastrand::Rng) -> (Vec<ports::Message>, usize) {
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
                received.push(message.delivered(&self.name));
            }
            if received.len() >= max || rng.u8(0..3) == 0 {
                break;
            }
        }
        (received, self.dead.len() - dead)
    }

    /// Deletes a message, unless it was delivered again or became visible.
    pub(crate) fn delete(&mut self, received: &ports::Message, now: u64) {
        if let Some(group) = self.groups.get_mut(&*received.group) {
            group.retain(|message| message.receipt() != received.receipt || message.visible_at <= now);
            if group.is_empty() {
                self.groups.remove(&*received.group);
            }
        }
    }

    pub(crate) fn change_visibility(&mut self, receipt: &str, now: u64, after: u64) {
        for message in self.groups.values_mut().flatten() {
            if message.visible_at > now && message.receipt() == receipt {
                message.visible_at = now + after;
            }
        }
    }

    /// Moves everything from the dead-letter queue back: the same ids, new sequence numbers. Returns the envelopes' ids.
    pub(crate) fn redrive(&mut self, now: u64) -> Vec<EnvelopeId> {
        let dead = std::mem::take(&mut self.dead);
        let ids = dead.iter().filter_map(|message| message.posted.envelope_id()).collect();
        dead.into_iter().for_each(|message| self.append(message.posted, now));
        ids
    }

    /// The queue is deleted. What was in it is kept aside, for whoever sends it again by hand.
    pub(crate) fn delete_queue(&mut self) -> Vec<Posted> {
        self.accepted.clear();
        let groups = std::mem::take(&mut self.groups);
        groups.into_values().flatten().map(|message| message.posted).collect()
    }

    /// The queue is made anew under its name: it forgot what it accepted, and counts from another number on.
    pub(crate) fn make_anew(&mut self, first: u128, kept: Vec<Posted>, now: u64) {
        self.last_seq = first;
        kept.into_iter().for_each(|posted| self.post(posted, now));
    }

    /// Whether nothing of this address waits, is under way, or was given up and is to be redriven.
    pub(crate) fn is_quiet(&self, address: &Address) -> bool {
        let group = group_id(address);
        !self.groups.contains_key(&*group) && self.dead.iter().all(|message| *message.posted.group != *group)
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

impl Posted {
    /// An envelope as the runtime sends it.
    pub(crate) fn envelope(envelope: &Envelope) -> Self {
        Self::outgoing(Outgoing::envelope(envelope))
    }

    /// What a request has.
    pub(crate) fn outgoing(message: Outgoing) -> Self {
        let (group, id) = message.fifo.unwrap_or_default();
        Self { body: message.body.into(), group: group.into(), id: id.into() }
    }

    /// Its envelope's id, if it is of this runtime.
    pub(crate) fn envelope_id(&self) -> Option<EnvelopeId> {
        EnvelopeId::from_hex(&self.id)
    }

    pub(crate) fn is_nudge(&self) -> bool {
        self.body.contains("\"nudge\":true")
    }

    /// For the oracle: the envelope whose messages are lost if the queue loses it. A nudge has none.
    fn lost(&self) -> Option<EnvelopeId> {
        self.envelope_id().filter(|_| !self.is_nudge())
    }
}

impl Message {
    fn receipt(&self) -> String {
        self.receipt.to_string()
    }

    fn delivered(&self, queue: &Arc<str>) -> ports::Message {
        ports::Message {
            body: self.posted.body.to_string(),
            group: self.posted.group.to_string(),
            seq: self.seq,
            queue: queue.clone(),
            sent_at: Timestamp(self.enqueued_at),
            receive_count: self.receive_count,
            // A queue that was made anew counts anew, and gives no id twice.
            id: format!("{queue} {} {}", self.enqueued_at, self.seq),
            receipt: self.receipt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        input::Entry,
        workload::{Kind, Payload},
    };

    /// Seed 5402124: its record rightly kept an outbox, for it was not acknowledged.
    #[test]
    fn what_was_given_up_is_not_done() {
        let (mut queue, mut rng) = (Fifo::new("q", 10, 2, u64::MAX / 2), fastrand::Rng::with_seed(1));
        let to = Address::parse("sim/a/1").unwrap();
        assert!(queue.is_quiet(&to));
        let payloads = vec![Payload { number: 0, part: 0, kind: Kind::Plain, at: 'A' }];
        queue.send(&Entry { target: 'A', to: to.clone(), at: 0, key: 0, keyed: false, payloads }.envelope(), 0);
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
