//! However much waits, memory is bounded and order is kept.

use std::collections::BTreeMap;

use super::*;

fn small() -> Options {
    Options { max_lanes: 50, lane_envelopes: 4, lane_bytes: 20_000, ..Options::default() }
}

fn held(store: &Embedded) -> (usize, usize) {
    let state = store.shared().lock_always();
    (state.lanes.len(), state.lanes.held_bytes)
}

/// Runs all that waits, and checks that each lane is in order.
fn drain(store: &Embedded, batch: usize) -> BTreeMap<Address, u32> {
    let mut counts = BTreeMap::new();
    while let Some((address, numbers)) = run_one(store, batch) {
        let next = counts.entry(address).or_default();
        for number in numbers {
            assert_eq!(number, *next);
            *next += 1;
        }
        let (lanes, bytes) = held(store);
        assert!(lanes <= 50 && bytes <= 20_000 + batch * 1_000, "{lanes} lanes, {bytes} bytes");
    }
    counts
}

#[tokio::test]
async fn many_addresses() {
    let fixture = Fixture::with(small());
    let store = fixture.open();
    for round in 0..2 {
        for first in (0..5_000).step_by(500) {
            let envelopes = (first..first + 500).map(|to| envelope(&address(to), round)).collect();
            store.ingest(envelopes, None, false).await.unwrap();
        }
    }
    assert_eq!(held(&store).0, 50);
    let counts = drain(&store, 2);
    assert_eq!(counts.len(), 5_000);
    assert!(counts.values().all(|count| *count == 2));
    assert_eq!(held(&store), (0, 0));
}

#[tokio::test]
async fn one_address_and_a_restart() {
    let fixture = Fixture::with(small());
    let mut store = fixture.open();
    for first in (0..100_000).step_by(1_000) {
        put(&store, &address("hot"), first..first + 1_000).await;
    }
    for number in 0..20_000 / 50 {
        let (_, numbers) = run_one(&store, 50).unwrap();
        assert_eq!(numbers, (number * 50..number * 50 + 50).collect::<Vec<_>>());
    }
    store.close().await.unwrap();
    store = fixture.open();
    assert_eq!(store.waiting().messages, 80_000);
    put(&store, &address("hot"), 100_000..100_010).await;
    let mut next = 20_000;
    while let Some((_, numbers)) = run_one(&store, 100) {
        for number in numbers {
            assert_eq!(number, next);
            next += 1;
        }
    }
    assert_eq!(next, 100_010);
    assert_eq!((held(&store), store.waiting()), ((0, 0), crate::Waiting::default()));
}

#[tokio::test]
async fn a_hot_lane_does_not_starve_those_on_disk() {
    let fixture = Fixture::with(small());
    let store = fixture.open();
    put(&store, &address("hot"), 0..20_000).await;
    for to in 0..500 {
        put(&store, &address(to), [0]).await;
    }
    let mut cold = 0;
    for _ in 0..2_000 {
        cold += usize::from(run_one(&store, 1).is_some_and(|(address, _)| address.id() != "hot"));
    }
    assert_eq!(cold, 500);
}

#[tokio::test]
async fn appended_while_it_is_read() {
    let fixture = Fixture::with(small());
    let store = fixture.open();
    let (mut sent, mut seen) = (BTreeMap::new(), BTreeMap::new());
    for step in 0_u32..4_000 {
        let to = address(step.wrapping_mul(2_654_435_761) % 97);
        let next = sent.entry(to.clone()).or_insert(0_u32);
        put(&store, &to, *next..*next + 3).await;
        *next += 3;
        for _ in 0..2 {
            let Some((address, numbers)) = run_one(&store, 2) else { continue };
            for number in numbers {
                let next = seen.entry(address.clone()).or_insert(0);
                assert_eq!(number, *next);
                *next += 1;
            }
        }
    }
    while let Some((address, numbers)) = run_one(&store, 7) {
        for number in numbers {
            let next = seen.entry(address.clone()).or_insert(0);
            assert_eq!(number, *next);
            *next += 1;
        }
    }
    assert_eq!(sent, seen);
}
