//! The machine, step by step and without a backend.

mod marks;

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    Address, Backoff, Delivered, Envelope, EnvelopeId, FunctionError, FunctionSpec, LastSeq, Lease, Moment, Note, OnFailure,
    Owner, Record, Rules, Timestamp, Trial, TypeName, TypedValue,
};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const DEADLINE: Moment = Moment::after_start(Duration::from_secs(60));
const OWNER: Owner = Owner(7);
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
    of(spec(), pace(), deliveries)
}

fn spec() -> FunctionSpec {
    FunctionSpec { on_failure: OnFailure::DeadLetter { max_attempts: 3 }, ..FunctionSpec::new(FUNCTION) }
}

fn pace() -> Pace {
    Pace {
        lease_after: Duration::from_millis(500),
        lease_margin: Duration::from_secs(10),
        reserve: Duration::from_secs(2),
        backoff: Backoff::default(),
        drain_at_once: 80,
    }
}

fn of(spec: FunctionSpec, pace: Pace, deliveries: &[Delivered]) -> Batch {
    Batch::new(Arc::new(spec), Arc::<Rules>::default(), pace, (address(), deliveries.into()), DEADLINE, OWNER, None, at(0))
}

/// A step's name, without what it holds.
fn name(step: &Step<'_>) -> &'static str {
    match step {
        Step::Load { .. } => "load",
        Step::Lease(_) => "lease",
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

fn read(record: Record) -> Event {
    Event::Loaded(Loaded::Read(Some(Box::new(Record { version: 3, ..record }))))
}

fn kept() -> Event {
    Event::Handled(Handled::Kept, None)
}

/// An outbox with one egress record.
fn outbox() -> crate::Outbox {
    let (id, egress, value) = (EnvelopeId([9; 16]), TypeName::from_static("a/out"), TypedValue::absent(FUNCTION));
    vec![crate::Effect::Egress(crate::EgressRecord { id, egress, from: address(), at: NOW, value })].into()
}

fn all_sent() -> Event {
    Event::Sent(Progress { sent: [0].into(), ..Progress::default() })
}

#[test]
fn a_batch_is_loaded_worked_committed_cleared_and_only_then_done() {
    let mut batch = batch(&[delivered(1, 1)]);
    let record = Record { outbox: outbox(), ..Record::default() };
    let events = [Event::Begin, read(record), all_sent(), Event::Entered];
    assert_eq!(steps(&mut batch, events), ["load", "send", "enter", "invoke"]);
    let Step::Invoke { context, .. } = batch.step() else { panic!() };
    context.egress("a/out", &"hello".to_owned()).unwrap();
    let events = [kept(), Event::Entered, kept(), Event::Committed(Committed::Stored), all_sent(), Event::Finished(true)];
    assert_eq!(steps(&mut batch, events), ["enter", "invoke", "commit", "send", "finish", "done"]);
    assert_eq!(outcomes(&mut batch), [Outcome::Done]);
    assert!(batch.take_kept().is_some_and(|record| record.outbox.is_empty() && record.version == 5));
}

/// Such as one that a later version wrote: its messages wait for that.
#[test]
fn a_record_that_cannot_be_read_is_not_written() {
    let mut batch = batch(&[delivered(1, 400), delivered(2, 400)]);
    assert_eq!(steps(&mut batch, [Event::Begin, Event::Failed(PortErrorKind::Refused)]), ["load", "done"]);
    let outcomes = outcomes(&mut batch);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Retry(pause) if !pause.is_zero())), "{outcomes:?}");
}

/// Others may have dealt with a copy meanwhile, and what that caused may stand.
#[test]
fn duplicates_by_a_cached_record_are_acknowledged_only_after_a_look_at_the_stored_one() {
    let known = || {
        let mut record = Record { version: 3, ..Record::default() };
        let _ = record.ledger.accept(vec![EnvelopeId([1; 16])], NOW, 56, Duration::from_secs(1));
        Box::new(record)
    };
    let mut batch = batch(&[delivered(1, 2)]);
    assert_eq!(steps(&mut batch, [Event::Begin, Event::Loaded(Loaded::Cached(known()))]), ["load", "load"]);
    assert_eq!(steps(&mut batch, [Event::Loaded(Loaded::Read(Some(known())))]), ["done"]);
    let mut batch = self::batch(&[delivered(1, 2)]);
    steps(&mut batch, [Event::Begin, Event::Loaded(Loaded::Cached(known()))]);
    let others = Record { version: 4, outbox: outbox(), ..*known() };
    let read = Event::Loaded(Loaded::Read(Some(Box::new(others))));
    assert_eq!(steps(&mut batch, [read, Event::Leased(Leased::Taken)]), ["lease", "send"]);
}

