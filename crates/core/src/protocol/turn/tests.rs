//! A turn, step by step, as the engine drives it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::*;
use crate::{
    ContextError, Effect, LiveToken, Owner, StoredValue, TypeName, TypedValue, Value, ValueSpec,
    limits::*,
    rules::{Budget, Targets},
};

const COUNT: ValueSpec<i64> = ValueSpec::new("count");
const BRIEF: ValueSpec<String> = ValueSpec::new("brief").expire_after_write(Duration::from_millis(100));
const IDLE: ValueSpec<String> = ValueSpec::new("idle").expire_after_invoke(Duration::from_millis(100));
const FUNCTION: TypeName = TypeName::from_static("test/function");

fn spec() -> Arc<FunctionSpec> {
    let mut spec = FunctionSpec::new(FUNCTION);
    for state in [COUNT.erase(), BRIEF.erase(), IDLE.erase()] {
        spec.states.insert(state.name, state);
    }
    Arc::new(spec)
}

fn rules() -> Rules {
    let known = BTreeSet::from([FUNCTION, TypeName::from_static("test/other")]);
    let budget = Budget { envelope_messages: 3, ..Budget::default() };
    Rules { targets: Targets::Known(known), max_hops: 5, budget, ..Rules::default() }
}

fn envelope(number: u8, hops: u32) -> Arc<Envelope> {
    Arc::new(Envelope {
        id: EnvelopeId([number; 16]),
        to: Address::new(FUNCTION, "me").unwrap(),
        from: Some(Address::new(FUNCTION, "you").unwrap()),
        sent_at: Timestamp(900),
        keyed: false,
        hops,
        trace: Some("trace".into()),
        messages: vec![TypedValue::of(&1_i64).unwrap(), TypedValue::of(&2_i64).unwrap()],
    })
}

fn turn_on(record: Record) -> Turn {
    let first = envelope(1, 0);
    let mut turn = Turn::new(spec(), Arc::new(rules()), first.to.clone(), record, &first);
    turn.open(&first, 1);
    turn.begin(0, Timestamp(1_000));
    turn
}

fn turn() -> Turn {
    turn_on(Record { version: 3, ..Record::default() })
}

const SEQ: LastSeq = LastSeq { queue: 1, seq: 5 };

/// Keeps the message, closes the envelope and commits.
fn commit(mut turn: Turn) -> Commit {
    turn.keep();
    turn.close(SEQ);
    turn.commit(Timestamp(1_000))
}

#[test]
fn a_commit_names_what_it_must_find() {
    let mut turn = turn();
    turn.context().set(&COUNT, 4).unwrap();
    let commit = commit(turn);
    assert_eq!((commit.expect, commit.record.version, commit.record.lease), (3, 4, None));
    assert_eq!(commit.record.last_seq, Some(SEQ));
    assert!(commit.record.ledger.holds(EnvelopeId([1; 16]), Timestamp::ZERO));
    assert_eq!(commit.record.state["count"].value.get::<i64>().unwrap(), Some(4));
    assert_eq!(commit.changed, [Arc::from("count")]);
}

#[test]
fn versions_begin_at_the_milliseconds_of_the_birth() {
    let first = commit(turn_on(Record::new(Timestamp(1_700_000_000_000))));
    assert_eq!((first.expect, first.record.version), (0, 1_700_000_000_000));
    let second = commit(turn_on(first.record));
    assert_eq!((second.expect, second.record.version), (1_700_000_000_000, 1_700_000_000_001));
}

#[test]
fn a_lease_that_was_taken_meanwhile_raises_what_the_commit_must_find() {
    let mut turn = turn();
    turn.leased(Lease { owner: Owner(1), until: Timestamp(9_000) });
    let commit = commit(turn);
    assert_eq!((commit.expect, commit.record.version, commit.record.lease), (4, 5, None));
}

#[test]
fn a_failed_message_leaves_no_trace_and_the_others_of_its_envelope_do() {
    let mut turn = turn();
    turn.context().set(&COUNT, 1).unwrap();
    turn.keep();
    turn.begin(1, Timestamp(1_001));
    let context = turn.context();
    assert_eq!(context.get(&COUNT).unwrap(), Some(1), "the message before is visible");
    context.set(&COUNT, 2).unwrap();
    context.send((FUNCTION, "x"), &1_i64).unwrap();
    turn.undo();
    turn.park(1..2, Reason::Terminal, "no", 1, Timestamp(1_001));
    turn.close(SEQ);
    let record = turn.commit(Timestamp(1_001)).record;
    assert_eq!(record.state["count"].value.get::<i64>().unwrap(), Some(1));
    let [Effect::DeadLetter(letter)] = &record.outbox.entries[..] else { panic!("{:?}", record.outbox) };
    assert_eq!(letter.envelope.messages, [TypedValue::of(&2_i64).unwrap()]);
}

