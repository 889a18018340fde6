//! Events through the real engine, over a backend in memory.

use async_trait::async_trait;
use serde_json::json;
use statefun_core::{
    Address, Codec, CodecError, Context, Envelope, EnvelopeId, FunctionError as HandlerError, FunctionSpec, NotTaken, OnFailure,
    Reason, TypeName, TypedValue, ValueSpec,
};
use statefun_engine::{Config, Engine, Functions, Invoke, ports::PortErrorKind};

use super::*;
use crate::test_ports::{Memory, in_time, now};

const FUNCTION: TypeName = TypeName::from_static("test/counter");
const COUNT: ValueSpec<u64> = ValueSpec::new("count");

/// A type of the name of `COUNT`'s that reads nothing: as a version whose type was changed.
struct Changed;

impl statefun_core::Value for Changed {
    const TYPE_NAME: TypeName = <u64 as statefun_core::Value>::TYPE_NAME;
    type Codec = Self;
}

impl Codec<Changed> for Changed {
    fn encode(_: &Changed) -> Result<bytes::Bytes, CodecError> {
        Err("nothing is written".into())
    }

    fn decode(_: &[u8]) -> Result<Changed, CodecError> {
        Err("a field is missing".into())
    }
}

const CHANGED: ValueSpec<Changed> = ValueSpec::new("count");

/// Counts its messages, each as an egress record; `fail` fails, `hang` never returns, `slow` takes 0.7 s.
struct Counter;

#[async_trait]
impl Invoke for Counter {
    async fn invoke(&self, context: &mut Context, message: &TypedValue) -> Result<(), HandlerError> {
        let text: String = message.get()?.unwrap_or_default();
        match text.as_str() {
            "fail" => return Err(HandlerError::retryable("as the test wants it")),
            "hang" => std::future::pending().await,
            "changed" => assert!(context.get(&CHANGED)?.is_none()),
            "slow" => tokio::time::sleep(Duration::from_millis(700)).await,
            _ => {}
        }
        let count = context.get(&COUNT)?.unwrap_or(0) + 1;
        context.set(&COUNT, count)?;
        context.egress("test/out", &format!("{text} {count}"))?;
        Ok(())
    }
}

fn service(memory: &Arc<Memory>) -> FunctionService {
    let mut functions = Functions::default();
    let spec = FunctionSpec {
        name: FUNCTION,
        states: [("count", COUNT.erase())].into(),
        accepts: Vec::new(),
        on_failure: OnFailure::DeadLetter { max_attempts: 3 },
        exclusive: false,
    };
    functions.add(spec, Arc::new(Counter));
    let emf = Emf::new(Some("stack-Counter-1".to_owned()), Moment::default());
    let engine = Engine::new(functions, memory.ports(), Config::default());
    FunctionService::new(Receiver::new(engine, memory.clone(), memory.clone()), emf, memory.ports().clock)
}

/// A message of a batch: group and body.
fn message(number: u32, group: &str, body: &str) -> Value {
    json!({
        "messageId": format!("m{number}"), "receiptHandle": format!("r{number}"), "body": body,
        "attributes": {
            "ApproximateReceiveCount": "1", "SentTimestamp": now().0.to_string(),
            "SequenceNumber": (18_849_496_460_467_696_128_u128 + u128::from(number)).to_string(),
            "MessageGroupId": group, "SenderId": "A", "MessageDeduplicationId": format!("d{number}"),
            "ApproximateFirstReceiveTimestamp": now().0.to_string(),
        },
        "messageAttributes": {}, "md5OfBody": "0", "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:counter.fifo", "awsRegion": "us-east-2",
    })
}

fn wire(number: u8, id: &str, text: &str) -> String {
    let envelope = Envelope {
        id: EnvelopeId([number; 16]),
        to: Address::new(FUNCTION, id).unwrap(),
        from: None,
        sent_at: now(),
        keyed: false,
        hops: 0,
        trace: None,
        messages: vec![TypedValue::of(&text.to_owned()).unwrap()],
    };
    envelope.to_wire()
}

/// Each `(id, text)` becomes an envelope; a text in angle brackets is the body itself.
fn event(messages: &[(&str, &str)]) -> Value {
    let records: Vec<_> = messages
        .iter()
        .enumerate()
        .map(|(number, (id, text))| {
            let body = match text.strip_prefix('<').and_then(|text| text.strip_suffix('>')) {
                Some(raw) => raw.to_owned(),
                None => wire(number as u8 + 1, id, text),
            };
            message(number as u32, &format!("test/counter/{id}"), &body)
        })
        .collect();
    json!({ "Records": records })
}