/// From the gate to the commit of one envelope of two messages.
const WORKED: [&str; 3] = ["invoke", "enter", "invoke"];

fn worked(last: Event) -> [Event; 5] {
    [Event::Entered, kept(), Event::Entered, kept(), last]
}

#[test]
fn a_stale_cached_record_is_read_and_its_turn_worked_again() {
    let mut batch = batch(&[delivered(1, 1)]);
    let cached = Event::Loaded(Loaded::Cached(Box::default()));
    assert_eq!(steps(&mut batch, [Event::Begin, cached]), ["load", "enter"]);
    assert_eq!(steps(&mut batch, worked(Event::Committed(Committed::Fenced)))[3..], ["commit", "load"]);
    assert!(matches!(batch.step(), Step::Load { fresh: true, .. }));
}

/// Else whoever writes often, beside the queue, would starve it.
#[test]
fn a_refused_run_tries_twice_more_under_a_lease_and_frees_it_then() {
    let mut batch = batch(&[delivered(1, 1)]);
    steps(&mut batch, [Event::Begin, read(Record::default())]);
    for _ in 0..2 {
        assert_eq!(steps(&mut batch, worked(Event::Committed(Committed::Fenced)))[..3], WORKED);
        assert_eq!(steps(&mut batch, [read(Record::default())]), ["lease"]);
        let Step::Lease(Leasing { expect: 3, makes: 4, lease, .. }) = batch.step() else { panic!("{:?}", batch.step()) };
        assert_eq!((lease.owner, lease.until > at(60).now), (OWNER, true));
        assert_eq!(steps(&mut batch, [Event::Leased(Leased::Taken)]), ["enter"]);
    }
    assert_eq!(steps(&mut batch, worked(Event::Committed(Committed::Fenced)))[3..], ["commit", "free"]);
    assert_eq!(steps(&mut batch, [Event::Freed]), ["done"]);
    assert_eq!(outcomes(&mut batch), [Outcome::Retry(Duration::ZERO)]);
}

#[test]
fn a_lease_that_was_taken_is_freed_by_the_commit() {
    let mut batch = batch(&[delivered(1, 1)]);
    steps(&mut batch, [Event::Begin, read(Record::default()), Event::Entered]);
    let Step::Invoke { lease: Some((after, leasing)), .. } = batch.step() else { panic!() };
    assert_eq!((after, leasing.makes), (at(1).moment.plus(Duration::from_millis(500)), 4));
    steps(&mut batch, [Event::Handled(Handled::Kept, Some(Some(Leased::Taken))), Event::Entered]);
    let Step::Invoke { lease: None, .. } = batch.step() else { panic!("one is enough") };
    steps(&mut batch, [kept()]);
    let Step::Commit { commit, .. } = batch.step() else { panic!() };
    assert_eq!((commit.expect, commit.record.version, commit.record.lease), (4, 5, None));
    assert_eq!(steps(&mut batch, [Event::Committed(Committed::Stored)]), ["done"]);
    assert_eq!(outcomes(&mut batch), [Outcome::Done]);
}

#[test]
fn a_handler_whose_lease_is_refused_worked_on_what_is_no_more() {
    let mut batch = batch(&[delivered(1, 1)]);
    steps(&mut batch, [Event::Begin, read(Record::default()), Event::Entered]);
    assert_eq!(steps(&mut batch, [Event::Handled(Handled::Kept, Some(Some(Leased::Refused)))]), ["load"]);
}

#[test]
fn whoever_finds_the_lease_of_another_waits_and_its_own_goes_on() {
    let lease = |owner| Record { lease: Some(Lease { owner, until: at(9).now }), ..Record::default() };
    let mut busy = batch(&[delivered(1, 1)]);
    assert_eq!(steps(&mut busy, [Event::Begin, read(lease(Owner(8)))]), ["load", "done"]);
    assert!(matches!(outcomes(&mut busy)[..], [Outcome::Retry(pause)] if !pause.is_zero()));
    let mut own = batch(&[delivered(1, 1)]);
    assert_eq!(steps(&mut own, [Event::Begin, read(lease(OWNER))]), ["load", "enter"]);
    let ended = Record { lease: Some(Lease { owner: Owner(8), until: NOW }), ..Record::default() };
    assert_eq!(steps(&mut batch(&[delivered(1, 1)]), [Event::Begin, read(ended)]), ["load", "enter"]);
}