#[test]
fn an_abandoned_envelope_leaves_only_the_note_of_its_failure() {
    let mut turn = turn();
    turn.context().set(&COUNT, 1).unwrap();
    turn.keep();
    turn.abandon(Trial { id: EnvelopeId([1; 16]), failures: 1, note: Note::None });
    assert!(turn.is_dirty());
    let record = turn.commit(Timestamp(1_000)).record;
    assert!(record.state.is_empty() && record.ledger.inline.is_empty() && record.last_seq.is_none());
    assert_eq!(record.trial_of(EnvelopeId([1; 16])).failures, 1);
    assert_eq!(commit(turn_on(record)).record.trials, [], "once it succeeds the note is gone");
}

#[test]
fn an_envelope_left_half_done_goes_on_where_it_was_left() {
    let mut turn = turn();
    turn.keep();
    turn.leave(1);
    let record = turn.commit(Timestamp(1_000)).record;
    assert_eq!(record.done_of(EnvelopeId([1; 16])), 1);
    assert!(!record.ledger.holds(EnvelopeId([1; 16]), Timestamp::ZERO));
    let done = commit(turn_on(record)).record;
    assert!(done.partial.is_empty() && done.ledger.holds(EnvelopeId([1; 16]), Timestamp::ZERO));
}

#[test]
fn duplicates_alone_are_not_worth_a_write() {
    let mut turn = turn();
    turn.pass(SEQ);
    assert!(!turn.is_dirty());
}

#[test]
fn state_must_be_declared_with_its_type() {
    let mut turn = turn();
    let context = turn.context();
    let undeclared = ValueSpec::<i64>::new("other");
    assert!(matches!(context.get(&undeclared), Err(ContextError::UndeclaredState { .. })));
    assert!(matches!(context.set(&undeclared, 1), Err(ContextError::UndeclaredState { .. })));
    let retyped = ValueSpec::<String>::new("count");
    assert!(matches!(context.get(&retyped), Err(ContextError::StateType { .. })));
    assert!(matches!(context.remove(&retyped), Err(ContextError::StateType { .. })));
}

/// As `COUNT`, with another type than the stored one; `read` says whether that is read, too.
fn turn_on_older_text(read: bool) -> Turn {
    let spec = FunctionSpec {
        states: [("count", if read { READING.erase() } else { COUNT.erase() })].into(),
        ..FunctionSpec::new(FUNCTION)
    };
    let value = TypedValue::of(&"41".to_owned()).unwrap();
    let state = [("count".into(), StoredValue { value, written_at: Timestamp(1) })].into();
    let first = envelope(1, 0);
    let record = Record { version: 3, state, ..Record::default() };
    let mut turn = Turn::new(Arc::new(spec), Arc::new(rules()), first.to.clone(), record, &first);
    turn.open(&first, 1);
    turn.begin(0, Timestamp(1_000));
    turn
}

/// Counts as numbers, and reads the texts that were stored before.
const READING: ValueSpec<Number> = ValueSpec::new("count").reads::<String>();

#[derive(Debug, PartialEq)]
struct Number(i64);

impl Value for Number {
    const TYPE_NAME: TypeName = i64::TYPE_NAME;
    type Codec = Self;
}

impl crate::Codec<Number> for Number {
    fn encode(value: &Number) -> Result<bytes::Bytes, crate::CodecError> {
        Ok(i64::encode(&value.0)?)
    }

    fn decode(bytes: &[u8]) -> Result<Number, crate::CodecError> {
        Ok(Number(i64::decode(bytes)?))
    }
}

