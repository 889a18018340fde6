//! The protobuf form of a record, without what conditions look at: version and lease are the backend's to place.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::{
    Unreadable, id,
    outbox::{EntryForm, MarkForm, of_effect, of_mark, to_effect, to_mark},
    type_name,
};
use crate::{
    address::Address,
    id::EnvelopeId,
    protocol::ledger::{Ledger, Taken},
    record::{LastSeq, LiveToken, Note, Outbox, Partial, Record, StoredValue, Trial},
    time::Timestamp,
    typed_value::TypedValue,
};

/// What [`encode_record`] includes beside the rest.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// State values.
    pub state: bool,
    /// The outbox.
    pub outbox: bool,
}

#[derive(Clone, PartialEq, Message)]
struct RecordForm {
    #[prost(uint64, tag = "1")]
    born: u64,
    #[prost(message, optional, tag = "2")]
    last_seq: Option<LastSeqForm>,
    /// Ids, 16 bytes each, oldest first. (Tag 3 was another form of them.)
    #[prost(bytes = "bytes", tag = "13")]
    inline: Bytes,
    #[prost(uint64, tag = "4")]
    floor: u64,
    #[prost(uint64, tag = "5")]
    next_segment: u64,
    #[prost(message, repeated, tag = "6")]
    state: Vec<StateForm>,
    #[prost(uint64, tag = "7")]
    invoked_at: u64,
    #[prost(message, repeated, tag = "8")]
    tokens: Vec<TokenForm>,
    #[prost(message, repeated, tag = "9")]
    partial: Vec<PartialForm>,
    /// The trial that is noted, or the last: older versions know one.
    #[prost(message, optional, tag = "10")]
    trial: Option<TrialForm>,
    #[prost(message, repeated, tag = "11")]
    outbox: Vec<EntryForm>,
    #[prost(uint64, tag = "12")]
    newest: u64,
    #[prost(uint64, tag = "14")]
    moved_at: u64,
    #[prost(uint64, tag = "15")]
    last_at: u64,
    /// For each producer's key among the inline ids, in their order, the second of its acceptance: 4 bytes. Older versions wrote none.
    #[prost(bytes = "bytes", tag = "16")]
    keys_at: Bytes,
    /// All other trials, oldest first.
    #[prost(message, repeated, tag = "17")]
    trials: Vec<TrialForm>,
    /// Older versions wrote none: the wait of the outbox begins anew.
    #[prost(uint64, tag = "18")]
    denied_since: u64,
    #[prost(uint64, tag = "19")]
    outbox_made_at: u64,
    #[prost(message, optional, tag = "20")]
    outbox_mark: Option<MarkForm>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LastSeqForm {
    #[prost(fixed64, tag = "1")]
    queue: u64,
    #[prost(uint64, tag = "2")]
    low: u64,
    #[prost(uint64, tag = "3")]
    high: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StateForm {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    type_name: String,
    #[prost(bytes = "bytes", optional, tag = "3")]
    value: Option<Bytes>,
    #[prost(uint64, tag = "4")]
    written_at: u64,
}

#[derive(Clone, PartialEq, Message)]
struct TokenForm {
    #[prost(string, tag = "1")]
    token: String,
    #[prost(bytes = "bytes", tag = "2")]
    timer: Bytes,
    #[prost(uint64, tag = "3")]
    due: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PartialForm {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(uint32, tag = "2")]
    done: u32,
}

#[derive(Clone, PartialEq, Message)]
struct TrialForm {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(uint32, tag = "2")]
    failures: u32,
    /// Older versions wrote a bool: 1 is what they meant by it.
    #[prost(uint32, tag = "3")]
    note: u32,
}

/// Appends the record of `owner`, without version and lease.
pub fn encode_record(owner: &Address, record: &Record, parts: Parts, into: &mut Vec<u8>) {
    let nothing = Outbox::default();
    let outbox = if parts.outbox { &record.outbox } else { &nothing };
    let state = if parts.state { Some(&record.state) } else { None };
    let mut trials: Vec<TrialForm> = trials_in_order(&record.trials).into_iter().map(of_trial).collect();
    let form = RecordForm {
        born: record.born.0,
        trial: trials.pop(),
        trials,
        last_seq: record.last_seq.map(of_last_seq),
        inline: record.ledger.inline.iter().flat_map(|taken| taken.id.0).collect::<Vec<_>>().into(),
        keys_at: record.ledger.inline.iter().filter_map(|taken| taken.at).flat_map(second).collect::<Vec<_>>().into(),
        last_at: record.last_at.0,
        newest: record.ledger.newest.0,
        moved_at: record.moved_at.0,
        floor: record.ledger.floor.0,
        next_segment: record.ledger.next_segment,
        state: state.into_iter().flatten().map(of_state).collect(),
        invoked_at: record.invoked_at.0,
        tokens: record.tokens.iter().map(|(token, live)| of_token(token, live)).collect(),
        partial: record.partial.iter().map(|partial| PartialForm { id: of_id(partial.id), done: partial.done }).collect(),
        outbox: outbox.entries.iter().map(|effect| of_effect(owner, effect)).collect(),
        denied_since: outbox.denied_since.0,
        outbox_made_at: outbox.made_at.0,
        outbox_mark: outbox.mark.map(of_mark),
    };
    into.reserve(form.encoded_len());
    // A vector grows as needed, which is the only way in which this can fail.
    let _ = form.encode(into);
}

/// Reads what [`encode_record`] wrote for the same owner; what was left out is empty.
///
/// # Errors
/// [`Unreadable`] if it is not in that form.
pub fn decode_record(owner: &Address, bytes: Bytes) -> Result<Record, Unreadable> {
    let form = RecordForm::decode(bytes)?;
    Ok(Record {
        born: Timestamp(form.born),
        last_seq: form.last_seq.map(to_last_seq),
        ledger: Ledger {
            inline: to_taken(&form.inline, &form.keys_at, Timestamp(form.newest))?,
            newest: Timestamp(form.newest),
            floor: Timestamp(form.floor),
            next_segment: form.next_segment,
        },
        state: form.state.into_iter().map(to_state).collect::<Result<_, _>>()?,
        moved_at: Timestamp(form.moved_at),
        invoked_at: Timestamp(form.invoked_at),
        tokens: form.tokens.into_iter().map(to_token).collect::<Result<_, _>>()?,
        partial: form
            .partial
            .iter()
            .map(|form| Ok(Partial { id: id(&form.id)?, done: form.done }))
            .collect::<Result<_, Unreadable>>()?,
        trials: form.trials.into_iter().chain(form.trial).map(to_trial).collect::<Result<_, _>>()?,
        last_at: Timestamp(form.last_at),
        outbox: Outbox {
            entries: form.outbox.into_iter().map(|entry| to_effect(owner, entry)).collect::<Result<_, _>>()?,
            made_at: Timestamp(form.outbox_made_at),
            mark: form.outbox_mark.map(to_mark),
            denied_since: Timestamp(form.denied_since),
        },
        ..Record::default()
    })
}

/// One state value, without its name.
#[must_use]
pub fn encode_value(stored: &StoredValue) -> Vec<u8> {
    of_state((&Arc::default(), stored)).encode_to_vec()
}

/// Reads what [`encode_value`] wrote.
///
/// # Errors
/// [`Unreadable`] if it is not in that form.
pub fn decode_value(bytes: Bytes) -> Result<StoredValue, Unreadable> {
    Ok(to_state(StateForm::decode(bytes)?)?.1)
}

pub(super) fn of_id(id: EnvelopeId) -> Bytes {
    Bytes::copy_from_slice(&id.0)
}

pub(super) fn of_last_seq(last: LastSeq) -> LastSeqForm {
    LastSeqForm { queue: last.queue, low: last.seq as u64, high: (last.seq >> 64) as u64 }
}

pub(super) fn to_last_seq(form: LastSeqForm) -> LastSeq {
    LastSeq { queue: form.queue, seq: u128::from(form.high) << 64 | u128::from(form.low) }
}

fn second(at: Timestamp) -> [u8; 4] {
    u32::try_from(at.0 / 1_000).unwrap_or(u32::MAX).to_be_bytes()
}

/// The inline ids. Producers' keys whose time is missing are the oldest; they count as accepted with the newest.
fn to_taken(ids: &[u8], times: &[u8], newest: Timestamp) -> Result<Vec<Taken>, Unreadable> {
    let ((ids, []), (times, [])) = (ids.as_chunks::<16>(), times.as_chunks::<4>()) else {
        return Err(Unreadable::Form("a ledger"));
    };
    let keys = ids.iter().filter(|id| EnvelopeId(**id).is_keyed()).count();
    let missing = keys.checked_sub(times.len()).ok_or(Unreadable::Form("a ledger"))?;
    let known = times.iter().map(|time| Timestamp(u64::from(u32::from_be_bytes(*time)) * 1_000));
    let mut times = std::iter::repeat_n(newest, missing).chain(known);
    let taken = ids.iter().map(|id| {
        let id = EnvelopeId(*id);
        Taken { id, at: id.is_keyed().then(|| times.next()).flatten() }
    });
    Ok(taken.collect())
}

/// Oldest first, but with one that is noted in the last place.
fn trials_in_order(trials: &[Trial]) -> Vec<Trial> {
    let mut trials = trials.to_vec();
    if let Some(place) = trials.iter().rposition(|trial| trial.note != Note::None) {
        let noted = trials.remove(place);
        trials.push(noted);
    }
    trials
}

fn of_trial(trial: Trial) -> TrialForm {
    TrialForm { id: of_id(trial.id), failures: trial.failures, note: trial.note as u32 }
}

fn of_state((name, stored): (&Arc<str>, &StoredValue)) -> StateForm {
    StateForm {
        name: name.to_string(),
        type_name: stored.value.type_name.to_string(),
        value: stored.value.value.clone(),
        written_at: stored.written_at.0,
    }
}

fn to_state(form: StateForm) -> Result<(Arc<str>, StoredValue), Unreadable> {
    let value = TypedValue { type_name: type_name(&form.type_name)?, value: form.value };
    Ok((form.name.into(), StoredValue { value, written_at: Timestamp(form.written_at) }))
}

fn of_token(token: &str, live: &LiveToken) -> TokenForm {
    TokenForm { token: token.to_owned(), timer: of_id(live.timer), due: live.due.0 }
}

fn to_token(form: TokenForm) -> Result<(String, LiveToken), Unreadable> {
    Ok((form.token, LiveToken { timer: id(&form.timer)?, due: Timestamp(form.due) }))
}

fn to_trial(form: TrialForm) -> Result<Trial, Unreadable> {
    let note = match form.note {
        0 => Note::None,
        1 => Note::Watched,
        _ => Note::Alone,
    };
    Ok(Trial { id: id(&form.id)?, failures: form.failures, note })
}
