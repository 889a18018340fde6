//! The dispatcher against a model of queues that fail: order per key, nothing lost, nothing doubled.

mod packed;
mod time;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use proptest::prelude::*;
use statefun_core::{Address, Envelope, EnvelopeId, Safeguards, Targets, Timestamp, TypeName};
use statefun_engine::ports::{Clock, EnvelopeQueue, Moment, PortError, PortErrorKind};

use crate::{
    Arrival, Dispatcher, IngressRecord, MalformedRecord, MalformedSink, Outcome, RouteError, Routed, kinesis_failures,
    sqs_failures,
};

const NOW: Timestamp = Timestamp(9);
const START: Moment = Moment::after_start(Duration::ZERO);
const NEVER: Moment = Moment::after_start(Duration::MAX);

/// What becomes of a call: nothing, nothing but it says so, or it is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Taken,
    Lost,
    TakenButFailed,
}

/// Queues, dead letters, and how often they are to fail.
#[derive(Default)]
struct Model {
    fates: Mutex<VecDeque<Fate>>,
    accepted: Mutex<Vec<Envelope>>,
    calls: Mutex<Vec<usize>>,
    parked: Mutex<BTreeMap<EnvelopeId, MalformedRecord>>,
    /// Milliseconds since [`NOW`], and how many each call takes; none for one that never ends.
    passed: AtomicU64,
    call_takes: Option<u64>,
    /// Letters on their way, and how many at the same time there were.
    parking: Mutex<(usize, usize)>,
}

impl Model {
    fn slow(call_takes: Option<u64>) -> Arc<Self> {
        Arc::new(Self { call_takes, ..Self::default() })
    }

    async fn take_time(&self) {
        match self.call_takes {
            Some(time) => drop(self.passed.fetch_add(time, Ordering::SeqCst)),
            None => std::future::pending().await,
        }
    }

    fn fate(&self) -> Fate {
        self.fates.lock().unwrap().pop_front().unwrap_or(Fate::Taken)
    }
}

fn failure() -> PortError {
    PortError::new("send", PortErrorKind::Unavailable, "injected")
}

#[async_trait]
impl EnvelopeQueue for Model {
    async fn send(&self, envelopes: &[&Envelope]) -> Vec<Result<(), PortError>> {
        let addresses: HashSet<_> = envelopes.iter().map(|envelope| &envelope.to).collect();
        assert_eq!(addresses.len(), envelopes.len(), "at most one envelope per address in a call");
        self.calls.lock().unwrap().push(envelopes.len());
        self.take_time().await;
        let send = |envelope: &&Envelope| {
            let fate = self.fate();
            if fate != Fate::Lost {
                self.accepted.lock().unwrap().push((*envelope).clone());
            }
            if fate == Fate::Taken { Ok(()) } else { Err(failure()) }
        };
        envelopes.iter().map(send).collect()
    }
}

#[async_trait]
impl MalformedSink for Model {
    async fn park(&self, record: &MalformedRecord) -> Result<(), PortError> {
        let fate = self.fate();
        {
            let mut parking = self.parking.lock().unwrap();
            parking.0 += 1;
            parking.1 = parking.1.max(parking.0);
        }
        tokio::task::yield_now().await;
        self.parking.lock().unwrap().0 -= 1;
        self.take_time().await;
        if fate != Fate::Lost {
            self.parked.lock().unwrap().insert(record.id, record.clone());
        }
        if fate == Fate::Taken { Ok(()) } else { Err(failure()) }
    }
}

/// Time passes with the calls, and by itself where nothing else happens.
#[async_trait]
impl Clock for Model {
    fn now(&self) -> Timestamp {
        Timestamp(NOW.0 + self.passed.load(Ordering::SeqCst))
    }

    fn moment(&self) -> Moment {
        Moment::after_start(Duration::from_millis(self.passed.load(Ordering::SeqCst)))
    }

    async fn sleep_until(&self, moment: Moment) {
        while self.moment() < moment {
            if self.call_takes.is_none() {
                self.passed.fetch_add(1, Ordering::SeqCst);
            }
            tokio::task::yield_now().await;
        }
    }
}

/// The body says it all: addresses, separated by spaces; `!` is malformed.
fn route(record: &IngressRecord) -> Result<Vec<Routed>, RouteError> {
    let text = record.text()?;
    if text == "!" {
        return Err(RouteError::new("it says so"));
    }
    text.split_whitespace().map(|id| Routed::new(("a/b", id), &record.position)).collect()
}

fn dispatcher(model: &Arc<Model>) -> Dispatcher {
    let targets = Targets::Known([TypeName::from_static("a/b")].into());
    let (router, safeguards) = (Arc::new(route), Safeguards::default());
    Dispatcher { router, targets, queue: model.clone(), malformed: model.clone(), clock: model.clone(), safeguards }
}

