//! Records that arrive packed into one, and come again only together.

use statefun_core::{TypedValue, limits::MAX_ENVELOPE_BYTES};

use super::*;
use crate::{
    Router,
    dispatch::{MAX_LETTERS, MAX_TAKEN},
    envelopes,
};

/// The body says it all: words `id` or `id*times`, `!` is malformed, and a first word `key` gives a deduplication key.
struct Words;

impl Router for Words {
    fn route(&self, record: &IngressRecord) -> Result<Vec<Routed>, RouteError> {
        let mut messages = Vec::new();
        for word in record.text()?.split_whitespace().filter(|word| *word != "key") {
            let (id, times) = word.split_once('*').unwrap_or((word, "1"));
            if id == "!" {
                return Err(RouteError::new("it says so"));
            }
            let routed = Routed::new(("a/b", id), &record.position)?;
            messages.extend(vec![routed; times.parse()?]);
        }
        Ok(messages)
    }

    fn deduplication_key(&self, record: &IngressRecord) -> Result<Option<String>, RouteError> {
        Ok(record.text()?.starts_with("key").then(|| record.position.clone()))
    }
}

fn words(model: &Arc<Model>) -> Dispatcher {
    Dispatcher { router: Arc::new(Words), ..dispatcher(model) }
}

fn packed<B: AsRef<str>>(number: usize, bodies: impl IntoIterator<Item = B>) -> Arrival {
    let user = |(index, body): (usize, B)| {
        let body = body.as_ref();
        IngressRecord { position: format!("{number}/{index}"), ..record(number, Some(&format!("k{}", index % 2)), body) }
    };
    let records = bodies.into_iter().enumerate().map(user).collect();
    Arrival::Packed { whole: record(number, None, "whole"), records }
}

fn accepted(model: &Model) -> Vec<Envelope> {
    model.accepted.lock().unwrap().clone()
}

fn text(value: &TypedValue) -> String {
    value.get::<String>().unwrap().unwrap()
}

#[test]
fn ten_thousand_of_one_address_are_ten_envelopes() {
    let model = Model::slow(Some(12));
    assert_eq!(
        dispatch_until(&words(&model), vec![packed(1, vec!["a"; 10_000])], START.plus(Duration::from_millis(500))),
        [Outcome::Done]
    );
    assert_eq!(*model.calls.lock().unwrap(), [1; 10]);
    let messages: Vec<_> = accepted(&model).iter().flat_map(|envelope| &envelope.messages).map(text).collect();
    assert_eq!(messages, (0..10_000).map(|index| format!("1/{index}")).collect::<Vec<_>>());
}

#[test]
fn one_user_record_becomes_what_it_becomes_alone() {
    let model = Model::slow(Some(0));
    let alone = record(7, None, "a b a");
    dispatch_until(&words(&model), vec![Arrival::Packed { whole: record(7, None, ""), records: vec![alone.clone()] }], NEVER);
    assert_eq!(accepted(&model), envelopes(&Words, &alone).unwrap());
}

/// Ids are persisted, and an envelope's must not come to stand for other messages: this test fails when that changes.
#[test]
fn cuts_and_ids_are_frozen() {
    let model = Model::slow(Some(0));
    let bytes = |_: &IngressRecord| {
        let value = TypedValue::present(TypeName::from_static("a/t"), vec![0xff; 100_000]);
        Ok(vec![Routed { to: Address::parse("a/b/big").unwrap(), value }])
    };
    dispatch_until(&words(&model), vec![packed(1, vec!["a"; 1_001])], NEVER);
    dispatch_until(&Dispatcher { router: Arc::new(bytes), ..words(&model) }, vec![packed(1, vec![""; 8])], NEVER);
    let made: Vec<_> = accepted(&model).iter().map(|envelope| (envelope.id.to_string(), envelope.messages.len())).collect();
    let frozen = [
        ("46944e7fa6e536a7f4e156ea6e8dbb27", 1_000),
        ("33c990bbab14a4aaf3aa60136cc76d0f", 1),
        ("271fe1950cdee10862e3ec348eb8f58a", 7),
        ("65973a4d54a94d089160de64fa23a0a8", 1),
    ];
    assert_eq!(made, frozen.map(|(id, messages)| (id.to_owned(), messages)));
}

