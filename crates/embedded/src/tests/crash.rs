//! What a kill, a power cut or a failing disk leaves.

use std::collections::BTreeMap;

use statefun_engine::ports::{Committed, InstanceStore, PortErrorKind};

use super::*;

#[tokio::test]
async fn what_is_durable_is_there_and_the_rest_is_a_prefix() {
    let fixture = Fixture::new();
    for round in 0_u32..12 {
        let store = fixture.open();
        let start = store.waiting().messages;
        let (mut promised, to) = (start, address("a"));
        for number in 0..200 {
            let op = put(&store, &to, [u32::try_from(start).unwrap() + number]).await;
            if number % (17 + round) == 0 {
                store.durable(op).await.unwrap();
                promised = start + u64::from(number) + 1;
            }
        }
        store.abandon();
        let store = fixture.open();
        let found = store.waiting().messages;
        assert!(found >= promised && found <= start + 200, "{promised} promised, {found} found");
        assert_eq!(store.try_ready().unwrap(), Some(to.clone()));
        let received = store.receive(&to, usize::MAX, usize::MAX).unwrap();
        let numbers: Vec<_> = received.iter().map(|delivered| u64::from(number(&delivered.envelope))).collect();
        assert_eq!(numbers, (0..found).collect::<Vec<_>>());
        store.abandon();
    }
}

/// The files as they are while the store is open: what a kill leaves. The engine has to repair its file.
#[tokio::test]
async fn a_killed_process_leaves_what_was_durable() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let op = put(&store, &address("a"), 0..3_000).await;
    store.durable(op).await.unwrap();
    let copy = Fixture::new();
    for file in ["statefun.json", "data.redb"] {
        std::fs::copy(fixture.path().join(file), copy.path().join(file)).unwrap();
    }
    let store = copy.open();
    assert_eq!(store.waiting().messages, 3_000);
    let lane = store.try_ready().unwrap().unwrap();
    let received = store.receive(&lane, usize::MAX, usize::MAX).unwrap();
    assert_eq!((received.len(), received[0].receive_count), (3_000, 2));
}

