//! Adding to lanes, timers and dead letters: prepared without the lock, then applied under it.

use std::sync::Arc;

use bytes::Bytes;
use statefun_core::{Address, DeadLetter, Effect, EgressRecord, Envelope, EnvelopeId, Timer, Timestamp, TypeName};

use crate::{
    batch::{Key, Table},
    lanes::{Entry, Held},
    shared::{FirstDue, State},
    tables::{lanes, letters, timers},
};

/// Changes that are encoded and only need their place in the order.
pub(crate) enum Prepared {
    Envelope(NewEnvelope),
    Egress { prefix: Vec<u8>, value: Bytes, record: Arc<EgressRecord> },
    Timer { key: Key, value: Bytes, due: Timestamp },
    Cancel { key: Key },
    Letter { id: EnvelopeId, at: Timestamp, value: Bytes },
}

/// An envelope for a function's lane.
pub(crate) struct NewEnvelope {
    prefix: Vec<u8>,
    value: Bytes,
    pub(crate) envelope: Arc<Envelope>,
    enqueued_at: Timestamp,
}

impl NewEnvelope {
    pub(crate) fn new(envelope: Arc<Envelope>, now: Timestamp, crashes: u64) -> Self {
        let crashes = u32::try_from(crashes).unwrap_or(u32::MAX);
        let value = lanes::encode_queued(&envelope, now, crashes);
        Self { prefix: lanes::function_prefix(&envelope.to), value, envelope, enqueued_at: now }
    }

    fn to(&self) -> &Address {
        &self.envelope.to
    }
}

impl Prepared {
    pub(crate) fn effect(effect: &Effect, now: Timestamp, crashes: u64) -> Self {
        match effect {
            Effect::Send(envelope) => Self::Envelope(NewEnvelope::new(Arc::new(envelope.clone()), now, crashes)),
            Effect::Schedule(timer) => Self::timer(timer),
            Effect::Cancel { timer, due } => Self::Cancel { key: timers::key(*due, *timer) },
            Effect::Egress(record) => Self::egress(record),
            Effect::DeadLetter(letter) => Self::letter(letter),
        }
    }

    pub(crate) fn timer(timer: &Timer) -> Self {
        Self::Timer { key: timers::key(timer.due, timer.envelope.id), value: timers::encode(timer), due: timer.due }
    }

    pub(crate) fn egress(record: &EgressRecord) -> Self {
        let value = lanes::encode_egress(record);
        Self::Egress { prefix: lanes::egress_prefix(&record.egress), value, record: Arc::new(record.clone()) }
    }

    pub(crate) fn letter(letter: &DeadLetter) -> Self {
        Self::Letter { id: letter.id, at: letter.at, value: letters::encode_dead(letter) }
    }
}

impl State {
    pub(crate) fn apply(&mut self, prepared: Prepared) {
        match prepared {
            Prepared::Envelope(new) => self.append(new),
            Prepared::Egress { prefix, value, record } => self.append_egress(prefix, value, record),
            Prepared::Timer { key, value, due } => {
                self.log.put(Table::Timers, key, value);
                let (FirstDue::Known(first) | FirstDue::Unknown(first)) = &mut self.first_due;
                if first.is_none_or(|first| due < first) {
                    *first = Some(due);
                    self.wakes.timers = true;
                }
            }
            Prepared::Cancel { key } => self.log.delete(Table::Timers, key),
            Prepared::Letter { id, at, value } => self.add_letter(id, at, value),
        }
    }

    /// Adds an envelope to the end of its lane.
    pub(crate) fn append(&mut self, new: NewEnvelope) {
        let seq = self.next_seq();
        let bytes = new.value.len();
        self.counts.functions += 1;
        self.counts.function_bytes += bytes as u64;
        let to = new.to().clone();
        let NewEnvelope { prefix, value, envelope, enqueued_at } = new;
        self.log.put_new(Table::Lanes, lanes::key(prefix, seq), value);
        let item = Held { envelope, enqueued_at, receives: 0 };
        if self.lanes.append(&to, Entry { seq, bytes, item }) {
            self.wakes.ready += 1;
        }
    }

    fn append_egress(&mut self, prefix: Vec<u8>, value: Bytes, record: Arc<EgressRecord>) {
        let seq = self.next_seq();
        let bytes = value.len();
        self.counts.egress += 1;
        self.counts.egress_bytes += bytes as u64;
        self.log.put_new(Table::Lanes, lanes::key(prefix, seq), value);
        let egress: TypeName = record.egress.clone();
        self.lanes.append_egress(&egress, Entry { seq, bytes, item: record });
        self.wakes.egress = true;
    }

    /// Adds a letter that is not there yet.
    pub(crate) fn add_letter(&mut self, id: EnvelopeId, at: Timestamp, value: Bytes) {
        self.log.put(Table::Letters, letters::key(id), value);
        self.log.put(Table::LetterTimes, letters::time_key(at, id), Bytes::new());
        self.counts.letters += 1;
    }

    fn next_seq(&mut self) -> u64 {
        self.counts.next_seq += 1;
        self.counts.next_seq
    }
}