fn in_seconds(seconds: u64) -> Moment {
    in_time(Duration::from_secs(seconds))
}

async fn serve(service: &FunctionService, event: Value) -> Vec<String> {
    service.handle(event, in_seconds(30)).await.unwrap().failures
}

fn emitted(memory: &Memory) -> Vec<String> {
    let records = memory.emitted.lock().unwrap();
    records.iter().map(|record| format!("{} {}", record.from.id(), record.value.get::<String>().unwrap().unwrap())).collect()
}

fn pauses(memory: &Memory) -> Vec<(String, u64)> {
    memory.pauses.lock().unwrap().drain(..).map(|failed| (failed.receipt, failed.after.as_secs())).collect()
}

#[tokio::test]
async fn what_succeeds_is_not_named() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    let batch = event(&[("a", "x"), ("b", "y"), ("a", "z")]);
    assert!(serve(&service, batch.clone()).await.is_empty());
    let mut all = emitted(&memory);
    all.sort();
    assert_eq!(all, ["a x 1", "a z 2", "b y 1"]);
    assert!(pauses(&memory).is_empty());
    // Delivered again, it is done already.
    assert!(serve(&service, batch).await.is_empty());
    assert_eq!(emitted(&memory).len(), 3);
}

#[tokio::test]
async fn a_record_that_its_egress_refuses_becomes_a_dead_letter_and_holds_up_nobody() {
    let memory = Arc::<Memory>::default();
    *memory.egress_refuses.lock().unwrap() = Some(TypedValue::of(&"x 1".to_owned()).unwrap());
    let service = service(&memory);
    let batch = event(&[("a", "x"), ("a", "y"), ("b", "z")]);
    // Without its letter, the record does not leave the outbox, and its message comes again.
    *memory.letters_down.lock().unwrap() = true;
    assert_eq!(serve(&service, batch.clone()).await, ["m0", "m1"]);
    assert!(memory.refused.lock().unwrap().is_empty());
    *memory.letters_down.lock().unwrap() = false;
    memory.emitted.lock().unwrap().clear();
    assert!(serve(&service, batch).await.is_empty());
    let refused = memory.refused.lock().unwrap().clone();
    assert_eq!(refused.len(), 1);
    let [one] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!((one.attempts, one.error.as_str(), one.record.from.id()), (5, "not this one", "a"));
    assert_eq!(emitted(&memory).iter().filter(|record| *record == "a x 1").count(), 5, "it is tried so often");
    let mut later = event(&[("a", "v")]);
    later["Records"][0] = message(9, "test/counter/a", &wire(9, "a", "v"));
    assert!(serve(&service, later).await.is_empty(), "its address goes on");
    assert_eq!(memory.refused.lock().unwrap().len(), 1);
}

/// What took its tries is not tried again: a receiver that is out for hours would else make a letter of it at each delivery.
#[tokio::test]
async fn a_record_that_was_given_up_is_not_given_up_again_while_another_of_its_outbox_waits() {
    let memory = Arc::<Memory>::default();
    *memory.egress_refuses.lock().unwrap() = Some(TypedValue::of(&"x 1".to_owned()).unwrap());
    *memory.egress_out.lock().unwrap() = Some((TypedValue::of(&"y 2".to_owned()).unwrap(), PortErrorKind::Unavailable));
    let (service, batch) = (service(&memory), event(&[("a", "x"), ("a", "y")]));
    for _ in 0..3 {
        assert_eq!(serve(&service, batch.clone()).await, ["m0", "m1"]);
        assert_eq!(memory.refused.lock().unwrap().len(), 1);
    }
    *memory.egress_out.lock().unwrap() = None;
    assert!(serve(&service, batch).await.is_empty());
    assert_eq!(memory.refused.lock().unwrap().len(), 1);
    assert_eq!(emitted(&memory).iter().filter(|record| *record == "a x 1").count(), 5);
}

