use statefun_engine::ports::{EnvelopeQueue, QueueConsumer};
use tokio::time::timeout;

use super::*;

#[tokio::test]
async fn envelopes_come_in_order_and_lanes_take_turns() {
    let fixture = Fixture::new();
    let store = fixture.open();
    put(&store, &address("a"), 1..=4).await;
    put(&store, &address("b"), 5..=5).await;
    let order: Vec<_> = std::iter::from_fn(|| run_one(&store, 2)).collect();
    assert_eq!(order, [(address("a"), vec![1, 2]), (address("b"), vec![5]), (address("a"), vec![3, 4])]);
    assert_eq!(store.waiting(), crate::Waiting::default());
}

#[tokio::test]
async fn what_is_not_settled_comes_again_and_counts() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let address = address("a");
    put(&store, &address, 1..=3).await;
    let taken = store.ready().await.unwrap();
    let first = store.receive(&taken, 2, usize::MAX).unwrap();
    store.settle(&taken, &[first[0].seq.seq], Some(Duration::from_secs(10))).unwrap();
    assert_eq!(store.try_ready().unwrap(), None);
    assert_eq!(store.next_wakeup(), Some(fixture.hand.moment().plus(Duration::from_secs(10))));
    fixture.hand.advance(Duration::from_secs(10));
    let taken = store.ready().await.unwrap();
    let again = store.receive(&taken, 9, usize::MAX).unwrap();
    let seen: Vec<_> = again.iter().map(|delivered| (number(&delivered.envelope), delivered.receive_count)).collect();
    assert_eq!(seen, [(2, 2), (3, 1)]);
    assert!(again[0].seq.seq == first[1].seq.seq && first[0].seq.seq < first[1].seq.seq);
}

#[tokio::test]
async fn settling_is_checked() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let address = address("a");
    put(&store, &address, 1..=3).await;
    assert!(store.receive(&address, 1, 1).is_err());
    assert!(store.settle(&address, &[], None).is_err());
    store.ready().await.unwrap();
    let received = store.receive(&address, 9, usize::MAX).unwrap();
    assert!(store.settle(&address, &[received[1].seq.seq], None).is_err(), "not the first");
    assert!(store.settle(&address, &[0; 9], None).is_err());
    store.settle(&address, &[received[0].seq.seq], None).unwrap();
    assert_eq!(store.waiting().messages, 2);
}

#[tokio::test]
async fn bytes_limit_a_batch_but_never_to_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    put(&store, &address("a"), 1..=3).await;
    let taken = store.ready().await.unwrap();
    assert_eq!(store.receive(&taken, 9, 1).unwrap().len(), 1);
}

#[tokio::test]
async fn ready_waits_for_envelopes_and_for_delays() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let waiter = tokio::spawn({
        let store = store.clone();
        async move { store.ready().await.unwrap() }
    });
    tokio::task::yield_now().await;
    put(&store, &address("a"), 1..=1).await;
    let taken = timeout(Duration::from_secs(9), waiter).await.unwrap().unwrap();
    store.settle(&taken, &[], Some(Duration::from_millis(20))).unwrap();
    let hand = fixture.hand.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        hand.advance(Duration::from_millis(20));
    });
    assert_eq!(timeout(Duration::from_secs(9), store.ready()).await.unwrap().unwrap(), address("a"));
}