/// Each commit adds one to a counter in the record and sends one message: whatever the cut, the two agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_there_whole_or_not_at_all() {
    let fixture = Fixture::with(Options { linger: Duration::ZERO, ..Options::default() });
    for _ in 0..8 {
        let store = fixture.open();
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let store = store.clone();
                tokio::spawn(async move {
                    let (own, inbox) = (address(worker), address(format!("inbox-{worker}")));
                    // A worker may come when the store is closed already.
                    let Some(Ok(found)) = store.load(&[&own]).await.pop() else { return };
                    let mut record = found.unwrap_or_default();
                    for _ in 0..50 {
                        let next = u32::try_from(record.version).unwrap();
                        let commit = commit(&own, &record, vec![Effect::Send(envelope(&inbox, next))]);
                        if store.commit(&commit).await.is_err() {
                            return;
                        }
                        *record = Record { outbox: Outbox::default(), ..commit.record };
                        if next % 7 == 0 && store.durable(store.last_op()).await.is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(3)).await;
        store.abandon();
        for worker in workers {
            worker.await.unwrap();
        }
        let store = fixture.open();
        let mut sent = BTreeMap::new();
        for worker in 0..4 {
            let version = store.record(&address(worker)).unwrap().map_or(0, |record| record.version);
            sent.insert(address(format!("inbox-{worker}")), version);
        }
        let total: u64 = sent.values().sum();
        assert_eq!(store.waiting().messages, total);
        while let Some(lane) = store.try_ready().unwrap() {
            let received = store.receive(&lane, usize::MAX, usize::MAX).unwrap();
            assert_eq!(received.len() as u64, sent[&lane]);
        }
        store.abandon();
    }
}

#[tokio::test]
async fn what_undoes_itself_never_reaches_the_disk() {
    let fixture = Fixture::with(Options { linger: Duration::from_secs(3_600), ..Options::default() });
    let store = fixture.open();
    for number in 0..100 {
        put(&store, &address("a"), [number]).await;
        run_one(&store, 9).unwrap();
    }
    assert!(!store.shared().lock_always().log.has_pending());
    store.durable(store.last_op()).await.unwrap();
    assert_eq!(store.shared().lock_always().log.flushes, 0);
}

/// The engine notes a run that may kill the process, and relies on the barrier before it begins.
#[tokio::test]
async fn what_was_written_before_a_barrier_outlives_a_power_cut() {
    let fixture = Fixture::with(Options { linger: Duration::from_secs(3_600), ..Options::default() });
    let (store, to) = (fixture.open(), address("a"));
    let mut noted = commit(&to, &Record::default(), Vec::new());
    noted.record.trials = vec![Trial { id: EnvelopeId([1; 16]), failures: 2, note: Note::Alone }];
    store.commit(&noted).await.unwrap();
    store.barrier().await.unwrap();
    store.abandon();
    let found = fixture.open().record(&to).unwrap().expect("the note is lost");
    assert_eq!((found.version, found.trials), (noted.record.version, noted.record.trials));
}

#[tokio::test]
async fn an_unclean_end_counts_as_a_delivery() {
    let fixture = Fixture::new();
    let count = |store: &Embedded| {
        let lane = store.try_ready().unwrap().unwrap();
        store.receive(&lane, 1, 1).unwrap()[0].receive_count
    };
    let store = fixture.open();
    let op = put(&store, &address("a"), [1]).await;
    store.durable(op).await.unwrap();
    assert_eq!((count(&store), store.follows_a_crash()), (1, false));
    store.abandon();
    let store = fixture.open();
    assert_eq!((count(&store), store.follows_a_crash()), (2, true));
    store.close().await.unwrap();
    let store = fixture.open();
    assert_eq!((count(&store), store.follows_a_crash()), (2, false), "a clean end does not");
    store.abandon();
    let store = fixture.open();
    let op = put(&store, &address("b"), [2]).await;
    store.durable(op).await.unwrap();
    assert_eq!(count(&store), 1, "younger than those ends");
    assert_eq!(count(&store), 3);
    drop(store);
    assert_eq!(count(&fixture.open()), 3, "found first; an orderly drop is clean too");
}

#[tokio::test]
async fn a_failing_disk_stops_everything() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let op = put(&store, &address("a"), [1]).await;
    store.durable(op).await.unwrap();
    store.fail_disk();
    let waiter = tokio::spawn({
        let store = store.clone();
        async move { (store.idle().await, store.egress_ready().await.map(drop)) }
    });
    tokio::task::yield_now().await;
    let lost = put(&store, &address("a"), [2]).await;
    let error = store.durable(lost).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Refused);
    assert!(error.source.to_string().contains("write to the state folder failed"), "{}", error.source);
    store.durable(op).await.unwrap();
    assert!(store.load(&[&address("a")]).await[0].is_err());
    assert!(store.commit(&commit(&address("a"), &Record::default(), Vec::new())).await.is_err());
    assert!(store.ready().await.is_err());
    assert!(store.ingest(Vec::new(), None, false).await.is_err());
    let (idle, egress) = waiter.await.unwrap();
    assert!(idle.is_err() && egress.is_err());
    assert!(store.close().await.is_err());
    assert_eq!(fixture.open().waiting().messages, 1);
}

#[tokio::test]
async fn after_closing_every_clone_refuses() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let clone = store.clone();
    let op = put(&store, &address("a"), [1]).await;
    store.close().await.unwrap();
    clone.durable(op).await.unwrap();
    assert!(clone.ready().await.unwrap_err().source.to_string().contains("closed"));
    let again = fixture.open();
    assert_eq!(again.commit(&commit(&address("a"), &Record::default(), Vec::new())).await.unwrap(), Committed::Settled);
}