#[tokio::test]
async fn a_record_whose_egress_lacks_a_queue_or_a_permission_waits_for_an_hour_and_is_undeliverable_then() {
    let (memory, minute) = (Arc::<Memory>::default(), Duration::from_secs(60));
    let lacks = || Some((TypedValue::of(&"x 1".to_owned()).unwrap(), PortErrorKind::Refused));
    let (service, batch) = (service(&memory), event(&[("a", "x"), ("a", "y")]));
    *memory.egress_out.lock().unwrap() = lacks();
    for minutes in [0, 30, 59] {
        *memory.ahead.lock().unwrap() = minute * minutes;
        assert_eq!(serve(&service, batch.clone()).await, ["m0", "m1"]);
        assert!(memory.refused.lock().unwrap().is_empty(), "after {minutes} minutes");
    }
    *memory.ahead.lock().unwrap() = minute * 61;
    assert!(serve(&service, batch).await.is_empty());
    let [letter] = &memory.refused.lock().unwrap().clone()[..] else { panic!() };
    assert_eq!((letter.reason, letter.error.as_str(), letter.record.from.id()), (NotTaken::Undeliverable, "not now", "a"));

    // The next outbox has an hour of its own; and nothing is given up while a receiver is only out.
    *memory.egress_out.lock().unwrap() = Some((TypedValue::of(&"z 3".to_owned()).unwrap(), PortErrorKind::Refused));
    let mut next = event(&[("a", "z")]);
    next["Records"][0] = message(9, "test/counter/a", &wire(9, "a", "z"));
    for (minutes, why) in [(62, PortErrorKind::Refused), (180, PortErrorKind::Unavailable)] {
        *memory.ahead.lock().unwrap() = minute * minutes;
        memory.egress_out.lock().unwrap().as_mut().unwrap().1 = why;
        assert_eq!(serve(&service, next.clone()).await, ["m9"]);
        assert_eq!(memory.refused.lock().unwrap().len(), 1, "after {minutes} minutes");
    }
    *memory.egress_out.lock().unwrap() = None;
    assert!(serve(&service, next).await.is_empty());
}

/// What the alarm on failing messages watches.
#[tokio::test]
async fn the_age_of_what_comes_again_is_told() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    let mut batch = event(&[("a", "x"), ("b", "fail")]);
    for (record, minutes) in [(0, 60), (1, 10)] {
        let sent = now().minus(Duration::from_secs(minutes * 60)).0.to_string();
        batch["Records"][record]["attributes"]["SentTimestamp"] = json!(sent);
    }
    assert_eq!(serve(&service, batch).await, ["m1"]);
    let written = std::mem::take(&mut *service.emf.written.lock().unwrap());
    assert!(written.contains("\"statefun_failing_age_seconds\":600}"), "what was done an hour late does not count: {written}");
    serve(&service, event(&[("a", "y")])).await;
    assert!(!service.emf.written.lock().unwrap().contains("statefun_failing_age_seconds"), "nothing failed");
}

#[tokio::test]
async fn a_failed_message_takes_the_rest_of_its_group_along() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    let failed = serve(&service, event(&[("a", "x"), ("a", "fail"), ("b", "y"), ("a", "z"), ("b", "w")])).await;
    assert_eq!(failed, ["m1", "m3"]);
    assert_eq!(pauses(&memory), [("r1".to_owned(), 1), ("r3".to_owned(), 1)]);
    let mut all = emitted(&memory);
    all.sort();
    assert_eq!(all, ["a x 1", "b w 2", "b y 1"]);
}

#[tokio::test]
async fn a_message_that_asks_for_unreadable_state_goes_back_uncounted_with_a_growing_pause() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    let mut batch = event(&[("a", "x"), ("a", "changed"), ("a", "z"), ("b", "changed")]);
    // More often than a message may be tried; the last try but one before its queue would give it up.
    for (receives, pause) in [(1, 1), (2, 2), (3, 4), (6, 32), (399, 3_600)] {
        batch["Records"][1]["attributes"]["ApproximateReceiveCount"] = json!(receives.to_string());
        assert_eq!(serve(&service, batch.clone()).await, ["m1", "m2"], "an instance without state goes on");
        assert_eq!(pauses(&memory), [("r1".to_owned(), pause), ("r2".to_owned(), pause)]);
    }
    assert!(memory.letters.lock().unwrap().is_empty());
    let records = memory.records.lock().unwrap();
    assert_eq!(records[&Address::new(FUNCTION, "a").unwrap()].trials.iter().map(|trial| trial.failures).sum::<u32>(), 0);
    service.report();
    let written = service.emf.written.lock().unwrap();
    assert!(written.contains("statefun_unreadable_state_total"), "{written}");
}

