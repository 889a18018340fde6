//! Lanes, and those who drive them.

use std::{
    sync::atomic::AtomicBool,
    task::{Context, Waker},
};

use async_trait::async_trait;
use statefun_core::{Moment, Timestamp};

use super::*;

fn waiting(group: &str, bytes: usize) -> Waiting {
    let message = Outgoing { body: "x".repeat(bytes), fifo: Some((group.to_owned(), "id".to_owned())), delay_seconds: 0 };
    Waiting { message, reply: oneshot::channel().0 }
}

/// The groups of each request, if one is made after the other.
fn batches(waiting: Vec<Waiting>) -> Vec<Vec<String>> {
    let mut lane = Lane::default();
    waiting.into_iter().for_each(|one| lane.push(one));
    let next = || {
        let (places, groups): (Vec<_>, Vec<_>) =
            lane.next_request()?.into_iter().map(|(place, one)| (place, one.message.fifo)).unzip();
        lane.requested(places);
        Some(groups.into_iter().flatten().map(|(group, _)| group).collect())
    };
    std::iter::from_fn(next).collect()
}

/// A clock that does not let anybody wait, and requests that are answered once the gate is open.
#[derive(Default)]
struct Gate {
    open: AtomicBool,
    asked: Mutex<Vec<Vec<String>>>,
    slept: AtomicUsize,
}

#[async_trait]
impl Clock for Gate {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO
    }

    fn moment(&self) -> Moment {
        Moment::default()
    }

    async fn sleep_until(&self, _: Moment) {
        self.slept.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Requests for Gate {
    async fn send(&self, _: &str, messages: Vec<Outgoing>) -> Vec<Result<(), PortError>> {
        let results = messages.iter().map(|_| Ok(())).collect();
        self.asked.lock().unwrap().push(messages.into_iter().map(|message| message.body).collect());
        poll_fn(|_| if self.open.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }).await;
        results
    }
}

fn gated() -> (Arc<Gate>, Batcher) {
    let gate = Arc::<Gate>::default();
    (gate.clone(), Batcher::new(gate.clone(), gate, InFlight::default()))
}

async fn sends(batcher: Batcher, body: &str) -> Result<(), PortError> {
    batcher.send(&"queue".into(), Outgoing::json(body.to_owned(), body.to_owned(), body.to_owned())).await
}

