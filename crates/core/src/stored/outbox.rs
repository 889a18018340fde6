//! The form of an outbox and of a single envelope: payloads as they are, and the sender not repeated.

use bytes::Bytes;
use prost::Message;

use super::{
    Unreadable, id,
    record::{LastSeqForm, of_id, of_last_seq, to_last_seq},
    type_name,
};
use crate::{
    address::Address,
    effects::{DeadLetter, Effect, EgressRecord, Reason, Timer},
    envelope::Envelope,
    record::{Mark, Outbox},
    time::Timestamp,
    typed_value::TypedValue,
};

#[derive(Clone, PartialEq, Message)]
struct OutboxForm {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<EntryForm>,
    #[prost(uint64, tag = "2")]
    made_at: u64,
    #[prost(message, optional, tag = "3")]
    mark: Option<MarkForm>,
    #[prost(uint64, tag = "4")]
    denied_since: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MarkForm {
    #[prost(message, required, tag = "1")]
    above: LastSeqForm,
    #[prost(uint64, tag = "2")]
    until: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EntryForm {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Send(EnvelopeForm),
    #[prost(message, tag = "2")]
    Schedule(TimerForm),
    #[prost(message, tag = "3")]
    Cancel(CancelForm),
    #[prost(message, tag = "4")]
    Egress(EgressForm),
    #[prost(message, tag = "5")]
    DeadLetter(LetterForm),
}

#[derive(Clone, PartialEq, Message)]
struct EnvelopeForm {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(string, tag = "2")]
    to: String,
    /// Absent: the instance whose outbox it is. Empty: none, it comes from an ingress.
    #[prost(string, optional, tag = "3")]
    from: Option<String>,
    #[prost(uint64, tag = "4")]
    sent_at: u64,
    #[prost(bool, tag = "5")]
    keyed: bool,
    #[prost(uint32, tag = "6")]
    hops: u32,
    #[prost(string, optional, tag = "7")]
    trace: Option<String>,
    #[prost(message, repeated, tag = "8")]
    messages: Vec<ValueForm>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueForm {
    #[prost(string, tag = "1")]
    type_name: String,
    #[prost(bytes = "bytes", optional, tag = "2")]
    value: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct TimerForm {
    #[prost(uint64, tag = "1")]
    due: u64,
    #[prost(message, required, tag = "2")]
    envelope: EnvelopeForm,
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
    #[prost(uint64, tag = "3")]
    at: u64,
    #[prost(message, required, tag = "4")]
    value: ValueForm,
}

#[derive(Clone, PartialEq, Message)]
struct LetterForm {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(uint64, tag = "2")]
    at: u64,
    #[prost(string, tag = "3")]
    reason: String,
    #[prost(string, tag = "4")]
    error: String,
    #[prost(uint32, tag = "5")]
    attempts: u32,
    #[prost(message, required, tag = "6")]
    envelope: EnvelopeForm,
}

/// The outbox of `owner`.
#[must_use]
pub fn encode_outbox(owner: &Address, outbox: &Outbox) -> Vec<u8> {
    let Outbox { entries, made_at, mark, denied_since } = outbox;
    let entries = entries.iter().map(|effect| of_effect(owner, effect)).collect();
    OutboxForm { entries, made_at: made_at.0, mark: mark.map(of_mark), denied_since: denied_since.0 }.encode_to_vec()
}

/// Reads what [`encode_outbox`] wrote for the same owner.
///
/// # Errors
/// [`Unreadable`] if it is not in that form.
pub fn decode_outbox(owner: &Address, bytes: Bytes) -> Result<Outbox, Unreadable> {
    let OutboxForm { entries, made_at, mark, denied_since } = OutboxForm::decode(bytes)?;
    Ok(Outbox {
        entries: entries.into_iter().map(|entry| to_effect(owner, entry)).collect::<Result<_, _>>()?,
        made_at: Timestamp(made_at),
        mark: mark.map(to_mark),
        denied_since: Timestamp(denied_since),
    })
}

pub(super) fn of_mark(mark: Mark) -> MarkForm {
    MarkForm { above: of_last_seq(mark.above), until: mark.until.0 }
}

pub(super) fn to_mark(form: MarkForm) -> Mark {
    Mark { above: to_last_seq(form.above), until: Timestamp(form.until) }
}

/// One envelope.
#[must_use]
pub fn encode_envelope(envelope: &Envelope) -> Vec<u8> {
    of_envelope(None, envelope).encode_to_vec()
}

/// Reads what [`encode_envelope`] wrote.
///
/// # Errors
/// [`Unreadable`] if it is not in that form.
pub fn decode_envelope(bytes: Bytes) -> Result<Envelope, Unreadable> {
    to_envelope(None, EnvelopeForm::decode(bytes)?)
}

pub(super) fn of_effect(owner: &Address, effect: &Effect) -> EntryForm {
    let of_envelope = |envelope| of_envelope(Some(owner), envelope);
    let kind = match effect {
        Effect::Send(envelope) => Kind::Send(of_envelope(envelope)),
        Effect::Schedule(timer) => Kind::Schedule(TimerForm { due: timer.due.0, envelope: of_envelope(&timer.envelope) }),
        Effect::Cancel { timer, due } => Kind::Cancel(CancelForm { timer: of_id(*timer), due: due.0 }),
        Effect::Egress(EgressRecord { id, egress, at, value, .. }) => {
            Kind::Egress(EgressForm { id: of_id(*id), egress: egress.to_string(), at: at.0, value: of_value(value) })
        }
        Effect::DeadLetter(letter) => Kind::DeadLetter(LetterForm {
            id: of_id(letter.id),
            at: letter.at.0,
            reason: letter.reason.to_string(),
            error: letter.error.clone(),
            attempts: letter.attempts,
            envelope: of_envelope(&letter.envelope),
        }),
    };
    EntryForm { kind: Some(kind) }
}

pub(super) fn to_effect(owner: &Address, entry: EntryForm) -> Result<Effect, Unreadable> {
    let to_envelope = |form| to_envelope(Some(owner), form);
    Ok(match entry.kind.ok_or(Unreadable::Form("an effect"))? {
        Kind::Send(form) => Effect::Send(to_envelope(form)?),
        Kind::Schedule(form) => Effect::Schedule(Timer { due: Timestamp(form.due), envelope: to_envelope(form.envelope)? }),
        Kind::Cancel(form) => Effect::Cancel { timer: id(&form.timer)?, due: Timestamp(form.due) },
        Kind::Egress(form) => Effect::Egress(EgressRecord {
            id: id(&form.id)?,
            egress: type_name(&form.egress)?,
            from: owner.clone(),
            at: Timestamp(form.at),
            value: to_value(form.value)?,
        }),
        Kind::DeadLetter(form) => Effect::DeadLetter(Box::new(DeadLetter {
            id: id(&form.id)?,
            at: Timestamp(form.at),
            reason: Reason::ALL
                .into_iter()
                .find(|reason| reason.to_string() == form.reason)
                .ok_or(Unreadable::Form("a dead letter's reason"))?,
            error: form.error,
            attempts: form.attempts,
            envelope: to_envelope(form.envelope)?,
        })),
    })
}

fn of_envelope(owner: Option<&Address>, envelope: &Envelope) -> EnvelopeForm {
    let from = match &envelope.from {
        Some(from) if Some(from) == owner => None,
        from => Some(from.as_ref().map(ToString::to_string).unwrap_or_default()),
    };
    EnvelopeForm {
        id: of_id(envelope.id),
        to: envelope.to.to_string(),
        from,
        sent_at: envelope.sent_at.0,
        keyed: envelope.keyed,
        hops: envelope.hops,
        trace: envelope.trace.clone(),
        messages: envelope.messages.iter().map(of_value).collect(),
    }
}

fn to_envelope(owner: Option<&Address>, form: EnvelopeForm) -> Result<Envelope, Unreadable> {
    let from = match form.from.as_deref() {
        None => owner.cloned(),
        Some("") => None,
        Some(from) => Some(Address::parse(from)?),
    };
    Ok(Envelope {
        id: id(&form.id)?,
        to: Address::parse(&form.to)?,
        from,
        sent_at: Timestamp(form.sent_at),
        keyed: form.keyed,
        hops: form.hops,
        trace: form.trace,
        messages: form.messages.into_iter().map(to_value).collect::<Result<_, _>>()?,
    })
}

fn of_value(value: &TypedValue) -> ValueForm {
    ValueForm { type_name: value.type_name.to_string(), value: value.value.clone() }
}

fn to_value(form: ValueForm) -> Result<TypedValue, Unreadable> {
    Ok(TypedValue { type_name: type_name(&form.type_name)?, value: form.value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{id::EnvelopeId, record::LastSeq, type_name::TypeName};

    fn envelope(from: Option<Address>, payloads: &[Option<Vec<u8>>]) -> Envelope {
        let value = |value: &Option<Vec<u8>>| TypedValue {
            type_name: TypeName::from_static("a/v"),
            value: value.clone().map(Into::into),
        };
        Envelope {
            id: EnvelopeId([7; 16]),
            to: Address::parse("a/b/\u{fc} /c").unwrap(),
            from,
            sent_at: Timestamp(1_700_000_000_000),
            keyed: true,
            hops: 3,
            trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            messages: payloads.iter().map(value).collect(),
        }
    }

    fn outbox(owner: &Address, payloads: &[Option<Vec<u8>>]) -> Outbox {
        let of = |from| envelope(from, payloads);
        let mut outbox = vec![
            Effect::Send(of(Some(owner.clone()))),
            Effect::Schedule(Timer { due: Timestamp(9), envelope: of(Some(owner.clone())) }),
            Effect::Cancel { timer: EnvelopeId([1; 16]), due: Timestamp(8) },
            Effect::Egress(EgressRecord {
                id: EnvelopeId([2; 16]),
                egress: TypeName::from_static("a/out"),
                from: owner.clone(),
                at: Timestamp(5),
                value: TypedValue::present(TypeName::from_static("a/v"), vec![0, 255]),
            }),
        ];
        for (reason, from) in
            Reason::ALL.into_iter().zip([None, Some(owner.clone()), Some(Address::parse("x/y/z").unwrap())].into_iter().cycle())
        {
            let (id, at, error) = (EnvelopeId([3; 16]), Timestamp(6), "no \"luck\"".to_owned());
            outbox.push(Effect::DeadLetter(Box::new(DeadLetter { id, at, reason, error, attempts: 5, envelope: of(from) })));
        }
        outbox.into()
    }

    proptest! {
        #[test]
        fn round_trip(payloads in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50)), 1..4), above: u128) {
            let owner = Address::parse("a/owner/1").unwrap();
            let mark = Mark { above: LastSeq { queue: 1, seq: above }, until: Timestamp(u64::MAX) };
            let outbox = Outbox { mark: Some(mark), made_at: Timestamp(4), ..outbox(&owner, &payloads) };
            prop_assert_eq!(decode_outbox(&owner, encode_outbox(&owner, &outbox).into()).unwrap(), outbox);
            let envelope = envelope(None, &payloads);
            prop_assert_eq!(decode_envelope(encode_envelope(&envelope).into()).unwrap(), envelope);
        }

        #[test]
        fn never_panics_on_noise(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_outbox(&Address::parse("a/owner/1").unwrap(), noise.clone().into());
            let _ = decode_envelope(noise.into());
        }
    }

    /// The form is stored: this fails when it changes.
    #[test]
    fn the_form_is_frozen() {
        let owner = Address::parse("a/owner/1").unwrap();
        let payloads = [Some(b"{\"a\":1}".to_vec()), Some(Vec::new()), Some(vec![0, 159, 255]), None];
        let bytes = encode_outbox(&owner, &outbox(&owner, &payloads));
        let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let golden = include_str!("../../golden/outbox-v1.hex").split_whitespace().collect::<String>();
        assert_eq!(hex, golden);
        assert_eq!(decode_outbox(&owner, bytes.into()).unwrap(), outbox(&owner, &payloads));
    }
    /// The same of what is beside the entries. What an older version wrote has none of it.
    #[test]
    fn the_form_of_a_mark_is_frozen() {
        let mark = Mark { above: LastSeq { queue: 1, seq: 2 << 64 | 7 }, until: Timestamp(9) };
        let outbox = Outbox { entries: Vec::new(), made_at: Timestamp(5), mark: Some(mark), denied_since: Timestamp(6) };
        let bytes = encode_outbox(&Address::parse("a/owner/1").unwrap(), &outbox);
        let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex, "10051a110a0d0901000000000000001007180210092006");
    }
}