#[test]
fn no_envelope_is_too_big_for_the_queue() {
    let id = "\u{1}".repeat(1_024);
    for piece in [&b"\xff"[..], b"\x01", b"x", "\u{ffff}".as_bytes()] {
        let model = Model::slow(Some(0));
        let sizes = [0, 1, 700_000, 200_000, 90_000, 10_000, 40_000, 600_000, 300_000, 300_000];
        let to = Address::parse(&format!("a/b/{id}")).unwrap();
        let route = move |record: &IngressRecord| {
            let size: usize = record.text()?.parse()?;
            let value = TypedValue::present(TypeName::from_static("a/t"), piece.repeat(size / piece.len()));
            Ok(vec![Routed { to: to.clone(), value }])
        };
        let dispatcher = Dispatcher { router: Arc::new(route), ..words(&model) };
        dispatch_until(&dispatcher, vec![packed(1, sizes.map(|size| size.to_string()))], NEVER);
        let accepted = accepted(&model);
        assert_eq!(accepted.iter().map(|envelope| envelope.messages.len()).collect::<Vec<_>>(), [3, 4, 1, 2]);
        assert!(accepted.iter().all(|envelope| envelope.to_wire().len() <= MAX_ENVELOPE_BYTES));
    }
}

#[test]
fn malformed_ones_do_not_break_the_others() {
    let model = Model::slow(Some(0));
    let batch = || vec![packed(1, ["a", "!", "a", "a*1001", "a"]), packed(2, ["a"])];
    assert_eq!(dispatch_until(&words(&model), batch(), NEVER), [Outcome::Parked, Outcome::Done]);
    let made: Vec<Vec<_>> = accepted(&model).iter().map(|envelope| envelope.messages.iter().map(text).collect()).collect();
    assert_eq!(made, [vec!["1/0", "1/2", "1/4"], vec!["2/0"]]);
    let parked: Vec<_> = model.parked.lock().unwrap().values().map(|letter| letter.position.clone()).collect();
    assert_eq!(HashSet::<_>::from_iter(parked), HashSet::from(["1/1".to_owned(), "1/3".to_owned()]));
    // One letter or one envelope that fails: all of it comes again, and no other.
    model.fates.lock().unwrap().extend([Fate::Taken, Fate::Lost]);
    assert_eq!(dispatch_until(&words(&model), batch(), NEVER), [Outcome::Failed, Outcome::Done]);
    assert_eq!(dispatch_until(&words(&model), vec![packed(3, [""; 0])], NEVER), [Outcome::Done]);
}

/// Thousands of letters, too, would not get through within an invocation.
#[test]
fn if_very_many_are_malformed_one_letter_has_them_all() {
    let model = Model::slow(Some(1));
    let batch = |malformed| vec![packed(1, [vec!["a"; 2], vec!["!"; malformed]].concat())];
    assert_eq!(dispatch_until(&words(&model), batch(MAX_LETTERS), NEVER), [Outcome::Parked]);
    assert_eq!(std::mem::take(&mut *model.parked.lock().unwrap()).len(), MAX_LETTERS);
    assert_eq!(dispatch_until(&words(&model), batch(MAX_LETTERS + 1), NEVER), [Outcome::Parked]);
    let parked: Vec<_> = model.parked.lock().unwrap().values().cloned().collect();
    let [letter] = &*parked else { panic!("{parked:?}") };
    assert_eq!((letter.position.as_str(), letter.raw.as_str()), ("1", "whole"));
    assert_eq!(letter.reason, "1001 of 1003 records packed into it are malformed, the first: it says so");
    assert_eq!(accepted(&model).iter().map(|envelope| envelope.messages.len()).collect::<Vec<_>>(), [2, 2], "others go on");
}

/// Its id says which record it is of, and nothing later gets in front of it.
#[test]
fn what_has_a_key_of_its_own_is_not_folded() {
    let model = Model::slow(Some(0));
    dispatch_until(&words(&model), vec![packed(1, ["a", "a", "key a", "key a", "a", "a"])], NEVER);
    let made: Vec<_> = accepted(&model).iter().map(|envelope| (envelope.keyed, envelope.messages.len())).collect();
    assert_eq!(made, [(false, 2), (true, 1), (true, 1), (false, 2)]);
}

#[test]
fn a_record_for_many_addresses_takes_several_calls() {
    let model = Model::slow(Some(0));
    let ids: Vec<_> = (0..1_200).map(|id| format!("i{id}")).collect();
    assert_eq!(dispatch(&dispatcher(&model), vec![record(0, None, &ids.join(" "))]), [Outcome::Done]);
    assert_eq!(*model.calls.lock().unwrap(), [500, 500, 200]);
}