#[test]
fn an_exclusive_function_is_leased_before_it_is_called() {
    let spec = FunctionSpec { exclusive: true, ..FunctionSpec::new(FUNCTION) };
    let mut batch = of(spec, batch(&[delivered(1, 1)]).pace, &[delivered(1, 1)]);
    assert_eq!(steps(&mut batch, [Event::Begin, Event::Loaded(Loaded::Read(None))]), ["load", "lease"]);
    let Step::Lease(Leasing { expect: 0, makes, born, .. }) = batch.step() else { panic!() };
    assert_eq!((makes, born), (at(1).now.0, at(1).now), "it makes the record");
    assert_eq!(steps(&mut batch, [Event::Leased(Leased::Taken), Event::Entered]), ["enter", "invoke"]);
    let Step::Invoke { context, .. } = batch.step() else { panic!() };
    assert_eq!(context.fencing_token(), at(1).now.0, "the version that the lease made");
}

/// An exploration found this with two faults: the other took a lease, raised the version by it, and died.
#[test]
fn whoever_is_refused_to_clear_its_outbox_looks_whether_it_stands() {
    let sent = || Event::Sent(Progress { sent: [0].into(), ..Progress::default() });
    let mut batch = batch(&[delivered(1, 1)]);
    steps(&mut batch, [Event::Begin, read(Record::default()), Event::Entered]);
    let Step::Invoke { context, .. } = batch.step() else { panic!() };
    context.egress("a/out", &"hello".to_owned()).unwrap();
    let events = [kept(), Event::Entered, kept(), Event::Committed(Committed::Stored), sent(), Event::Finished(false)];
    assert_eq!(steps(&mut batch, events)[2..], ["commit", "send", "finish", "load"]);
    let mut cleared = batch.clone();
    let stands = Record { outbox: outbox(), ..Record::default() };
    let events = [read(stands), Event::Leased(Leased::Taken), sent(), Event::Finished(true)];
    assert_eq!(steps(&mut batch, events), ["lease", "send", "finish", "done"]);
    assert_eq!(outcomes(&mut batch), [Outcome::Done]);
    let events = [read(Record::default()), Event::Leased(Leased::Taken), Event::Finished(true)];
    assert_eq!(steps(&mut cleared, events), ["lease", "finish", "done"], "others had cleared it");
    assert_eq!(outcomes(&mut cleared), [Outcome::Done]);
}

/// Whoever put a duplicate into a segment may have died before it sent what that caused.
#[test]
fn what_only_a_segment_knows_is_acknowledged_after_another_look_at_the_record() {
    let known = || found(8);
    let duplicate = || Event::Found(vec![EnvelopeId([1; 16])]);
    let mut same = batch(&[delivered(1, 1)]);
    let events = [Event::Begin, read(known()), duplicate(), read(known())];
    assert_eq!(steps(&mut same, events), ["load", "look up", "load", "done"]);
    assert_eq!(outcomes(&mut same), [Outcome::Done]);
    let mut other = batch(&[delivered(1, 1)]);
    let later = Event::Loaded(Loaded::Read(Some(Box::new(Record { version: 4, outbox: outbox(), ..known() }))));
    let events = [Event::Begin, read(known()), duplicate(), later, Event::Leased(Leased::Taken), all_sent()];
    assert_eq!(steps(&mut other, events), ["load", "look up", "load", "lease", "send", "look up"]);
}

#[test]
fn a_suspect_is_noted_durably_before_it_runs_alone() {
    let mut batch = batch(&[delivered(1, 9)]);
    let noted = Trial { id: EnvelopeId([1; 16]), failures: 0, note: Note::Watched };
    let events = [
        Event::Begin,
        read(Record { trials: vec![noted], ..Record::default() }),
        Event::Entered,
        Event::Committed(Committed::Stored),
        Event::Durable,
        kept(),
    ];
    assert_eq!(steps(&mut batch, events), ["load", "enter alone", "commit", "barrier", "invoke", "invoke"]);
    assert!(batch.is_alone());
    // The backend fails: the note is taken back, and becomes durable, before others run.
    let events = [kept(), Event::Failed(PortErrorKind::Throttled), Event::Failed(PortErrorKind::Throttled)];
    assert_eq!(steps(&mut batch, events), ["commit", "load", "pause"]);
    let stands = Record { trials: vec![Trial { note: Note::Alone, ..noted }], lease: Some(batch.lease), ..Record::default() };
    let events = [Event::Woken, read(stands), Event::Committed(Committed::Stored), Event::Durable];
    assert_eq!(steps(&mut batch, events), ["load", "commit", "barrier", "done"]);
    assert!(matches!(outcomes(&mut batch)[..], [Outcome::Retry(_)]));
}