impl TryFrom<String> for Number {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

#[test]
fn stored_state_of_an_unknown_type_is_neither_read_nor_overwritten_and_noted_for_its_message_only() {
    let mut turn = turn_on_older_text(false);
    assert!(turn.unreadable().is_none());
    assert!(matches!(turn.context().set(&COUNT, 1), Err(ContextError::UnreadableState(_))));
    let ContextError::UnreadableState(error) = turn.context().get(&COUNT).unwrap_err() else { panic!("it is a mistake") };
    for part in ["`count`", "`test/function`", "io.statefun.types/string", "io.statefun.types/long", "docs/evolution.md"] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
    let noted = turn.unreadable().unwrap();
    assert_eq!((noted.state, noted.stored.as_str()), ("count", "io.statefun.types/string"));
    turn.undo();
    turn.begin(1, Timestamp(1_001));
    assert!(turn.unreadable().is_none(), "the next message is not to wait for what another asked for");
}

#[test]
fn stored_state_of_an_older_type_is_read_and_stored_in_the_new_one() {
    let mut turn = turn_on_older_text(true);
    assert_eq!(turn.context().get(&READING).unwrap(), Some(Number(41)));
    turn.context().set(&READING, Number(42)).unwrap();
    assert_eq!(turn.context().get(&READING).unwrap(), Some(Number(42)));
    assert!(turn.unreadable().is_none());
    assert_eq!(commit(turn).record.state["count"].value.get::<i64>().unwrap(), Some(42));
}

#[test]
fn values_expire_after_they_were_written() {
    let mut turn = turn();
    turn.context().set(&BRIEF, "x".to_owned()).unwrap();
    turn.keep();
    turn.begin(1, Timestamp(1_099));
    assert!(turn.context().get(&BRIEF).unwrap().is_some());
    turn.keep();
    turn.begin(1, Timestamp(1_100));
    assert!(turn.context().get(&BRIEF).unwrap().is_none());
    turn.keep();
    turn.close(SEQ);
    let commit = turn.commit(Timestamp(1_100));
    assert!(commit.record.state.is_empty(), "what expired is not stored again");
    assert!(commit.changed.contains(&Arc::from("brief")));
}

#[test]
fn every_invocation_puts_off_what_expires_after_invocation() {
    let mut turn = turn();
    turn.context().set(&IDLE, "x".to_owned()).unwrap();
    let record = commit(turn).record;
    let at = |record: &Record, now| {
        let mut turn = turn_on(record.clone());
        turn.begin(0, Timestamp(now));
        let visible = turn.context().get(&IDLE).unwrap().is_some();
        turn.keep();
        turn.close(SEQ);
        (visible, turn.commit(Timestamp(now)).record)
    };
    let (visible, later) = at(&record, 1_090);
    assert!(visible);
    assert!(at(&later, 1_189).0);
    assert!(!at(&record, 1_100).0);
}

#[test]
fn messages_of_a_commit_to_one_address_travel_together_in_parts() {
    let mut turn = turn();
    for number in 0..4_i64 {
        turn.context().send((FUNCTION, "x"), &number).unwrap();
        turn.context().send((FUNCTION, "y"), &number).unwrap();
    }
    let record = commit(turn).record;
    let sends: Vec<_> = record
        .outbox
        .entries
        .iter()
        .map(|effect| match effect {
            Effect::Send(envelope) => (envelope.to.id(), envelope.messages.len(), envelope.hops, envelope.sent_at.0),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sends, [("x", 3, 1, 1_000), ("y", 3, 1, 1_000), ("x", 1, 1, 1_000), ("y", 1, 1, 1_000)]);
}

#[test]
fn ids_are_the_same_for_the_same_commit_and_differ_within_it() {
    let outbox = || {
        let mut turn = turn();
        turn.context().send((FUNCTION, "x"), &1_i64).unwrap();
        turn.context().egress("test/out", &1_i64).unwrap();
        turn.context().send_after(Duration::ZERO, (FUNCTION, "x"), &1_i64, None).unwrap();
        commit(turn).record.outbox.entries
    };
    assert_eq!(outbox(), outbox());
    let ids: BTreeSet<_> = outbox()
        .iter()
        .map(|effect| match effect {
            Effect::Send(envelope) => envelope.id,
            Effect::Egress(record) => record.id,
            Effect::Schedule(timer) => timer.envelope.id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn a_live_token_cannot_be_used_again_until_it_is_cancelled_or_due() {
    let mut turn = turn();
    let minute = Duration::from_secs(60);
    let context = turn.context();
    context.send_after(minute, (FUNCTION, "x"), &1_i64, "t").unwrap();
    let again = context.send_after(minute, (FUNCTION, "x"), &1_i64, "t");
    assert!(matches!(again, Err(ContextError::TokenInUse(_))));
    context.cancel("t").unwrap();
    context.send_after(minute, (FUNCTION, "x"), &2_i64, "t").unwrap();
    context.cancel("unknown").unwrap();
    assert!(matches!(context.cancel(""), Err(ContextError::Token(0))));
    let record = commit(turn).record;
    assert_eq!(record.outbox.len(), 3);
    let mut turn = turn_on(record.clone());
    assert!(matches!(turn.context().send_after(minute, (FUNCTION, "x"), &1_i64, "t"), Err(ContextError::TokenInUse(_))));
    let mut turn = turn_on(record);
    turn.begin(0, Timestamp(1_000).plus(minute));
    turn.context().send_after(minute, (FUNCTION, "x"), &1_i64, "t").unwrap();
}

#[test]
fn limits_are_errors_where_they_are_crossed() {
    let mut turn = turn();
    let context = turn.context();
    let big = "x".repeat(2 << 20);
    assert!(matches!(context.send((FUNCTION, "x"), &big), Err(ContextError::TooBig { what: "the message", .. })));
    assert!(matches!(context.egress("test/out", &big), Err(ContextError::TooBig { .. })));
    assert!(matches!(context.set(&BRIEF, &big), Err(ContextError::TooBig { .. })));
    let large = "x".repeat(MAX_MESSAGE_BYTES - 8);
    for _ in 0..3 {
        context.send((FUNCTION, "x"), &large).unwrap();
    }
    assert!(matches!(context.send((FUNCTION, "x"), &large), Err(ContextError::CommitTooBig { .. })));
    let unknown = context.send(("test/fonction", "x"), &1_i64).unwrap_err();
    assert_eq!(unknown.to_string(), "no function `test/fonction` is known here; did you mean `test/function`?");
    assert!(matches!(context.send(("nonsense", "x"), &1_i64), Err(ContextError::Address(_))));
    let late = context.send_after(MAX_DELAY * 2, (FUNCTION, "x"), &1_i64, None);
    assert!(matches!(late, Err(ContextError::DelayTooLong(_))));
    assert!(turn.context().egress("nonsense", &1_i64).is_err());
}

#[test]
fn a_full_commit_takes_no_more() {
    let mut turn = turn();
    let half = "x".repeat(MAX_MESSAGE_BYTES - 8);
    turn.context().send((FUNCTION, "x"), &half).unwrap();
    turn.keep();
    assert!(!turn.is_full());
    turn.begin(1, Timestamp(1_000));
    turn.context().send((FUNCTION, "x"), &half).unwrap();
    turn.keep();
    assert!(turn.is_full());
}

#[test]
fn hops_are_counted_and_a_delay_starts_them_anew() {
    let far = envelope(9, 5);
    let mut turn = Turn::new(spec(), Arc::new(rules()), far.to.clone(), Record::default(), &far);
    turn.open(&far, 1);
    turn.begin(0, Timestamp(1_000));
    let context = turn.context();
    assert!(matches!(context.send((FUNCTION, "x"), &1_i64), Err(ContextError::HopLimit { hops: 6, limit: 5 })));
    assert!(context.send_after(Duration::ZERO, (FUNCTION, "x"), &1_i64, None).is_err());
    context.send_after(HOPS_RESET_DELAY, (FUNCTION, "x"), &1_i64, None).unwrap();
}

#[test]
fn a_token_that_is_set_again_counts_once() {
    let minute = Duration::from_secs(60);
    let live = |number: usize| (format!("t{number}"), LiveToken { timer: EnvelopeId([9; 16]), due: Timestamp(900_000) });
    let mut turn = turn_on(Record { tokens: (0..MAX_LIVE_TOKENS - 1).map(live).collect(), ..Record::default() });
    for _ in 0..3 {
        let context = turn.context();
        for number in 0..MAX_LIVE_TOKENS - 1 {
            context.cancel(&format!("t{number}")).unwrap();
            context.send_after(minute, (FUNCTION, "x"), &1_i64, &*format!("t{number}")).unwrap();
        }
        turn.keep();
        turn.begin(1, Timestamp(1_000));
    }
    turn.context().send_after(minute, (FUNCTION, "x"), &1_i64, "last").unwrap();
    let one_more = turn.context().send_after(minute, (FUNCTION, "x"), &1_i64, "one more");
    assert!(matches!(one_more, Err(ContextError::TooManyTokens)));
}

#[test]
fn dead_letters_count_towards_their_commit() {
    let mut turn = turn();
    turn.undo();
    let each = MAX_REASON_BYTES + EFFECT_BYTES;
    let mut letters = 0;
    while !turn.is_full() {
        turn.park(0..1, Reason::Terminal, &"e".repeat(MAX_REASON_BYTES), 1, Timestamp(1_000));
        letters += 1;
    }
    assert!(letters <= COMMIT_SOFT_BYTES / each, "{letters} letters of {each} bytes");
}

/// What ran alone may be what kills its process, whatever part of it is done: the rest runs alone too.
#[test]
fn an_envelope_left_in_the_middle_is_not_blamed_and_stays_suspected() {
    for (noted, kept) in [(Note::Watched, Note::None), (Note::Alone, Note::Watched)] {
        let id = EnvelopeId([1; 16]);
        let mut record = Record::default();
        record.put_trial(Trial { id, failures: 2, note: noted });
        let mut turn = turn_on(record);
        turn.keep();
        turn.leave(1);
        let record = turn.commit(Timestamp(1_000)).record;
        assert_eq!(record.trials, [Trial { id, failures: 2, note: kept }]);
    }
}

#[test]
fn a_move_to_another_queue_is_noted() {
    let first = commit(turn()).record;
    assert_eq!(first.moved_at, Timestamp::ZERO);
    let mut turn = turn_on(first);
    turn.keep();
    turn.close(LastSeq { queue: 2, seq: 1 });
    let moved = turn.commit(Timestamp(900)).record;
    assert_eq!(moved.moved_at, Timestamp(1_000), "the latest of what the former queue brought");
}