/// What waits for a busy address is not looked at in each call.
#[test]
fn looks_ahead_only_so_far() {
    let model = Model::slow(Some(0));
    let mut batch = vec![record(0, None, "a"); 5_001];
    batch.push(record(1, None, "b"));
    assert_eq!(dispatch(&dispatcher(&model), batch), [Outcome::Done; 5_002]);
    assert_eq!(model.calls.lock().unwrap()[..4], [1, 1, 2, 1]);
}

#[test]
fn the_rest_of_too_large_a_batch_is_not_even_unpacked() {
    let model = Model::slow(Some(0));
    let unpacked = AtomicU64::new(0);
    let each = MAX_TAKEN / 2;
    let batch = (0..5).map(|number| {
        unpacked.fetch_add(1, Ordering::SeqCst);
        packed(number, vec!["a"; each])
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let outcomes = runtime.block_on(words(&model).dispatch(batch, NEVER));
    assert_eq!(outcomes[..2], [Outcome::Done; 2]);
    assert_eq!(outcomes[2..], [Outcome::Failed; 3]);
    assert_eq!(unpacked.into_inner(), 2);
}

fn bodies() -> impl Strategy<Value = String> {
    let word = prop_oneof![6 => "[a-c]", 1 => "[a-c]\\*[1-5]00", 1 => Just("!".to_owned())];
    let words = proptest::collection::vec(word, 0..3).prop_map(|words| words.join(" "));
    prop_oneof![6 => words.clone(), 1 => words.prop_map(|words| format!("key {words}"))]
}

/// What each address is to get of it, in order, with the record's place and order.
fn expected(stream: &[Arrival]) -> HashMap<String, Vec<String>> {
    let mut expected: HashMap<String, Vec<String>> = HashMap::new();
    for arrival in stream {
        let Arrival::Packed { records, .. } = arrival else { continue };
        for user in records {
            for Routed { to, value } in Words.route(user).unwrap_or_default() {
                expected.entry(to.id().to_owned()).or_default().push(text(&value));
            }
        }
    }
    expected
}

proptest! {
    #[test]
    fn exactly_once_in_order_and_always_the_same_envelopes(
        stream in proptest::collection::vec(proptest::collection::vec(bodies(), 0..8), 1..6),
        batches in proptest::collection::vec(1_usize..4, 40),
        fates in fates(),
    ) {
        let stream: Vec<_> = stream.into_iter().enumerate().map(|(number, bodies)| packed(number, bodies)).collect();
        // Each by itself, with nothing that fails.
        let model = Model::slow(Some(0));
        stream.iter().for_each(|arrival| drop(dispatch_until(&words(&model), vec![arrival.clone()], NEVER)));
        let pure: HashMap<_, _> = accepted(&model).into_iter().map(|envelope| (envelope.id, envelope)).collect();
        prop_assert_eq!(pure.len(), accepted(&model).len());

        // In batches of any size, each from the lowest failure on.
        let model = Arc::new(Model { fates: Mutex::new(fates.into()), call_takes: Some(0), ..Model::default() });
        let (mut from, mut rounds) = (0, batches.into_iter().cycle());
        for round in 0.. {
            prop_assert!(round < 500, "it does not come to an end");
            if from == stream.len() {
                break;
            }
            let batch = stream[from..stream.len().min(from + rounds.next().unwrap())].to_vec();
            let done = batch.len();
            let outcomes = dispatch_until(&words(&model), batch, NEVER);
            from += outcomes.iter().position(|outcome| outcome.is_failed()).unwrap_or(done);
        }
        let mut seen = HashSet::new();
        let mut got: HashMap<String, Vec<String>> = HashMap::new();
        for envelope in accepted(&model) {
            prop_assert_eq!(Some(&envelope), pure.get(&envelope.id));
            prop_assert!(envelope.to_wire().len() <= MAX_ENVELOPE_BYTES);
            if seen.insert(envelope.id) {
                got.entry(envelope.to.id().to_owned()).or_default().extend(envelope.messages.iter().map(text));
            }
        }
        prop_assert_eq!(seen.len(), pure.len());
        let mut expected = expected(&stream);
        expected.values_mut().chain(got.values_mut()).for_each(|texts| per_order(texts));
        prop_assert_eq!(got, expected);
    }
}

/// Sorts by the records' order, and leaves what is of one as it is.
fn per_order(positions: &mut [String]) {
    positions.sort_by_key(|position| position.rsplit('/').next().unwrap().parse::<usize>().unwrap() % 2);
}
