use statefun_engine::ports::{DueTimers, Timers};
use tokio::time::timeout;

use super::*;

fn timer(due: u64, number: u32) -> Timer {
    Timer { due: Timestamp(due), envelope: envelope(&address("a"), number) }
}

#[tokio::test]
async fn timers_fire_in_order_and_once() {
    let fixture = Fixture::new();
    let mut store = fixture.open();
    for (due, number) in [(30, 3), (10, 1), (20, 2), (20, 4)] {
        store.schedule(&timer(due, number)).await.unwrap();
    }
    store.schedule(&Timer { envelope: Envelope { hops: 9, ..envelope(&address("a"), 1) }, ..timer(10, 1) }).await.unwrap();
    assert_eq!(store.due(Timestamp(20), 2).await.unwrap(), [timer(10, 1), timer(20, 2)], "the first one stays");
    assert_eq!(store.next_due().unwrap(), Some(Timestamp(10)));
    store.close().await.unwrap();
    store = fixture.open();
    assert_eq!(store.fire_due(Timestamp(9), 10).await.unwrap(), 0);
    assert_eq!(store.fire_due(Timestamp(20), 2).await.unwrap(), 2);
    assert_eq!(store.fire_due(Timestamp(20), 2).await.unwrap(), 1);
    assert_eq!(store.fire_due(Timestamp(20), 2).await.unwrap(), 0);
    assert_eq!(run_one(&store, 9).unwrap().1, [1, 2, 4]);
    assert_eq!(store.next_due().unwrap(), Some(Timestamp(30)));
    store.remove(EnvelopeId([9; 16]), Timestamp(30)).await.unwrap();
    store.remove(timer(30, 3).envelope.id, Timestamp(30)).await.unwrap();
    assert_eq!(store.fire_due(Timestamp(99), 2).await.unwrap(), 0);
    assert_eq!(store.next_due().unwrap(), None);
}

#[tokio::test]
async fn an_earlier_timer_wakes_the_one_who_waits() {
    let fixture = Fixture::new();
    let store = fixture.open();
    assert_eq!(store.next_due().unwrap(), None);
    store.schedule(&timer(50, 1)).await.unwrap();
    timeout(Duration::from_secs(9), store.timers_changed()).await.unwrap();
    assert_eq!(store.next_due().unwrap(), Some(Timestamp(50)));
    store.schedule(&timer(60, 2)).await.unwrap();
    assert!(timeout(Duration::from_millis(5), store.timers_changed()).await.is_err(), "a later one does not");
    store.schedule(&timer(40, 3)).await.unwrap();
    timeout(Duration::from_secs(9), store.timers_changed()).await.unwrap();
    assert_eq!(store.next_due().unwrap(), Some(Timestamp(40)));
}

#[tokio::test]
async fn firing_is_one_step() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for number in 0..500 {
        store.schedule(&timer(number.into(), number)).await.unwrap();
    }
    store.durable(store.last_op()).await.unwrap();
    store.fire_due(Timestamp(99), 1_000).await.unwrap();
    let op = store.last_op();
    store.fire_due(Timestamp(199), 1_000).await.unwrap();
    store.durable(op).await.unwrap();
    store.abandon();
    let store = fixture.open();
    let fired = u32::try_from(store.waiting().messages).unwrap();
    assert!(fired == 100 || fired == 200);
    let left = store.due(Timestamp(1_000), 1_000).await.unwrap();
    assert_eq!(left, (fired..500).map(|number| timer(number.into(), number)).collect::<Vec<_>>());
}