/// The commit of the note had no answer. The version that it was to make says nothing: somebody else may have made it.
#[test]
fn a_note_is_taken_back_only_where_it_is_found() {
    let noted = Trial { id: EnvelopeId([1; 16]), failures: 0, note: Note::Watched };
    let looking = || {
        let mut batch = batch(&[delivered(1, 9)]);
        let failed = Event::Failed(PortErrorKind::Unavailable);
        assert_eq!(steps(&mut batch, [Event::Begin, read(Record::default()), failed]), ["load", "commit", "load"]);
        batch
    };
    let found = |version, owner: Option<Owner>| {
        let lease = owner.map(|owner| Lease { owner, until: at(70).now });
        Event::Loaded(Loaded::Read(Some(Box::new(Record { version, lease, trials: vec![noted], ..Record::default() }))))
    };
    let commit = |batch: &mut Batch| match batch.step() {
        Step::Commit { commit, .. } => (commit.expect, commit.record.version, commit.record.trial_of(noted.id).note),
        step => panic!("{step:?}"),
    };
    let mut ours = looking();
    steps(&mut ours, [found(4, Some(OWNER))]);
    assert_eq!(commit(&mut ours), (4, 5, Note::None));
    let mut before = looking();
    steps(&mut before, [found(3, None)]);
    assert_eq!(commit(&mut before), (3, 4, Note::Watched), "its commit comes too late");
    for others in [found(4, Some(Owner(8))), found(4, None), found(5, None)] {
        assert_eq!(steps(&mut looking(), [others, Event::Freed]), ["free", "done"]);
    }
}

#[test]
fn what_is_left_of_an_outbox_is_stored_and_nothing_is_acknowledged() {
    let mut batch = batch(&[delivered(1, 1)]);
    let denied = Progress { denied: true, error: Some(PortErrorKind::Refused), ..Progress::default() };
    let record = Record { outbox: outbox(), ..Record::default() };
    assert_eq!(steps(&mut batch, [Event::Begin, read(record), Event::Sent(denied)]), ["load", "send", "commit"]);
    let Step::Commit { commit, .. } = batch.step() else { panic!() };
    assert_eq!((commit.record.outbox.len(), commit.record.outbox.denied_since), (1, at(1).now));
    assert_eq!(steps(&mut batch, [Event::Committed(Committed::Stored)]), ["done"]);
    assert!(matches!(outcomes(&mut batch)[..], [Outcome::Retry(_)]));
}

#[test]
fn a_message_that_fails_ends_the_batch_with_what_came_before_it() {
    let mut batch = batch(&[delivered(1, 1), delivered(2, 1)]);
    let failed = Event::Handled(Handled::Failed(FunctionError::retryable("no")), None);
    let events = [Event::Begin, read(Record::default()), Event::Entered, kept(), Event::Entered, kept(), Event::Entered, failed];
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
        Event::Loaded(Loaded::Read(None)),
        read(Record::default()),
        Event::Leased(Leased::Taken),
        Event::Leased(Leased::Refused),
        Event::Loaded(Loaded::Cached(Box::default())),
        Event::Found(Vec::new()),
        Event::Entered,
        Event::NoTime,
        kept(),
        Event::Handled(Handled::Kept, Some(Some(Leased::Taken))),
        Event::Handled(Handled::Kept, Some(Some(Leased::Refused))),
        Event::Handled(Handled::Kept, Some(None)),
        Event::Handled(Handled::CutShort, None),
        Event::Handled(Handled::Failed(FunctionError::retryable("no")), None),
        Event::Handled(Handled::Failed(FunctionError::terminal("no")), None),
        Event::Handled(Handled::Panicked(FunctionError::retryable("no")), None),
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
        Event::Leased(_) => step == "lease",
        Event::Found(_) => step == "look up",
        Event::Entered | Event::NoTime => matches!(step, "enter" | "enter alone"),
        Event::Handled(..) => step == "invoke",
        Event::Committed(_) => step == "commit",
        Event::Durable => step == "barrier",
        Event::Sent(_) => step == "send",
        Event::Finished(_) => step == "finish",
        Event::Freed => step == "free",
        Event::Woken => step == "pause",
        Event::Failed(_) => matches!(step, "load" | "lease" | "look up" | "commit" | "barrier" | "finish"),
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
                Event::Loaded(Loaded::Read(Some(_))) => read(found(what)),
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