#[tokio::test]
async fn a_cancelled_wait_takes_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    assert!(timeout(Duration::from_millis(5), store.ready()).await.is_err());
    put(&store, &address("a"), 1..=1).await;
    assert_eq!(timeout(Duration::from_secs(9), store.ready()).await.unwrap().unwrap(), address("a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_workers_share_the_lanes() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Ok(Ok(address)) = timeout(Duration::from_millis(300), store.ready()).await {
                    let received = store.receive(&address, 3, usize::MAX).unwrap();
                    seen.extend(received.iter().map(|delivered| number(&delivered.envelope)));
                    let done: Vec<_> = received.iter().map(|delivered| delivered.seq.seq).collect();
                    store.settle(&address, &done, None).unwrap();
                }
                seen
            })
        })
        .collect();
    for number in 0..2_000 {
        put(&store, &address(number % 37), [number]).await;
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (0..2_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_port_refuses_second_copies_for_a_while() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let to = address("a");
    let first = envelope(&to, 1);
    for _ in 0..2 {
        assert!(store.send(&[&first]).await[0].is_ok());
    }
    assert_eq!(store.waiting().messages, 1);
    fixture.hand.advance(Duration::from_secs(299));
    assert!(store.send(&[&first, &envelope(&address("b"), 2)]).await.iter().all(Result::is_ok));
    assert_eq!(store.waiting().messages, 2);
    fixture.hand.advance(Duration::from_secs(1));
    store.send(&[&first]).await;
    assert_eq!(store.waiting().messages, 3, "the window is over");
    assert_eq!(store.sweep(fixture.hand.now(), 99).unwrap(), 0, "what expired was renewed");
    fixture.hand.advance(Duration::from_secs(301));
    assert_eq!(store.sweep(fixture.hand.now(), 99).unwrap(), 2);
}

#[tokio::test]
async fn the_consumer_acknowledges_and_gives_back() {
    let fixture = Fixture::new();
    let store = fixture.open();
    put(&store, &address("a"), 1..=3).await;
    put(&store, &address("b"), 4..=4).await;
    let batch = QueueConsumer::receive(&store, 9).await.unwrap();
    let numbers = |batch: &[statefun_engine::ports::Delivery]| -> Vec<_> {
        batch.iter().map(|delivery| (number(&delivery.delivered.envelope), delivery.delivered.receive_count)).collect()
    };
    assert_eq!(numbers(&batch), [(1, 1), (2, 1), (3, 1), (4, 1)]);
    put(&store, &address("a"), 5..=5).await;
    assert!(QueueConsumer::receive(&store, 9).await.unwrap().is_empty(), "nothing of a group that is out");
    store.acknowledge(&batch[0].receipt).await.unwrap();
    store.give_back(&batch[1].receipt, Duration::from_secs(1)).await.unwrap();
    store.give_back(&batch[2].receipt, Duration::ZERO).await.unwrap();
    assert!(QueueConsumer::receive(&store, 9).await.unwrap().is_empty());
    fixture.hand.advance(Duration::from_secs(1));
    let again = QueueConsumer::receive(&store, 9).await.unwrap();
    assert_eq!(numbers(&again), [(2, 2), (3, 2), (5, 1)]);
    store.acknowledge(&batch[1].receipt).await.unwrap();
    assert_eq!(store.waiting().messages, 4, "that delivery is over");
    for delivery in again.iter().chain(&batch[3..]) {
        store.acknowledge(&delivery.receipt).await.unwrap();
    }
    assert_eq!(store.waiting(), crate::Waiting::default());
}

/// A pause is about time that passes: whoever sets the wall clock makes it no longer and no shorter.
#[tokio::test]
async fn a_retry_pause_is_as_long_however_the_wall_clock_is_set() {
    const PAUSE: Duration = Duration::from_millis(200);
    let fixture = Fixture::new();
    let (store, hand) = (fixture.open(), &fixture.hand);
    put(&store, &address("a"), 1..=1).await;
    let hour = Duration::from_secs(3_600);
    for set in [Timestamp::minus, Timestamp::plus] {
        let taken = store.ready().await.unwrap();
        store.settle(&taken, &[], Some(PAUSE)).unwrap();
        hand.set(set(hand.now(), hour));
        assert_eq!(store.try_ready().unwrap(), None, "too early");
        hand.advance(PAUSE);
        timeout(Duration::from_secs(9), async {
            let again = store.ready().await.unwrap();
            store.settle(&again, &[], None).unwrap();
        })
        .await
        .expect("the address stands although its pause is over");
        // The consumer's port counts its pauses in the same way.
        let delivery = QueueConsumer::receive(&store, 1).await.unwrap().remove(0);
        store.give_back(&delivery.receipt, PAUSE).await.unwrap();
        hand.set(set(hand.now(), hour));
        assert!(QueueConsumer::receive(&store, 1).await.unwrap().is_empty());
        hand.advance(PAUSE);
        let delivery = QueueConsumer::receive(&store, 1).await.unwrap().remove(0);
        store.give_back(&delivery.receipt, Duration::ZERO).await.unwrap();
    }
}
