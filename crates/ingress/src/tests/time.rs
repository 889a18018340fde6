//! What is done of a batch when the time is too short for it.

use super::*;

#[test]
fn what_a_slow_queue_took_in_time_is_done() {
    let model = Model::slow(Some(10));
    let batch: Vec<_> = (0..1_800).map(|number| record(number, None, &format!("{number}"))).collect();
    let outcomes = dispatch_until(&dispatcher(&model), batch.into_iter().map(Arrival::Record).collect(), START.plus(SLOW_CALLS));
    assert_eq!(*model.calls.lock().unwrap(), [500, 500], "of four calls two have time");
    assert!(outcomes[..1_000].iter().all(|outcome| *outcome == Outcome::Done));
    assert!(outcomes[1_000..].iter().all(|outcome| outcome.is_failed()));
}

/// Time for two calls of 10 milliseconds, but not for a third.
const SLOW_CALLS: Duration = Duration::from_millis(15);

#[test]
fn a_call_that_never_ends_does_not_take_the_answer_along() {
    let model = Model::slow(None);
    let batch = ["a", "!", "", "b"].into_iter().enumerate().map(|(number, body)| Arrival::Record(record(number, None, body)));
    let outcomes = dispatch_until(&dispatcher(&model), batch.collect(), START.plus(SLOW_CALLS));
    assert_eq!(outcomes, [Outcome::Failed, Outcome::Failed, Outcome::Done, Outcome::Failed]);
    // Without any time nothing is even tried.
    assert!(dispatch_until(&dispatcher(&model), vec![Arrival::Record(record(0, None, "a"))], START)[0].is_failed());
    assert_eq!(model.calls.lock().unwrap().len(), 1);
}

#[test]
fn malformed_records_are_parked_side_by_side_while_there_is_time() {
    let model = Model::slow(Some(1));
    let batch = || (0..200).map(|number| Arrival::Record(record(number, None, "!"))).collect();
    assert_eq!(dispatch_until(&dispatcher(&model), batch(), NEVER), [Outcome::Parked; 200]);
    assert_eq!(model.parking.lock().unwrap().1, 32);
    let model = Model::slow(Some(1));
    let outcomes = dispatch_until(&dispatcher(&model), batch(), START.plus(Duration::from_millis(100)));
    let parked = outcomes.iter().filter(|outcome| **outcome == Outcome::Parked).count();
    assert!((100..140).contains(&parked) && outcomes[199].is_failed(), "{parked}");
}
