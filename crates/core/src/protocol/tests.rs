//! The machine, step by step and without a backend.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{batch::Pace, *};
use crate::{
    Address, Backoff, Delivered, Envelope, EnvelopeId, FunctionError, FunctionSpec, LastSeq, Moment, Note, OnFailure, Record,
    Rules, Timestamp, Trial, TypeName, TypedValue,
};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const DEADLINE: Moment = Moment::after_start(Duration::from_secs(60));
const FUNCTION: TypeName = TypeName::from_static("a/b");

fn at(seconds: u64) -> At {
    let moment = Moment::after_start(Duration::from_secs(seconds));
    At { now: NOW.plus(Duration::from_secs(seconds)), moment, cut: false }
}

fn delivered(number: u8, receive_count: u32) -> Delivered {
    let envelope = Envelope {
        id: EnvelopeId([number; 16]),
        to: address(),
        from: None,
        sent_at: NOW,
        keyed: false,
        hops: 0,
        trace: None,
        messages: vec![TypedValue::absent(FUNCTION); 2],
    };
    let seq = LastSeq { queue: 1, seq: number.into() };
    Delivered { envelope: Arc::new(envelope), seq, enqueued_at: NOW, receive_count }
}

fn address() -> Address {
    Address::parse("a/b/c").unwrap()
}

fn batch(deliveries: &[Delivered]) -> Batch {
    let pace = Pace {
        lease_margin: Duration::from_secs(10),
        reserve: Duration::from_secs(2),
        backoff: Backoff::default(),
        drain_at_once: 80,
    };
    let spec = FunctionSpec { on_failure: OnFailure::DeadLetter { max_attempts: 3 }, ..FunctionSpec::new(FUNCTION) };
    Batch::new(Arc::new(spec), Arc::<Rules>::default(), pace, (address(), deliveries.into()), DEADLINE, None, at(0))
}

/// A step's name, without what it holds.
fn name(step: &Step<'_>) -> &'static str {
    match step {
        Step::Load { .. } => "load",
        Step::LookUp { .. } => "look up",
        Step::Enter(How::Beside) => "enter",
        Step::Enter(How::Alone) => "enter alone",
        Step::Invoke { .. } => "invoke",
        Step::Commit { .. } => "commit",
        Step::Barrier { .. } => "barrier",
        Step::Send { .. } => "send",
        Step::Finish { .. } => "finish",
        Step::Free { .. } => "free",
        Step::Pause { .. } => "pause",
        Step::Done(_) => "done",
    }
}

/// Gives the machine these events, one after the other; returns the steps it asked for.
fn steps(batch: &mut Batch, events: impl IntoIterator<Item = Event>) -> Vec<&'static str> {
    let mut steps = Vec::new();
    for event in events {
        batch.on(event, at(1)).unwrap();
        steps.push(name(&batch.step()));
    }
    steps
}

fn outcomes(batch: &mut Batch) -> Vec<Outcome> {
    let Step::Done(outcomes) = batch.step() else { panic!("{:?} is not the end", batch.step()) };
    outcomes.to_vec()
}

fn held(record: Record) -> Event {
    Event::Loaded(Loaded::Held(Box::new(Record { epoch: 1, lease_until: NOW, ..record })))
}

/// An outbox with one egress record.
fn outbox() -> Vec<crate::Effect> {
    let (id, egress, value) = (EnvelopeId([9; 16]), TypeName::from_static("a/out"), TypedValue::absent(FUNCTION));
    vec![crate::Effect::Egress(crate::EgressRecord { id, egress, from: address(), at: NOW, value })]
}

fn all_sent() -> Event {
    Event::Sent(Progress { sent: [0].into(), ..Progress::default() })
}

#[test]
fn a_batch_is_loaded_worked_committed_cleared_and_only_then_done() {
    let mut batch = batch(&[delivered(1, 1)]);
    let handled = || Event::Handled(Handled::Kept);
    let record = Record { outbox: outbox(), ..Record::default() };
    let events = [Event::Begin, held(record), all_sent(), Event::Entered];
    assert_eq!(steps(&mut batch, events), ["load", "send", "enter", "invoke"]);
    let Step::Invoke { context, .. } = batch.step() else { panic!() };
    context.egress("a/out", &"hello".to_owned()).unwrap();
    let events = [handled(), Event::Entered, handled(), Event::Committed(Committed::Stored), all_sent(), Event::Finished(true)];
    assert_eq!(steps(&mut batch, events), ["enter", "invoke", "commit", "send", "finish", "done"]);
    assert_eq!(outcomes(&mut batch), [Outcome::Done]);
    assert!(batch.take_kept().is_some_and(|record| record.outbox.is_empty() && record.lease_until == Timestamp::ZERO));
}