fn record(number: usize, order: Option<&str>, body: &str) -> IngressRecord {
    let record = IngressRecord::new("in", "in", number.to_string(), Timestamp(1), body.to_owned());
    IngressRecord { order: order.map(Into::into), ..record }
}

fn dispatch(dispatcher: &Dispatcher, batch: Vec<IngressRecord>) -> Vec<Outcome> {
    dispatch_until(dispatcher, batch.into_iter().map(Arrival::Record).collect(), NEVER)
}

fn dispatch_until(dispatcher: &Dispatcher, batch: Vec<Arrival>, deadline: Moment) -> Vec<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(dispatcher.dispatch(batch, deadline))
}

fn sent(model: &Model) -> Vec<(String, String)> {
    let accepted = model.accepted.lock().unwrap();
    accepted
        .iter()
        .map(|envelope| (envelope.to.id().to_owned(), envelope.messages[0].get::<String>().unwrap().unwrap()))
        .collect()
}

#[test]
fn few_calls_and_one_envelope_per_address_in_each() {
    let model = Model::slow(Some(0));
    let batch =
        vec![record(0, None, "a b"), record(1, None, "c"), record(2, None, "a"), record(3, None, ""), record(4, None, "a b")];
    assert_eq!(dispatch(&dispatcher(&model), batch), [Outcome::Done; 5]);
    assert_eq!(*model.calls.lock().unwrap(), [3, 2, 1], "a b c, then a b, then a");
}

#[test]
fn nothing_of_an_order_overtakes() {
    let model = Model::slow(Some(0));
    // The second record waits for `a`; the third is of its order and must not be sent before it.
    let batch = vec![record(0, Some("x"), "a"), record(1, Some("y"), "a"), record(2, Some("y"), "b"), record(3, Some("z"), "b")];
    dispatch(&dispatcher(&model), batch);
    let pair = |id: &str, position: &str| (id.to_owned(), position.to_owned());
    assert_eq!(sent(&model), [pair("a", "0"), pair("a", "1"), pair("b", "2"), pair("b", "3")]);
}

#[test]
fn after_a_failure_nothing_later_of_its_order_or_address() {
    use Fate::*;
    let model = Arc::new(Model { fates: Mutex::new([Lost, Taken, Taken].into()), call_takes: Some(0), ..Model::default() });
    let batch = vec![
        record(0, Some("x"), "a"),
        record(1, Some("y"), "b"),
        record(2, Some("z"), "c"),
        record(3, Some("x"), "b"), // of the failed order
        record(4, Some("y"), "a"), // to the failed address
        record(5, Some("y"), "c"), // of the order of one that was not sent
        record(6, Some("z"), "b"), // nothing of the failure
    ];
    let outcomes = dispatch(&dispatcher(&model), batch);
    let failed: Vec<_> = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_failed()).map(|(index, _)| index).collect();
    assert_eq!(failed, [0, 3, 4, 5]);
    assert_eq!(sent(&model).last().unwrap().1, "6");
}

/// A later record that is blocked must not take down an earlier one of its order that was merely waiting.
#[test]
fn a_failure_does_not_work_backwards() {
    use Fate::*;
    let model = Arc::new(Model { fates: Mutex::new([Taken, Lost].into()), call_takes: Some(0), ..Model::default() });
    let batch = vec![record(0, Some("p"), "x"), record(1, Some("o"), "x"), record(2, Some("q"), "y"), record(3, Some("o"), "y")];
    assert_eq!(dispatch(&dispatcher(&model), batch), [Outcome::Done, Outcome::Done, Outcome::Failed, Outcome::Failed]);
}

#[test]
fn malformed_records_are_kept_with_their_reason() {
    let model = Model::slow(Some(0));
    let batch = vec![
        Arrival::Record(record(0, Some("x"), "!")),
        Arrival::Malformed(record(9, None, "?"), RouteError::new("not a message")),
        Arrival::Record(record(1, Some("x"), "a")),
    ];
    let outcomes = dispatch_until(&dispatcher(&model), batch.clone(), NEVER);
    assert_eq!(outcomes, [Outcome::Parked, Outcome::Parked, Outcome::Done]);
    let parked = model.parked.lock().unwrap();
    let said: HashSet<_> =
        parked.values().map(|record| (record.reason.as_str(), record.raw.as_str(), record.position.as_str())).collect();
    assert_eq!(said, HashSet::from([("it says so", "!", "0"), ("not a message", "?", "9")]));
    drop(parked);
    model.fates.lock().unwrap().extend([Fate::Lost, Fate::TakenButFailed]);
    let outcomes = dispatch_until(&dispatcher(&model), batch, NEVER);
    assert_eq!(outcomes, [Outcome::Failed, Outcome::Failed, Outcome::Done]);
    assert_eq!(model.parked.lock().unwrap().len(), 2);
}