#[test]
fn whoever_gives_up_does_not_keep_the_others_from_their_answers() {
    let ((gate, batcher), mut context) = (gated(), Context::from_waker(Waker::noop()));
    let (mut first, mut second) = (Box::pin(sends(batcher.clone(), "a")), Box::pin(sends(batcher.clone(), "b")));
    assert!(first.as_mut().poll(&mut context).is_pending() && first.as_mut().poll(&mut context).is_pending());
    assert!(second.as_mut().poll(&mut context).is_pending());
    assert_eq!(*gate.asked.lock().unwrap(), [["a"]], "its request is on its way");
    drop(first);
    gate.open.store(true, Ordering::Relaxed);
    assert!(matches!(second.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
    assert_eq!(*gate.asked.lock().unwrap(), [["a"], ["b"]]);
    assert!(batcher.lock()["queue"].driver().is_none(), "nobody drives a queue that nothing waits for");
}

/// Nobody else is about to commit: nothing is waited for.
#[test]
fn those_who_send_at_once_share_a_request_without_waiting() {
    let ((gate, batcher), mut context) = (gated(), Context::from_waker(Waker::noop()));
    gate.open.store(true, Ordering::Relaxed);
    let all = join_all(["a", "b", "c"].map(|body| sends(batcher.clone(), body)));
    let mut all = Box::pin(all);
    assert!(all.as_mut().poll(&mut context).is_pending());
    assert!(matches!(all.as_mut().poll(&mut context), Poll::Ready(_)));
    assert_eq!(*gate.asked.lock().unwrap(), [["a", "b", "c"]]);
    assert_eq!(gate.slept.load(Ordering::Relaxed), 0);
}

#[test]
fn what_is_sent_waits_for_commits_on_their_way() {
    let gate = Arc::<Gate>::default();
    let in_flight = InFlight::default();
    let (batcher, mut context) =
        (Batcher::new(gate.clone(), gate.clone(), in_flight.clone()), Context::from_waker(Waker::noop()));
    gate.open.store(true, Ordering::Relaxed);
    let write = in_flight.begin();
    let mut sending = Box::pin(sends(batcher, "a"));
    assert!(sending.as_mut().poll(&mut context).is_pending());
    assert!(matches!(sending.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
    assert_eq!(gate.slept.load(Ordering::Relaxed), MAX_STEPS as usize, "and no longer");
    drop(write);
}

#[test]
fn after_all_have_given_up_the_next_one_begins_anew() {
    let ((gate, batcher), mut context) = (gated(), Context::from_waker(Waker::noop()));
    let (mut first, mut second) = (Box::pin(sends(batcher.clone(), "a")), Box::pin(sends(batcher.clone(), "b")));
    assert!(first.as_mut().poll(&mut context).is_pending() && first.as_mut().poll(&mut context).is_pending());
    assert!(second.as_mut().poll(&mut context).is_pending());
    drop((first, second));
    gate.open.store(true, Ordering::Relaxed);
    let mut third = Box::pin(sends(batcher, "a"));
    assert!(third.as_mut().poll(&mut context).is_pending());
    assert!(matches!(third.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
    assert_eq!(*gate.asked.lock().unwrap(), [["a"], ["a"]], "what nobody waits for any more is not sent");
}

#[test]
fn messages_for_several_queues_have_their_answers_in_order() {
    let ((gate, batcher), mut context) = (gated(), Context::from_waker(Waker::noop()));
    gate.open.store(true, Ordering::Relaxed);
    let message = |queue: &str, body: &str| (queue.into(), Outgoing::json(body.to_owned(), body.to_owned(), body.to_owned()));
    let all = vec![message("one", "a"), message("two", "b"), message("one", "a"), message("one", "c")];
    let mut sending = Box::pin(batcher.send_all(all));
    assert!(sending.as_mut().poll(&mut context).is_pending());
    let Poll::Ready(results) = sending.as_mut().poll(&mut context) else { panic!() };
    assert!(results.len() == 4 && results.iter().all(Result::is_ok));
    let mut asked = gate.asked.lock().unwrap().clone();
    asked.sort();
    assert_eq!(asked, [vec!["a"], vec!["a", "c"], vec!["b"]]);
}

#[test]
fn a_group_is_once_in_a_request_and_in_order() {
    let of = |groups: &str| groups.chars().map(|group| waiting(&group.to_string(), 1)).collect();
    assert_eq!(batches(of("aabca")), [vec!["a", "b", "c"], vec!["a"], vec!["a"]]);
    assert_eq!(batches(of("abcdefghijkl")).iter().map(Vec::len).collect::<Vec<_>>(), [10, 2]);
    assert!(batches(Vec::new()).is_empty());
}

#[test]
fn of_a_group_one_message_is_on_its_way() {
    let mut lane = Lane::default();
    [waiting("a", 1), waiting("a", 1), waiting("b", 1)].into_iter().for_each(|one| lane.push(one));
    let places =
        |request: Option<Vec<(usize, Waiting)>>| request.unwrap_or_default().iter().map(|(place, _)| *place).collect::<Vec<_>>();
    assert_eq!((places(lane.next_request()), places(lane.next_request())), (vec![0, 2], vec![]));
    lane.requested([2]);
    assert!(places(lane.next_request()).is_empty());
    lane.requested([0]);
    assert_eq!(places(lane.next_request()), [1]);
}

#[test]
fn a_request_holds_a_mebibyte() {
    let half = MAX_BYTES / 2;
    assert_eq!(batches(vec![waiting("a", half), waiting("b", half), waiting("c", 1)]), [vec!["a", "b"], vec!["c"]]);
    assert_eq!(batches(vec![waiting("a", MAX_BYTES), waiting("b", MAX_BYTES)]), [["a"], ["b"]]);
}