#[test]
fn a_stale_cached_record_is_loaded_and_its_turn_worked_again() {
    let mut batch = batch(&[delivered(1, 1)]);
    let handled = || Event::Handled(Handled::Kept);
    let cached = Event::Loaded(Loaded::Cached(Box::default()));
    let events =
        [Event::Begin, cached, Event::Entered, handled(), Event::Entered, handled(), Event::Committed(Committed::Fenced)];
    assert_eq!(steps(&mut batch, events), ["load", "enter", "invoke", "enter", "invoke", "commit", "load"]);
    assert_eq!(steps(&mut batch, [held(Record::default()), Event::Entered]), ["enter", "invoke"]);
}

#[test]
fn a_suspect_is_noted_durably_before_it_runs_alone() {
    let mut batch = batch(&[delivered(1, 9)]);
    let noted = Trial { id: EnvelopeId([1; 16]), failures: 0, note: Note::Watched };
    let events = [
        Event::Begin,
        held(Record { trials: vec![noted], ..Record::default() }),
        Event::Entered,
        Event::Committed(Committed::Stored),
        Event::Durable,
        Event::Handled(Handled::Kept),
    ];
    assert_eq!(steps(&mut batch, events), ["load", "enter alone", "commit", "barrier", "invoke", "invoke"]);
    assert!(batch.is_alone());
    // The backend fails: the note is taken back, and becomes durable, before others run.
    let events =
        [Event::Handled(Handled::Kept), Event::Failed(PortErrorKind::Throttled), Event::Failed(PortErrorKind::Throttled)];
    assert_eq!(steps(&mut batch, events), ["commit", "commit", "pause"]);
    let events = [Event::Woken, Event::Committed(Committed::Stored), Event::Durable];
    assert_eq!(steps(&mut batch, events), ["commit", "barrier", "done"]);
    assert!(matches!(outcomes(&mut batch)[..], [Outcome::Retry(_)]));
}

#[test]
fn what_is_left_of_an_outbox_is_stored_and_nothing_is_acknowledged() {
    let mut batch = batch(&[delivered(1, 1)]);
    let denied = Progress { denied: true, error: Some(PortErrorKind::Refused), ..Progress::default() };
    let record = Record { outbox: outbox(), ..Record::default() };
    assert_eq!(steps(&mut batch, [Event::Begin, held(record), Event::Sent(denied)]), ["load", "send", "commit"]);
    let Step::Commit { commit, .. } = batch.step() else { panic!() };
    assert_eq!((commit.record.outbox.len(), commit.record.denied_since), (1, at(1).now));
    assert_eq!(steps(&mut batch, [Event::Committed(Committed::Stored)]), ["done"]);
    assert!(matches!(outcomes(&mut batch)[..], [Outcome::Retry(_)]));
}

#[test]
fn a_message_that_fails_ends_the_batch_with_what_came_before_it() {
    let mut batch = batch(&[delivered(1, 1), delivered(2, 1)]);
    let failed = Event::Handled(Handled::Failed(FunctionError::retryable("no")));
    let kept = || Event::Handled(Handled::Kept);
    let events = [Event::Begin, held(Record::default()), Event::Entered, kept(), Event::Entered, kept(), Event::Entered, failed];
    assert_eq!(steps(&mut batch, events).last(), Some(&"commit"));
    let Step::Commit { commit, .. } = batch.step() else { panic!() };
    assert!(commit.record.ledger.holds(EnvelopeId([1; 16]), Timestamp::ZERO));
    assert_eq!(commit.record.trial_of(EnvelopeId([2; 16])).failures, 1);
    steps(&mut batch, [Event::Committed(Committed::Settled)]);
    assert!(matches!(outcomes(&mut batch)[..], [Outcome::Done, Outcome::Retry(_)]));
}

