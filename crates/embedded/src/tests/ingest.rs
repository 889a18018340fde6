use tokio::time::timeout;

use statefun_engine::ports::EnvelopeQueue;

use super::*;
use crate::Repeats;

#[tokio::test]
async fn envelopes_and_cursor_are_one_step() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let cursor = |text: &str| Some(("orders.jsonl".to_owned(), text.as_bytes().to_vec()));
    let envelopes = vec![envelope(&address("a"), 1), envelope(&address("b"), 2)];
    let ingested = store.ingest(envelopes, cursor("17"), false).await.unwrap();
    assert_eq!(ingested.accepted, [true, true]);
    store.durable(ingested.op).await.unwrap();
    store.abandon();
    let store = fixture.open();
    assert_eq!(store.cursor("orders.jsonl").unwrap().unwrap(), b"17");
    assert_eq!(store.cursor("other").unwrap(), None);
    assert_eq!(store.waiting().messages, 2);
}

#[tokio::test]
async fn with_dedup_an_id_is_taken_once() {
    let fixture = Fixture::new();
    let mut store = fixture.open();
    let both = |a, b| vec![envelope(&address("a"), a), envelope(&address("b"), b)];
    assert_eq!(store.ingest(both(1, 1), None, true).await.unwrap().accepted, [true, false]);
    assert_eq!(store.ingest(both(1, 2), None, true).await.unwrap().accepted, [false, true]);
    store.close().await.unwrap();
    store = fixture.open();
    fixture.hand.advance(Duration::from_secs(20 * 86_400));
    assert_eq!(store.ingest(both(1, 3), None, true).await.unwrap().accepted, [false, true]);
    assert_eq!(store.ingest(both(1, 3), None, false).await.unwrap().accepted, [true, true]);
    fixture.hand.advance(Duration::from_secs(2 * 86_400));
    assert_eq!(store.sweep(fixture.hand.now(), 100).unwrap(), 2);
    assert_eq!(store.ingest(both(1, 3), None, true).await.unwrap().accepted, [true, false]);
}

#[tokio::test]
async fn an_id_stands_for_one_content_where_that_is_asked_for() {
    let fixture = Fixture::new();
    let mut store = fixture.open();
    let of = |number: u32, content: &'static str| {
        let messages = vec![TypedValue::present(TypeName::from_static("a/b"), content)];
        Envelope { messages, ..envelope(&address("a"), number) }
    };
    let ingest = async |store: &Embedded, envelopes, repeats| store.ingest_with(envelopes, None, repeats).await.unwrap();
    assert!(ingest(&store, vec![of(1, "x"), of(1, "y")], Repeats::DropIfSame).await.differs, "twice in one call");
    assert_eq!(ingest(&store, vec![of(1, "x"), of(1, "x")], Repeats::DropIfSame).await.accepted, [true, false]);
    for reopen in [false, true] {
        if reopen {
            store.close().await.unwrap();
            store = fixture.open();
        }
        let refused = ingest(&store, vec![of(2, "new"), of(1, "y")], Repeats::DropIfSame).await;
        assert!(refused.differs && refused.accepted.is_empty() && store.waiting().messages == 1, "all or none");
        assert_eq!(ingest(&store, vec![of(1, "x")], Repeats::DropIfSame).await.accepted, [false]);
        assert_eq!(ingest(&store, vec![of(1, "y")], Repeats::Drop).await.accepted, [false], "the first one counts");
    }
    // What came in before there were fingerprints, or by the queue, may be the same.
    store.send(&[&of(3, "x")]).await.pop().unwrap().unwrap();
    assert_eq!(ingest(&store, vec![of(3, "y")], Repeats::DropIfSame).await.accepted, [false]);
    fixture.hand.advance(Duration::from_secs(22 * 86_400));
    assert_eq!(ingest(&store, vec![of(1, "y")], Repeats::DropIfSame).await.accepted, [true], "the key may be used again");
}

#[tokio::test]
async fn those_who_wait_for_room_and_rest_are_woken() {
    let fixture = Fixture::new();
    let store = fixture.open();
    put(&store, &address("a"), 0..10).await;
    store.waiting_below(11).await.unwrap();
    let below = tokio::spawn({
        let store = store.clone();
        async move { store.waiting_below(6).await.unwrap() }
    });
    let idle = tokio::spawn({
        let store = store.clone();
        async move { store.idle().await.unwrap() }
    });
    tokio::task::yield_now().await;
    run_one(&store, 4);
    tokio::task::yield_now().await;
    assert!(!below.is_finished());
    run_one(&store, 1);
    timeout(Duration::from_secs(9), below).await.unwrap().unwrap();
    let taken = store.ready().await.unwrap();
    let rest: Vec<_> = store.receive(&taken, 9, usize::MAX).unwrap().iter().map(|delivered| delivered.seq.seq).collect();
    assert_eq!((rest.len(), store.waiting().running), (5, 1));
    assert!(!idle.is_finished());
    store.settle(&taken, &rest, None).unwrap();
    timeout(Duration::from_secs(9), idle).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_wait_when_too_much_is_pending() {
    let fixture = Fixture::with(Options { pending_bytes: 20_000, ..Options::default() });
    let store = fixture.open();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..200 {
                    put(&store, &address(writer), [number]).await;
                    assert!(store.shared().lock_always().log.pending_bytes() < 40_000);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(store.waiting().messages, 1_600);
}
