//! Outboxes that stand until a later delivery proves that they were sent.

use super::*;
use crate::{Budget, Mark, Outbox, Protocol};

const RETENTION: Duration = Duration::from_secs(14 * 86_400);

/// As `batch`, with marks, and so many messages in a commit.
fn marking(deliveries: &[Delivered], commit_effects: usize) -> Batch {
    let protocol = Protocol { marks: Some(Marks::of_retention(RETENTION)), ..Protocol::default() };
    let rules = Rules { protocol, budget: Budget { commit_effects, ..Budget::default() }, ..Rules::default() };
    Batch::new(spec().into(), rules.into(), pace(), (address(), deliveries.into()), DEADLINE, OWNER, None, at(0))
}

fn mark(seq: u128) -> Mark {
    Mark { above: LastSeq { queue: 1, seq }, until: NOW.plus(Duration::from_secs(3 * 86_400 - 120)) }
}

fn stands(above: u128) -> Record {
    Record { outbox: Outbox { mark: Some(mark(above)), ..outbox() }, ..Record::default() }
}

fn nudge(number: u8) -> Delivered {
    Delivered { envelope: Arc::new(Envelope::nudge(address(), NOW)), ..delivered(number, 1) }
}

/// The handler at hand sends a record to an egress.
fn emits(batch: &mut Batch) {
    let Step::Invoke { context, .. } = batch.step() else { panic!("{:?}", batch.step()) };
    context.egress("a/out", &"hello".to_owned()).unwrap();
}

fn committed(batch: &mut Batch) -> Outbox {
    let Step::Commit { commit, .. } = batch.step() else { panic!("{:?}", batch.step()) };
    commit.record.outbox.clone()
}

#[test]
fn an_outbox_with_a_mark_is_sent_and_stands() {
    let mut batch = marking(&[delivered(1, 1)], 100);
    steps(&mut batch, [Event::Begin, read(Record::default()), Event::Entered]);
    emits(&mut batch);
    assert_eq!(steps(&mut batch, [kept(), Event::Entered, kept()]), ["enter", "invoke", "commit"]);
    assert_eq!((committed(&mut batch).mark, committed(&mut batch).made_at), (Some(mark(1)), at(1).now));
    assert_eq!(steps(&mut batch, [Event::Committed(Committed::Stored), all_sent()]), ["send", "done"]);
    assert_eq!(outcomes(&mut batch), [Outcome::Done]);
    assert!(batch.take_kept().is_some_and(|record| record.outbox.is_empty()), "the cached one proves nothing");
}

#[test]
fn what_comes_from_beyond_the_mark_proves_the_outbox_and_nothing_is_sent_again() {
    let mut batch = marking(&[delivered(2, 1)], 100);
    let events = [Event::Begin, read(stands(1)), Event::Entered, kept(), Event::Entered, kept()];
    assert_eq!(steps(&mut batch, events), ["load", "enter", "invoke", "enter", "invoke", "commit"]);
    assert!(committed(&mut batch).is_empty(), "it goes with the commit");
    assert_eq!(steps(&mut batch, [Event::Committed(Committed::Stored)]), ["done"]);
}

#[test]
fn what_comes_again_proves_nothing_and_the_outbox_is_sent_first() {
    for deliveries in [&[delivered(1, 2)][..], &[delivered(1, 2), delivered(2, 1)]] {
        let mut batch = marking(deliveries, 100);
        assert_eq!(steps(&mut batch, [Event::Begin, read(stands(1)), all_sent()]), ["load", "send", "enter"]);
    }
}

#[test]
fn a_nudge_is_neither_called_nor_noted_and_what_stood_is_cleared() {
    let mut proven = marking(&[nudge(2)], 100);
    assert_eq!(steps(&mut proven, [Event::Begin, read(stands(1)), Event::Finished(true)]), ["load", "finish", "done"]);
    assert_eq!(outcomes(&mut proven), [Outcome::Done]);
    let mut unmarked = marking(&[nudge(2)], 100);
    let record = Record { outbox: outbox(), ..Record::default() };
    let events = [Event::Begin, read(record), all_sent(), Event::Finished(true)];
    assert_eq!(steps(&mut unmarked, events), ["load", "send", "finish", "done"]);
    assert!(unmarked.take_kept().is_some_and(|record| record.last_seq.is_none() && record.ledger.inline.is_empty()));
    let mut nothing = marking(&[nudge(2)], 100);
    assert_eq!(steps(&mut nothing, [Event::Begin, read(Record::default())]), ["load", "done"]);
}

