use statefun_engine::ports::{DeadLetters, Egress};
use tokio::time::timeout;

use super::*;
use crate::{Letter, MalformedRecord, Replayed};

fn record(egress: &str, number: u8) -> EgressRecord {
    EgressRecord { egress: TypeName::parse(egress).unwrap(), ..samples::egress(number) }
}

#[tokio::test]
async fn egress_records_leave_in_order() {
    let fixture = Fixture::with(Options { lane_envelopes: 2, ..Options::default() });
    let mut store = fixture.open();
    for number in 0..5 {
        assert!(store.emit(&[&record("x/a", number), &record("x/b", number)]).await.iter().all(Result::is_ok));
    }
    assert_eq!((store.waiting().egress, store.waiting().messages), (10, 0));
    let (a, b) = (TypeName::from_static("x/a"), TypeName::from_static("x/b"));
    assert_eq!(store.egress_ready().await.unwrap(), [a.clone(), b.clone()]);
    let ids = |store: &Embedded, max| -> Vec<_> {
        store.egress_batch(&a, max).unwrap().records.iter().map(|record| record.id.0[0]).collect()
    };
    assert_eq!(ids(&store, 3), [0, 1, 2]);
    assert!(store.egress_done(&a, 9, None).is_err());
    let op = store.egress_done(&a, 2, Some(("a.jsonl".into(), b"120".to_vec()))).unwrap();
    store.durable(op).await.unwrap();
    store.abandon();
    store = fixture.open();
    assert_eq!(store.cursor("a.jsonl").unwrap().unwrap(), b"120");
    assert_eq!(store.cursors("a.").unwrap(), [("a.jsonl".to_owned(), b"120".to_vec())]);
    assert!(store.cursors("b").unwrap().is_empty() && store.cursors("").unwrap().len() == 1);
    assert_eq!(ids(&store, 99), [2, 3, 4]);
    store.egress_done(&a, 3, None).unwrap();
    assert_eq!(store.egress_lanes(), std::slice::from_ref(&b));
    assert_eq!(store.egress_batch(&b, 99).unwrap().records.len(), 5);
    store.egress_done(&b, 5, None).unwrap();
    store.idle().await.unwrap();
    assert!(timeout(Duration::from_millis(5), store.egress_ready()).await.is_err());
    assert!(store.egress_batch(&a, 9).unwrap().records.is_empty());
}

#[tokio::test]
async fn letters_are_listed_by_time_replayed_and_removed() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for number in [3, 1, 2, 2] {
        store.park(&samples::letter(number)).await.unwrap();
    }
    let malformed = MalformedRecord::new(Timestamp(2), "orders.jsonl", "17", "not JSON", b"{", 100);
    store.park_malformed(&malformed).await.unwrap();
    store.park_malformed(&malformed).await.unwrap();
    assert_eq!(store.letter_count(), 4);
    let all = store.letters(None, 99).unwrap();
    assert_eq!(all.iter().map(|letter| letter.at().0).collect::<Vec<_>>(), [1, 2, 2, 3]);
    assert!(all.contains(&Letter::Malformed(malformed.clone())));
    let page = store.letters(None, 2).unwrap();
    assert_eq!(page, all[..2]);
    assert_eq!(store.letters(Some((page[1].at(), page[1].id())), 2).unwrap(), all[2..]);
    let id = EnvelopeId([1; 16]);
    let Replayed::Sent { id: new, .. } = store.replay(id).await.unwrap() else { panic!("not sent") };
    assert_eq!(new, EnvelopeId::of_replay(id, 0));
    assert_eq!(store.replay(id).await.unwrap(), Replayed::Unknown);
    assert_eq!(store.replay(malformed.id).await.unwrap(), Replayed::Malformed);
    let lane = store.ready().await.unwrap();
    let sent = store.receive(&lane, 1, 1).unwrap().remove(0).envelope;
    let expected = Envelope { id: new, sent_at: fixture.hand.now(), hops: 0, ..samples::letter(1).envelope };
    assert_eq!(*sent, expected);
    assert!(store.remove_letter(malformed.id).unwrap().is_some());
    assert_eq!(store.remove_letter(malformed.id).unwrap(), None);
    assert_eq!((store.letter_count(), store.letters(None, 99).unwrap().len()), (2, 2));
    assert!(matches!(store.letter(EnvelopeId([3; 16])).unwrap(), Some(Letter::Dead(_))));
}

#[tokio::test]
async fn a_refused_record_becomes_a_letter_in_one_step_and_goes_back_by_its_replay() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let (first, second) = (record("x/a", 1), record("x/a", 2));
    assert!(store.emit(&[&first, &second]).await.iter().all(Result::is_ok));
    let ids = |store: &Embedded| -> Vec<_> {
        store.egress_batch(&first.egress, 9).unwrap().records.iter().map(|record| record.id.0[0]).collect()
    };
    let refused = |record: &EgressRecord| RefusedRecord::new(record.clone(), "no".to_owned(), 5, Timestamp(3));
    assert_eq!(ids(&store), [1, 2]);
    assert!(store.egress_refused(&refused(&second)).await.is_err(), "only the first one is known to be refused");
    store.egress_refused(&refused(&first)).await.unwrap();
    assert_eq!(ids(&store), [2]);
    assert_eq!(store.letters(None, 9).unwrap(), [Letter::Refused(Box::new(refused(&first)))]);
    assert_eq!((store.letter_count(), store.waiting().egress), (1, 1));
    assert!(matches!(store.replay(first.id).await.unwrap(), Replayed::Sent { id, .. } if id == first.id));
    assert_eq!((ids(&store), store.letter_count()), (vec![2, 1], 0));
    store.egress_refused(&refused(&second)).await.unwrap();
    store.egress_refused(&refused(&first)).await.unwrap();
    assert_eq!((store.letter_count(), store.waiting().egress), (2, 0), "it may be refused again");
}
