//! About how many bytes a record takes, without encoding it: what decides how many ledger ids have room in it.

use super::BIG_VALUE_BYTES;
use crate::{
    address::Address,
    effects::{DeadLetter, Effect, EgressRecord, Timer},
    envelope::Envelope,
    record::{Outbox, Record},
    typed_value::TypedValue,
};

/// Keys, numbers, marks, and the names of their attributes.
const FIXED: usize = 137;
/// The mark of an outbox, and its times.
const STANDING: usize = 50;

/// The bytes of a record's item in DynamoDB without its ledger's ids: not less, and few more. Values and outboxes that have items of
/// their own are not counted.
#[must_use]
pub fn record_bytes(owner: &Address, record: &Record) -> usize {
    let state = record.state.iter().map(|(name, stored)| match stored.value.len() {
        big if big > BIG_VALUE_BYTES => name.len() + 6,
        _ => name.len() + value(&stored.value) + 10,
    });
    let tokens = record.tokens.keys().map(|token| token.len() + 34);
    let marks = (record.partial.len() + record.trials.len()) * 30;
    FIXED + address(owner) + state.sum::<usize>() + tokens.sum::<usize>() + marks + outbox_bytes(&record.outbox)
}

/// The same of an outbox, as far as it is inline.
#[must_use]
pub(crate) fn outbox_bytes(outbox: &Outbox) -> usize {
    let each = outbox.entries.iter().map(|effect| match effect {
        Effect::Send(sent) => envelope(sent) + 8,
        Effect::Schedule(Timer { envelope: sent, .. }) => envelope(sent) + 20,
        Effect::Cancel { .. } => 32,
        Effect::Egress(EgressRecord { egress, value: record, .. }) => egress.as_str().len() + value(record) + 44,
        Effect::DeadLetter(letter) => {
            let DeadLetter { error, envelope: given_up, .. } = &**letter;
            error.len() + envelope(given_up) + given_up.from.as_ref().map_or(2, address) + 60
        }
    });
    each.sum::<usize>() + if outbox.is_empty() { 0 } else { STANDING }
}

fn envelope(envelope: &Envelope) -> usize {
    let messages: usize = envelope.messages.iter().map(|message| value(message) + 4).sum();
    address(&envelope.to) + envelope.trace.as_ref().map_or(0, |trace| trace.len() + 3) + messages + 40
}

fn value(value: &TypedValue) -> usize {
    value.type_name.as_str().len() + value.len() + 8
}

fn address(address: &Address) -> usize {
    address.function().as_str().len() + 1 + address.id().len()
}