/// Sent again and again it would hold up all records behind it.
#[test]
fn a_record_for_a_function_without_a_queue_is_malformed() {
    let model = Model::slow(Some(0));
    let route = |_: &IngressRecord| Ok(vec![Routed::new(("a/bb", "x"), &String::new())?]);
    let outcomes = dispatch(&Dispatcher { router: Arc::new(route), ..dispatcher(&model) }, vec![record(0, None, "")]);
    assert_eq!((outcomes[0], model.calls.lock().unwrap().len()), (Outcome::Parked, 0));
    let parked = model.parked.lock().unwrap();
    let reason = &parked.values().next().unwrap().reason;
    assert_eq!(reason, "no function `a/bb` is known here; did you mean `a/b`?");
}

/// How a source delivers what failed again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Everything from the lowest failure on.
    Kinesis,
    /// What is reported; a group waits for its first.
    Fifo,
    /// What is reported.
    Standard,
}

fn redelivered(kind: Kind, batch: &[IngressRecord], outcomes: &[Outcome]) -> Vec<IngressRecord> {
    let numbers: Vec<_> = batch.iter().map(|record| record.position.as_str()).collect();
    match kind {
        Kind::Kinesis => {
            let lowest = kinesis_failures(numbers.iter().copied().zip(outcomes.iter().copied()));
            let from = lowest.map_or(batch.len(), |lowest| numbers.iter().position(|number| *number == lowest).unwrap());
            batch[from..].to_vec()
        }
        Kind::Fifo | Kind::Standard => {
            let results =
                batch.iter().zip(outcomes).map(|(record, outcome)| (record.position.as_str(), record.order.as_deref(), *outcome));
            let failed: HashSet<_> = sqs_failures(results).into_iter().collect();
            batch.iter().filter(|record| failed.contains(record.position.as_str())).cloned().collect()
        }
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Kinesis), Just(Kind::Fifo), Just(Kind::Standard)]
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![5 => Just(Fate::Taken), 1 => Just(Fate::Lost), 1 => Just(Fate::TakenButFailed)];
    proptest::collection::vec(fate, 0..60)
}

proptest! {
    #[test]
    fn exactly_once_and_in_order(
        kind in kinds(),
        records in proptest::collection::vec((0_u8..4, proptest::collection::btree_set(0_u8..4, 0..3), proptest::bool::weighted(0.1)), 0..30),
        batch_size in 1_usize..12,
        fates in fates(),
    ) {
        let model = Arc::new(Model { fates: Mutex::new(fates.into()), call_takes: Some(0), ..Model::default() });
        let dispatcher = dispatcher(&model);
        let body = |ids: &std::collections::BTreeSet<u8>, bad: bool| if bad { "!".to_owned() } else {
            ids.iter().map(|id| format!("i{id} ")).collect()
        };
        let order = |key: u8| (kind != Kind::Standard).then(|| format!("k{key}"));
        let mut stream: VecDeque<_> = records.iter().enumerate()
            .map(|(number, (key, ids, bad))| record(number, order(*key).as_deref(), &body(ids, *bad))).collect();
        for round in 0.. {
            prop_assert!(round < 500, "it does not come to an end");
            if stream.is_empty() {
                break;
            }
            let batch: Vec<_> = stream.drain(..batch_size.min(stream.len())).collect();
            let outcomes = dispatch(&dispatcher, batch.clone());
            prop_assert_eq!(outcomes.len(), batch.len());
            // A failed group's messages go in front again, which no later message of the group overtakes.
            redelivered(kind, &batch, &outcomes).into_iter().rev().for_each(|record| stream.push_front(record));
        }
        // What a queue or a ledger takes for a copy has no effect.
        let mut seen = HashSet::new();
        let accepted: Vec<Envelope> = model.accepted.lock().unwrap().drain(..).filter(|envelope| seen.insert(envelope.id)).collect();
        let mut effects: HashMap<(Address, String), usize> = HashMap::new();
        let mut last: HashMap<(Address, Option<String>), usize> = HashMap::new();
        for envelope in &accepted {
            for message in &envelope.messages {
                let number: usize = message.get::<String>().unwrap().unwrap().parse().unwrap();
                *effects.entry((envelope.to.clone(), number.to_string())).or_default() += 1;
                if let Some(order) = order(records[number].0) {
                    let before = last.insert((envelope.to.clone(), Some(order)), number);
                    prop_assert!(before.is_none_or(|before| before < number), "{before:?} before {number}");
                }
            }
        }
        let mut parked = 0;
        for (number, (_, ids, bad)) in records.iter().enumerate() {
            parked += usize::from(*bad);
            for id in ids {
                let address = Address::parse(&format!("a/b/i{id}")).unwrap();
                let count = effects.remove(&(address, number.to_string())).unwrap_or(0);
                prop_assert_eq!(count, usize::from(!bad), "record {} at {}", number, id);
            }
        }
        prop_assert!(effects.is_empty(), "{effects:?}");
        prop_assert_eq!(model.parked.lock().unwrap().len(), parked);
    }
}
