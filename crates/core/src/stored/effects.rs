//! The protobuf forms of effects: entries of a stored outbox, and egress records.

use bytes::Bytes;
use prost::Message;

use super::{
    Unreadable, id,
    letters::{Letter, letter_from_json, letter_to_json},
    record::of_id,
    type_name, versioned,
};
use crate::{
    address::Address,
    effects::{Effect, EgressRecord, Timer},
    envelope::Envelope,
    time::Timestamp,
    typed_value::TypedValue,
};

/// Before the JSON of a dead letter.
const LETTER_VERSION: u8 = 1;

#[derive(Clone, PartialEq, Message)]
pub(super) struct EffectForm {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    /// An envelope's wire form.
    #[prost(bytes = "bytes", tag = "1")]
    Send(Bytes),
    #[prost(message, tag = "2")]
    Schedule(TimerForm),
    #[prost(message, tag = "3")]
    Cancel(CancelForm),
    #[prost(message, tag = "4")]
    Egress(EgressForm),
    /// 1, then the letter's JSON.
    #[prost(bytes = "bytes", tag = "5")]
    DeadLetter(Bytes),
}

#[derive(Clone, PartialEq, Message)]
struct TimerForm {
    #[prost(uint64, tag = "1")]
    due: u64,
    /// An envelope's wire form.
    #[prost(bytes = "bytes", tag = "2")]
    envelope: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct CancelForm {
    #[prost(bytes = "bytes", tag = "1")]
    timer: Bytes,
    #[prost(uint64, tag = "2")]
    due: u64,
}

#[derive(Clone, PartialEq, Message)]
struct EgressForm {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(string, tag = "2")]
    egress: String,
    #[prost(string, tag = "3")]
    from: String,
    #[prost(uint64, tag = "4")]
    at: u64,
    #[prost(string, tag = "5")]
    type_name: String,
    #[prost(bytes = "bytes", optional, tag = "6")]
    value: Option<Bytes>,
}

pub(super) fn of_effect(effect: &Effect) -> EffectForm {
    let kind = match effect {
        Effect::Send(envelope) => Kind::Send(envelope.to_wire().into()),
        Effect::Schedule(timer) => Kind::Schedule(TimerForm { due: timer.due.0, envelope: timer.envelope.to_wire().into() }),
        Effect::Cancel { timer, due } => Kind::Cancel(CancelForm { timer: of_id(*timer), due: due.0 }),
        Effect::Egress(record) => Kind::Egress(of_egress(record)),
        Effect::DeadLetter(letter) => Kind::DeadLetter([&[LETTER_VERSION], letter_to_json(letter).as_bytes()].concat().into()),
    };
    EffectForm { kind: Some(kind) }
}

pub(super) fn to_effect(form: EffectForm) -> Result<Effect, Unreadable> {
    Ok(match form.kind.ok_or(Unreadable::Form("an effect"))? {
        Kind::Send(wire) => Effect::Send(Envelope::from_wire(&wire)?),
        Kind::Schedule(form) => {
            Effect::Schedule(Timer { due: Timestamp(form.due), envelope: Envelope::from_wire(&form.envelope)? })
        }
        Kind::Cancel(form) => Effect::Cancel { timer: id(&form.timer)?, due: Timestamp(form.due) },
        Kind::Egress(form) => Effect::Egress(to_egress(form)?),
        Kind::DeadLetter(row) => match letter_from_json(versioned(&row, LETTER_VERSION)?)? {
            Letter::Dead(letter) => Effect::DeadLetter(letter),
            Letter::Malformed(_) => return Err(Unreadable::Form("an effect")),
        },
    })
}

/// Appends an egress record.
pub fn encode_egress(record: &EgressRecord, into: &mut Vec<u8>) {
    // A vector grows as needed, which is the only way in which this can fail.
    let _ = of_egress(record).encode(into);
}

/// Reads what [`encode_egress`] wrote.
///
/// # Errors
/// [`Unreadable`] if it is not in that form.
pub fn decode_egress(bytes: Bytes) -> Result<EgressRecord, Unreadable> {
    to_egress(EgressForm::decode(bytes)?)
}

fn of_egress(record: &EgressRecord) -> EgressForm {
    EgressForm {
        id: of_id(record.id),
        egress: record.egress.to_string(),
        from: record.from.to_string(),
        at: record.at.0,
        type_name: record.value.type_name.to_string(),
        value: record.value.value.clone(),
    }
}

fn to_egress(form: EgressForm) -> Result<EgressRecord, Unreadable> {
    Ok(EgressRecord {
        id: id(&form.id)?,
        egress: type_name(&form.egress)?,
        from: Address::parse(&form.from)?,
        at: Timestamp(form.at),
        value: TypedValue { type_name: type_name(&form.type_name)?, value: form.value },
    })
}