/// The same of one that a read of several records left too little.
#[tokio::test]
async fn a_handler_is_not_to_blame_for_a_slow_read() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    *memory.reading.lock().unwrap() = Duration::from_millis(800);
    for _ in 0..4 {
        let deadline = in_time(Duration::from_millis(3_300));
        let answer = service.handle(event(&[("a", "slow"), ("b", "slow")]), deadline).await;
        assert_eq!(answer.unwrap(), BatchResponse::of(["m0", "m1"]));
    }
    assert!(memory.letters.lock().unwrap().is_empty());
    let records = memory.records.lock().unwrap();
    assert!(records.values().all(|record| record.trials.is_empty()), "{records:?}");
}

#[tokio::test]
async fn a_malformed_message_is_parked_and_done() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    assert!(serve(&service, event(&[("a", "x"), ("a", "<hello>"), ("a", "z")])).await.is_empty());
    assert_eq!(emitted(&memory), ["a x 1", "a z 2"]);
    let malformed = memory.malformed.lock().unwrap();
    let [record] = &malformed[..] else { panic!("{malformed:?}") };
    assert_eq!((record.source.as_str(), record.position.as_str(), record.raw.as_str()), ("counter.fifo", "m1", "hello"));
    assert!(record.reason.contains("not in its wire form"), "{}", record.reason);
}

#[tokio::test]
async fn a_malformed_message_behind_a_failed_one_waits_unparked() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    let failed = serve(&service, event(&[("a", "fail"), ("a", "<hello>"), ("a", "z"), ("b", "<hello>")])).await;
    assert_eq!(failed, ["m0", "m1", "m2"]);
    let malformed = memory.malformed.lock().unwrap();
    assert_eq!(malformed.iter().map(|record| record.position.as_str()).collect::<Vec<_>>(), ["m3"]);
}

#[tokio::test]
async fn a_malformed_message_that_cannot_be_parked_comes_again() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    *memory.letters_down.lock().unwrap() = true;
    let batch = event(&[("a", "x"), ("a", "<hello>"), ("a", "z"), ("b", "y")]);
    assert_eq!(serve(&service, batch.clone()).await, ["m1", "m2"]);
    *memory.letters_down.lock().unwrap() = false;
    assert!(serve(&service, batch).await.is_empty());
    assert_eq!(memory.malformed.lock().unwrap().len(), 1);
    assert_eq!(emitted(&memory).len(), 3, "what was applied is not applied again");
}

#[tokio::test]
async fn a_newer_wire_version_waits_and_what_is_behind_it_is_not_run() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    let failed = serve(&service, event(&[("a", "x"), ("a", "<{\"v\":9}>"), ("a", "z"), ("b", "y")])).await;
    assert_eq!(failed, ["m1", "m2"]);
    assert_eq!(pauses(&memory), [("r1".to_owned(), 300), ("r2".to_owned(), 300)]);
    let mut all = emitted(&memory);
    all.sort();
    assert_eq!(all, ["a x 1", "b y 1"]);
    assert!(memory.malformed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_envelope_in_a_group_of_others_is_parked_whole() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    let stray = json!({ "Records": [message(1, "by-hand", &wire(1, "a", "x"))] });
    assert!(serve(&service, stray).await.is_empty());
    assert!(emitted(&memory).is_empty());
    let letters = memory.letters.lock().unwrap();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.reason, letter.envelope.to.id()), (Reason::Malformed, "a"));
    assert!(letter.error.contains("`by-hand`"), "{}", letter.error);
}

#[tokio::test]
async fn a_function_that_is_not_deployed_is_waited_for() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    let other = wire(1, "a", "x").replace("test/counter", "test/other");
    let event = json!({ "Records": [message(1, "test/other/a", &other)] });
    assert_eq!(serve(&service, event).await, ["m1"]);
    assert_eq!(pauses(&memory), [("r1".to_owned(), 300)]);
}

#[tokio::test]
async fn a_handler_that_hangs_is_given_up_before_the_deadline() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    let started = now();
    let answer = service.handle(event(&[("a", "hang"), ("b", "y")]), in_seconds(3)).await.unwrap();
    assert_eq!(answer, BatchResponse::of(["m0"]));
    assert_eq!(emitted(&memory), ["b y 1"]);
    assert!(now().since(started) < Duration::from_millis(2_500));
}