/// Every event that there is.
fn events() -> Vec<Event> {
    vec![
        Event::Begin,
        Event::Loaded(Loaded::Busy),
        held(Record::default()),
        Event::Loaded(Loaded::Cached(Box::default())),
        Event::Found(Vec::new()),
        Event::Entered,
        Event::NoTime,
        Event::Handled(Handled::Kept),
        Event::Handled(Handled::CutShort),
        Event::Handled(Handled::Failed(FunctionError::retryable("no"))),
        Event::Handled(Handled::Failed(FunctionError::terminal("no"))),
        Event::Handled(Handled::Panicked(FunctionError::retryable("no"))),
        Event::Committed(Committed::Stored),
        Event::Committed(Committed::Settled),
        Event::Committed(Committed::Fenced),
        Event::Durable,
        Event::Sent(Progress::default()),
        Event::Sent(Progress { error: Some(PortErrorKind::Unavailable), ..Progress::default() }),
        all_sent(),
        Event::Finished(true),
        Event::Finished(false),
        Event::Freed,
        Event::Woken,
        Event::Failed(PortErrorKind::Unavailable),
        Event::Failed(PortErrorKind::Refused),
    ]
}

/// Which events answer a step.
fn answers(step: &str, event: &Event) -> bool {
    match event {
        Event::Begin => false,
        Event::Loaded(_) => step == "load",
        Event::Found(_) => step == "look up",
        Event::Entered | Event::NoTime => matches!(step, "enter" | "enter alone"),
        Event::Handled(_) => step == "invoke",
        Event::Committed(_) => step == "commit",
        Event::Durable => step == "barrier",
        Event::Sent(_) => step == "send",
        Event::Finished(_) => step == "finish",
        Event::Freed => step == "free",
        Event::Woken => step == "pause",
        Event::Failed(_) => matches!(step, "load" | "look up" | "commit" | "barrier" | "finish"),
    }
}

/// The record that a load finds: with an outbox, a suspect, a ledger that leaves open what is new, or none of these.
fn found(what: u8) -> Record {
    let mut record = Record::default();
    if what & 1 > 0 {
        record.outbox = outbox();
    }
    if what & 2 > 0 {
        record.trials = vec![Trial { id: EnvelopeId([1; 16]), failures: u32::from(what & 4), note: Note::Watched }];
    }
    if what & 8 > 0 {
        (record.ledger.next_segment, record.ledger.floor) = (1, NOW);
        record.moved_at = NOW;
    }
    record
}

proptest! {
    /// Whatever a backend answers, and whatever handlers do: each answer is taken and every other event refused, the batch comes to its
    /// end, and nothing later is acknowledged than what is not.
    #[test]
    fn every_batch_comes_to_its_end_and_acknowledges_in_order(
        choices in proptest::collection::vec((any::<prop::sample::Index>(), 0_u64..2), 200),
        what in 0_u8..16,
        receives in 1_u32..12,
    ) {
        let mut batch = batch(&[delivered(1, receives), delivered(2, receives), delivered(3, 1)]);
        batch.on(Event::Begin, at(0)).unwrap();
        let (mut seconds, mut finished) = (0, false);
        for (choice, passed) in choices {
            seconds += passed;
            let step = name(&batch.step());
            if step == "done" {
                finished = true;
                break;
            }
            let (right, wrong): (Vec<_>, Vec<_>) = events().into_iter().partition(|event| answers(step, event));
            for event in wrong {
                prop_assert!(batch.clone().on(event, at(seconds)).is_err(), "after {}", step);
            }
            let place = choice.index(right.len());
            let event = match right.into_iter().nth(place).unwrap() {
                Event::Loaded(Loaded::Held(_)) => held(found(what)),
                event => event,
            };
            batch.on(event, at(seconds)).unwrap();
        }
        // A backend that always says that the cache is stale keeps a batch busy for as long.
        if finished {
            let outcomes = outcomes(&mut batch);
            prop_assert_eq!(outcomes.len(), 3);
            let done = outcomes.iter().take_while(|outcome| **outcome == Outcome::Done).count();
            prop_assert!(outcomes[done..].iter().all(|outcome| *outcome != Outcome::Done));
        }
    }
}
