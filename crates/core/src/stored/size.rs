//! How many bytes a record takes, without encoding it: what decides how many ledger ids have room in it.
//!
//! The fields are those of [`super::record`] and [`super::outbox`], the attributes those of the DynamoDB store.

use super::BIG_VALUE_BYTES;
use crate::{
    address::Address,
    effects::{DeadLetter, Effect, EgressRecord, Timer},
    envelope::Envelope,
    record::{LastSeq, Outbox, Record, StoredValue, Trial},
    time::Timestamp,
    typed_value::TypedValue,
};

/// Attributes with their names: partition key and sort key without the address, tag, protocol, fence, born, the name of the rest.
/// Source of what a value takes: "DynamoDB item sizes and formats".
const ATTRIBUTES: usize = (2 + 2 + 1) + (1 + 8) + (1 + 2) + (1 + 2) + (1 + 8) + 1;
const LEASE: usize = (1 + 8) + (1 + 8);
/// An id as a field.
const ID: usize = 18;
/// A time as a field, for the next centuries.
const TIME: usize = 7;
/// What a field adds whose number takes two bytes.
const FAR: usize = 1;
/// What a commit adds to the record after its size was asked for: the ledger's headers, its newest moment and its floor.
const LEDGER: usize = 4 + 4 + 2 * TIME;

/// The bytes of a record's item in DynamoDB without its ledger's ids: not less, and hardly more. Values and outboxes that have items of
/// their own are not counted.
#[must_use]
pub fn record_bytes(owner: &Address, record: &Record) -> usize {
    let state = record.state.iter().map(|(name, stored)| "s.".len() + name.len() + state(stored));
    let tokens = record.tokens.iter().map(|(token, live)| field(field(token.len()) + ID + number(live.due.0)));
    let partial = record.partial.iter().map(|partial| field(ID + number(partial.done.into())));
    let trials = record.trials.iter().map(|Trial { failures, .. }| FAR + field(ID + number((*failures).into()) + 2));
    let times = [record.invoked_at, record.moved_at, record.last_at].map(time).iter().sum::<usize>();
    // Two digits of a number take a byte.
    let version = 1 + (record.version.max(1).ilog10() as usize + 1).div_ceil(2) + 1;
    let last_seq = record.last_seq.map_or(0, |last| field(last_seq(last)));
    let outbox = if record.outbox.is_empty() { 0 } else { 1 + outbox_bytes(&record.outbox) + missing_mark(record) };
    ATTRIBUTES
        + address(owner)
        + version
        + if record.lease.is_some() { LEASE } else { 0 }
        + state.sum::<usize>()
        + tokens.chain(partial).chain(trials).sum::<usize>()
        + times
        + LEDGER
        + number(record.ledger.next_segment)
        + last_seq
        + outbox
}

/// The same of an outbox, as far as it is inline.
#[must_use]
pub(crate) fn outbox_bytes(outbox: &Outbox) -> usize {
    let each = outbox.entries.iter().map(|entry| field(field(effect(entry))));
    let mark = outbox.mark.map_or(0, |mark| field(field(last_seq(mark.above)) + time(mark.until)));
    each.sum::<usize>() + time(outbox.made_at) + mark + time(outbox.denied_since)
}

/// An outbox gets its mark and its time last.
fn missing_mark(record: &Record) -> usize {
    let made_at = if record.outbox.made_at == Timestamp::ZERO { TIME } else { 0 };
    made_at + if record.outbox.mark.is_none() { field(field(record.last_seq.map_or(0, last_seq)) + TIME) } else { 0 }
}

fn effect(effect: &Effect) -> usize {
    match effect {
        Effect::Send(sent) => envelope(sent),
        Effect::Schedule(Timer { due, envelope: sent }) => time(*due) + field(envelope(sent)),
        Effect::Cancel { due, .. } => ID + time(*due),
        Effect::Egress(EgressRecord { egress, at, value: record, .. }) => {
            ID + field(egress.as_str().len()) + time(*at) + field(value(record))
        }
        Effect::DeadLetter(letter) => {
            let DeadLetter { at, reason, error, attempts, envelope: given_up, .. } = &**letter;
            let from = given_up.from.as_ref().map_or(0, |from| field(address(from)));
            let words = field(reason.to_string().len()) + field(error.len());
            ID + time(*at) + words + number((*attempts).into()) + field(envelope(given_up) + from)
        }
    }
}

/// The instance's own, or one that nobody sent: that is said by an empty field.
fn envelope(envelope: &Envelope) -> usize {
    let messages: usize = envelope.messages.iter().map(|message| field(value(message))).sum();
    let trace = envelope.trace.as_ref().map_or(0, |trace| field(trace.len()));
    let (keyed, hops) = (2 * usize::from(envelope.keyed), number(envelope.hops.into()));
    let from = if envelope.from.is_some() { 0 } else { field(0) };
    ID + field(address(&envelope.to)) + from + time(envelope.sent_at) + keyed + hops + trace + messages
}

fn state(stored: &StoredValue) -> usize {
    match stored.value.len() {
        // The number of its parts, and the version that wrote them.
        big if big > BIG_VALUE_BYTES => 26,
        _ => value(&stored.value) + time(stored.written_at),
    }
}

fn value(value: &TypedValue) -> usize {
    field(value.type_name.as_str().len()) + value.value.as_ref().map_or(0, |bytes| field(bytes.len()))
}

fn last_seq(last: LastSeq) -> usize {
    (1 + 8) + number(last.seq as u64) + number((last.seq >> 64) as u64)
}

fn address(address: &Address) -> usize {
    address.function().as_str().len() + 1 + address.id().len()
}

fn time(time: Timestamp) -> usize {
    number(time.0)
}

/// A field of so many bytes.
const fn field(bytes: usize) -> usize {
    1 + varint(bytes as u64) + bytes
}

/// A field that holds a number; none is written for zero.
const fn number(number: u64) -> usize {
    if number == 0 { 0 } else { 1 + varint(number) }
}

const fn varint(number: u64) -> usize {
    (u64::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize
}