#[tokio::test]
async fn a_handler_with_too_little_time_is_not_to_blame() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    // More often than the function allows failures: each time there is time for one, and another one comes first.
    for number in 0..4 {
        let records = [number, 9].map(|number| message(number.into(), "test/counter/a", &wire(number + 1, "a", "slow")));
        let deadline = in_time(Duration::from_millis(3_400));
        let answer = service.handle(json!({ "Records": records }), deadline).await;
        assert_eq!(answer.unwrap(), BatchResponse::of(["m9"]));
        assert_eq!(emitted(&memory).len(), usize::from(number) + 1);
    }
    assert!(memory.letters.lock().unwrap().is_empty());
    let records = memory.records.lock().unwrap();
    assert!(records.values().all(|record| record.trials.is_empty()), "{records:?}");
}

#[tokio::test]
async fn a_backend_that_fails_leaves_no_lease_behind() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    *memory.commits_down.lock().unwrap() = true;
    assert_eq!(serve(&service, event(&[("a", "x")])).await, ["m0"]);
    assert!(memory.records.lock().unwrap().values().all(|record| record.lease.is_none()));
    *memory.commits_down.lock().unwrap() = false;
    assert!(serve(&service, event(&[("a", "x")])).await.is_empty());
    assert_eq!(emitted(&memory), ["a x 1"]);
}

#[tokio::test]
async fn what_is_acknowledged_left_no_outbox() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    for number in 0..3 {
        let body = wire(number + 1, "a", "x");
        let failed = serve(&service, json!({ "Records": [message(number.into(), "test/counter/a", &body)] })).await;
        assert!(failed.is_empty());
        assert!(memory.records.lock().unwrap().values().all(|record| record.outbox.is_empty()));
    }
    assert_eq!(emitted(&memory), ["a x 1", "a x 2", "a x 3"]);
}

#[tokio::test]
async fn other_events_are_refused() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    let error = async |event| service.handle(event, in_seconds(30)).await.unwrap_err().to_string();
    assert!(error(serde_json::from_str(include_str!("../../fixtures/kinesis.json")).unwrap()).await.contains("router Lambda"));
    let standard = serde_json::from_str(include_str!("../../fixtures/sqs-standard.json")).unwrap();
    assert!(error(standard).await.contains("must be a FIFO queue"));
    assert!(error(json!({"statefun": "sweep"})).await.contains("router Lambda"));
    assert!(error(json!({})).await.contains("check what invokes"));
}

/// Managed instances give one process several events at a time. No two are of one group, but a redelivery may be under way
/// while the first delivery still runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_events_at_the_same_time() {
    let memory = Arc::<Memory>::default();
    let service = Arc::new(service(&memory));
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..40_u32 {
        let service = service.clone();
        // Twenty addresses, each event delivered twice.
        let id = format!("i{}", number % 20);
        calls.spawn(async move {
            let batch = event(&[(&id, "x"), (&id, "y")]);
            // Busy is reported as failed; the queue delivers again.
            while !serve(&service, batch.clone()).await.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    let mut all = emitted(&memory);
    all.sort();
    let mut expected: Vec<_> = (0..20).flat_map(|id| [format!("i{id} x 1"), format!("i{id} y 2")]).collect();
    expected.sort();
    // Egress is at least once, under the same ids.
    all.dedup();
    assert_eq!(all, expected);
    let records = memory.records.lock().unwrap();
    for record in records.values() {
        assert_eq!(record.state["count"].value.get::<u64>().unwrap(), Some(2));
    }
}

/// A message that came often runs alone, noted before. That the backend fails then is not the message's fault.
#[tokio::test]
async fn a_backend_that_fails_does_not_make_a_message_a_killer() {
    let memory = Arc::<Memory>::default();
    let service = service(&memory);
    *memory.accepting_down.lock().unwrap() = true;
    let mut event = event(&[("a", "x")]);
    for receives in 5..15 {
        event["Records"][0]["attributes"]["ApproximateReceiveCount"] = json!(receives.to_string());
        assert_eq!(serve(&service, event.clone()).await, ["m0"]);
    }
    *memory.accepting_down.lock().unwrap() = false;
    assert!(serve(&service, event).await.is_empty());
    assert_eq!(emitted(&memory), ["a x 1"]);
    assert!(memory.letters.lock().unwrap().is_empty());
}
