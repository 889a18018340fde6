use statefun_core::{Lease, Owner};
use statefun_engine::ports::{Committed, InstanceStore, Leased, Leasing};

use super::*;

async fn load(store: &Embedded, address: &Address) -> Option<Record> {
    store.load(&[address]).await.pop().unwrap().unwrap().map(|record| *record)
}

fn new(hand: &Hand) -> Record {
    Record::new(hand.now())
}

#[tokio::test]
async fn a_lease_ends_with_the_process_that_took_it() {
    let fixture = Fixture::new();
    let (store, hand) = (fixture.open(), &fixture.hand);
    let address = address(1);
    let lease = Lease { owner: Owner(5), until: hand.now().plus(Duration::from_secs(60)) };
    let leasing = Leasing { expect: 0, makes: 7, born: hand.now(), lease };
    assert_eq!(store.lease(&address, &leasing).await.unwrap(), Leased::Taken);
    let leased = load(&store, &address).await.unwrap();
    assert_eq!((leased.version, leased.lease), (7, Some(lease)));
    store.close().await.unwrap();
    let store = fixture.open();
    assert_eq!(load(&store, &address).await.unwrap(), Record { lease: None, ..leased });
}

#[tokio::test]
async fn a_commit_is_conditional_on_the_version() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let address = address(1);
    assert_eq!(load(&store, &address).await, None);
    let first = commit(&address, &new(&fixture.hand), Vec::new());
    assert_eq!(store.commit(&first).await.unwrap(), Committed::Settled);
    assert_eq!(store.commit(&first).await.unwrap(), Committed::Fenced);
    let next = load(&store, &address).await.unwrap();
    assert_eq!(next.version, fixture.hand.now().0);
    let stale = Record { version: next.version - 1, ..next.clone() };
    assert_eq!(store.commit(&commit(&address, &stale, Vec::new())).await.unwrap(), Committed::Fenced);
    let unknown = commit(&super::address("unknown"), &next, Vec::new());
    assert_eq!(store.commit(&unknown).await.unwrap(), Committed::Fenced);
    // The same from disk, with nothing remembered.
    store.close().await.unwrap();
    let store = fixture.open();
    assert_eq!(store.commit(&commit(&address, &stale, Vec::new())).await.unwrap(), Committed::Fenced);
    assert_eq!(store.commit(&commit(&address, &next, Vec::new())).await.unwrap(), Committed::Settled);
}

#[tokio::test]
async fn a_settled_commit_hands_everything_over() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let address = address(1);
    let record = new(&fixture.hand);
    let effects = samples::record(5).outbox;
    let sample = samples::record(5);
    let full = Record { state: sample.state.clone(), outbox: effects, ..record.clone() };
    let mut commit = commit(&address, &record, Vec::new());
    commit.record = Record { version: record.next_version(), ..full };
    assert_eq!(store.commit(&commit).await.unwrap(), Committed::Settled);
    let stored = store.record(&address).unwrap().unwrap();
    assert_eq!(stored, Record { outbox: Outbox::default(), ..commit.record });
    let waiting = store.waiting();
    assert_eq!((waiting.messages, waiting.egress, store.letter_count()), (1, 1, 1));
    assert_eq!(store.next_due().unwrap(), Some(Timestamp(1)));
    let lane = store.try_ready().unwrap().unwrap();
    assert_eq!(*store.receive(&lane, 9, 9).unwrap()[0].envelope, samples::envelope(0));
}

#[tokio::test]
async fn a_commit_cancels_timers() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let address = address(1);
    let record = new(&fixture.hand);
    let timer = Timer { due: Timestamp(5), envelope: envelope(&address, 1) };
    let schedule = commit(&address, &record, vec![Effect::Schedule(timer.clone())]);
    store.commit(&schedule).await.unwrap();
    assert_eq!(store.next_due().unwrap(), Some(Timestamp(5)));
    let cancel = vec![Effect::Cancel { timer: timer.envelope.id, due: timer.due }];
    store.commit(&commit(&address, &schedule.record, cancel)).await.unwrap();
    assert_eq!(store.fire_due(Timestamp(9), 10).await.unwrap(), 0);
    assert_eq!(store.next_due().unwrap(), None);
}

#[tokio::test]
async fn without_settling_the_outbox_is_stored() {
    let fixture = Fixture::with(Options { settle: false, ..Options::default() });
    let store = fixture.open();
    let address = address(1);
    let record = new(&fixture.hand);
    let commit = commit(&address, &record, vec![Effect::Send(envelope(&address, 1))]);
    assert_eq!(store.commit(&commit).await.unwrap(), Committed::Stored);
    assert_eq!(store.waiting().messages, 0);
    assert_eq!(store.record(&address).unwrap().unwrap(), commit.record);
    assert!(!store.finish(&address, record.version).await.unwrap());
    assert!(store.finish(&address, commit.record.version).await.unwrap());
    let finished = Record { version: commit.record.version + 1, outbox: Outbox::default(), ..commit.record };
    assert_eq!(store.record(&address).unwrap().unwrap(), finished);
    assert!(!store.finish(&super::address("unknown"), record.version).await.unwrap());
}

#[tokio::test]
async fn spilled_ids_are_found_from_a_moment_on_until_they_are_swept() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let address = address(1);
    let mut record = new(&fixture.hand);
    let id = |number: u8| EnvelopeId([number; 16]);
    for number in 0..3 {
        let newest = Timestamp(100 + u64::from(number));
        let segment = Segment {
            number: number.into(),
            ids: vec![Spilled { id: id(number), expires: newest }],
            newest,
            expires: newest,
            fresh: false,
        };
        let commit = Commit { segment: Some(segment), ..commit(&address, &record, Vec::new()) };
        store.commit(&commit).await.unwrap();
        record = commit.record;
    }
    let all = [id(0), id(1), id(2), id(3)];
    assert_eq!(store.spilled(&address, &all, Timestamp::ZERO).await.unwrap(), [id(0), id(1), id(2)]);
    assert_eq!(store.spilled(&address, &all, Timestamp(101)).await.unwrap(), [id(1), id(2)]);
    assert_eq!(store.spilled(&super::address(2), &all, Timestamp::ZERO).await.unwrap(), []);
    assert_eq!(store.sweep(Timestamp(102), 1).unwrap(), 1);
    assert_eq!(store.sweep(Timestamp(102), 9).unwrap(), 1);
    assert_eq!(store.sweep(Timestamp(102), 9).unwrap(), 0);
    assert_eq!(store.spilled(&address, &all, Timestamp::ZERO).await.unwrap(), [id(2)]);
}

#[tokio::test]
async fn instances_are_listed_in_the_order_of_their_ids() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for number in 0..600 {
        for address in [address(format!("{number:03}")), Address::parse(&format!("example/greeter2/{number}")).unwrap()] {
            store.commit(&commit(&address, &new(&fixture.hand), Vec::new())).await.unwrap();
        }
        if number == 300 {
            store.durable(store.last_op()).await.unwrap();
        }
    }
    let function = TypeName::from_static("example/greeter");
    let ids: Vec<_> = store.instances(&function, None).map(|row| row.unwrap().0.id().to_owned()).collect();
    assert_eq!(ids, (0..600).map(|number| format!("{number:03}")).collect::<Vec<_>>());
    assert_eq!(store.instances(&function, Some("597")).count(), 2);
    assert_eq!(store.functions().unwrap(), [function, TypeName::from_static("example/greeter2")]);
}
