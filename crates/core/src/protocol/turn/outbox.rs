//! From staged effects to the entries of an outbox: one envelope per target, cut into parts where it would be too big.

use std::collections::HashMap;

use crate::{
    address::Address,
    effects::{Effect, EgressRecord, Timer},
    envelope::{Envelope, wire_bytes},
    id::{EnvelopeId, IdKind},
    limits::MAX_ENVELOPE_BYTES,
    record::Record,
    time::Timestamp,
};

use super::layer::{Parcel, Staged};

/// What an envelope's own members take at most: two addresses of 1 KiB ids (each byte escaped in the worst case) and the rest.
const HEADER_BYTES: usize = 16 * 1_024;

/// The envelope that still takes messages for a target.
struct Open {
    entry: usize,
    bytes: usize,
}

/// The outbox of the commit that makes `record`. Entries stand in the order of their first message.
pub(super) fn build(
    sender: &Address,
    record: &Record,
    now: Timestamp,
    staged: Vec<Staged>,
    envelope_messages: usize,
) -> Vec<Effect> {
    let mut outbox = Vec::with_capacity(staged.len().min(64));
    let mut open: HashMap<Address, Open> = HashMap::new();
    let (mut envelopes, mut records) = (0, 0);
    let next = |kind, counter: &mut usize| {
        *counter += 1;
        EnvelopeId::of_commit(kind, sender, record.born, record.version, *counter - 1)
    };
    for effect in staged {
        match effect {
            Staged::Send(parcel) => {
                let bytes = wire_bytes(&parcel.value);
                if let Some(Open { entry, bytes: taken }) = open.get_mut(&parcel.to)
                    && let Some(Effect::Send(envelope)) = outbox.get_mut(*entry)
                    && *taken + bytes <= MAX_ENVELOPE_BYTES
                    && envelope.messages.len() < envelope_messages
                {
                    *taken += bytes;
                    envelope.hops = envelope.hops.max(parcel.hops);
                    envelope.messages.push(parcel.value);
                    continue;
                }
                open.insert(parcel.to.clone(), Open { entry: outbox.len(), bytes: HEADER_BYTES + bytes });
                outbox.push(Effect::Send(envelope(next(IdKind::Sent, &mut envelopes), sender, now, parcel)));
            }
            Staged::Schedule { timer, due, parcel } => {
                outbox.push(Effect::Schedule(Timer { due, envelope: envelope(timer, sender, due, parcel) }));
            }
            Staged::Cancel { timer, due } => outbox.push(Effect::Cancel { timer, due }),
            Staged::Egress { egress, value } => {
                let id = next(IdKind::Egress, &mut records);
                outbox.push(Effect::Egress(EgressRecord { id, egress, from: sender.clone(), at: now, value }));
            }
            Staged::DeadLetter(letter) => outbox.push(Effect::DeadLetter(letter)),
        }
    }
    outbox
}

fn envelope(id: EnvelopeId, from: &Address, sent_at: Timestamp, parcel: Parcel) -> Envelope {
    let Parcel { to, hops, trace, value } = parcel;
    let trace = trace.map(|trace| trace.to_string());
    Envelope { id, to, from: Some(from.clone()), sent_at, keyed: false, hops, trace, messages: vec![value] }
}