#[test]
fn a_nudge_reads_the_record_whatever_is_in_the_cache() {
    let mut batch = marking(&[nudge(2)], 100);
    steps(&mut batch, [Event::Begin]);
    assert!(matches!(batch.step(), Step::Load { fresh: true, .. }));
}

#[test]
fn a_nudge_waits_for_what_is_before_it() {
    let mut batch = marking(&[delivered(1, 1), nudge(2)], 100);
    let failed = Event::Handled(Handled::Failed(FunctionError::retryable("no")), None);
    steps(&mut batch, [Event::Begin, read(Record::default()), Event::Entered, failed, Event::Committed(Committed::Stored)]);
    assert!(matches!(outcomes(&mut batch)[..], [Outcome::Retry(_), Outcome::Retry(_)]));
}

/// Its second message is left for another turn, and the outbox of the first is not sent. What was acknowledged before it is gone, and what is
/// left of it comes alone: that must not pass for a later delivery.
#[test]
fn a_mark_is_above_what_is_left_half_done() {
    let mut batch = marking(&[delivered(1, 1), delivered(2, 1)], 2);
    steps(&mut batch, [Event::Begin, read(Record::default()), Event::Entered]);
    emits(&mut batch);
    steps(&mut batch, [kept(), Event::Entered]);
    emits(&mut batch);
    assert_eq!(steps(&mut batch, [kept()]), ["commit"]);
    assert_eq!(committed(&mut batch).mark, Some(mark(1)));
    let both = Event::Sent(Progress { sent: [0, 1].into(), ..Progress::default() });
    steps(&mut batch, [Event::Committed(Committed::Stored), both, Event::Entered]);
    emits(&mut batch);
    let Step::Invoke { context, .. } = batch.step() else { panic!() };
    context.egress("a/out", &"again".to_owned()).unwrap();
    assert_eq!(steps(&mut batch, [kept()]), ["commit"], "a turn that is full leaves the envelope");
    assert_eq!(committed(&mut batch).mark, Some(mark(2)));
    let none = Event::Sent(Progress { error: Some(PortErrorKind::Unavailable), ..Progress::default() });
    assert_eq!(steps(&mut batch, [Event::Committed(Committed::Stored), none]), ["send", "done"]);
    assert!(matches!(outcomes(&mut batch)[..], [Outcome::Done, Outcome::Retry(_)]));
}

/// What one invocation cannot send keeps its mark: whoever proves all of it proves the rest.
#[test]
fn progress_keeps_the_mark() {
    let mut batch = marking(&[delivered(1, 2)], 100);
    let denied = Progress { denied: true, error: Some(PortErrorKind::Refused), ..Progress::default() };
    assert_eq!(steps(&mut batch, [Event::Begin, read(stands(1)), Event::Sent(denied)]), ["load", "send", "commit"]);
    assert_eq!(committed(&mut batch).mark, Some(mark(1)));
}

#[test]
fn an_outbox_that_is_big_has_no_mark() {
    let mut batch = marking(&[delivered(1, 1)], 100);
    steps(&mut batch, [Event::Begin, read(Record::default()), Event::Entered]);
    let Step::Invoke { context, .. } = batch.step() else { panic!() };
    context.egress("a/out", &"x".repeat(crate::limits::MAX_MARKED_BYTES)).unwrap();
    steps(&mut batch, [kept(), Event::Entered, kept()]);
    assert_eq!(committed(&mut batch).mark, None);
    assert_eq!(steps(&mut batch, [Event::Committed(Committed::Stored), all_sent()]), ["send", "finish"]);
}
