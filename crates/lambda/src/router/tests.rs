//! Events through the real dispatcher, over a backend in memory.

mod packed;

use std::{collections::BTreeSet, sync::Mutex};

use async_trait::async_trait;
use statefun_aws::{
    Outboxes, SystemClock,
    dead_letters::{Deleted, Listed, Replayed},
    timers::Swept,
};
use statefun_core::{Envelope, Record, Safeguards, Targets, Timestamp};
use statefun_engine::{
    backend::Nudged,
    ports::{EnvelopeQueue, PortErrorKind},
};
use statefun_ingress::{IngressRecord, ModuleRouter, Routed};

use super::*;
use crate::{
    adapters::Malformed,
    test_ports::{Memory, in_time, now},
};

const MODULE: &str = "kind: io.statefun.lambda.v1/functions
spec: {functions: [example/*, shop/*], queues: [\"https://sqs.example/1/functions.fifo\"]}
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/names
  streams:
    - {stream: lambda-stream, valueType: text, targets: [example/greeter]}
---
kind: io.statefun.sqs.v1/ingress
spec:
  id: shop/orders
  queues:
    - {queue: orders, valueType: {messageAttribute: type}, targets: [shop/cart], id: {messageAttribute: user}}
    - {queue: fifo.fifo, valueType: text, targets: [shop/cart], id: messageGroupId}
";

/// What was asked of the operations.
#[derive(Default)]
struct Operator {
    woken: Mutex<Vec<String>>,
    replayed: Mutex<Vec<(Selection, usize)>>,
    listed: Mutex<Vec<(usize, bool)>>,
    deleted: Mutex<Vec<(BTreeSet<String>, bool)>>,
}

#[async_trait]
impl Operations for Operator {
    async fn wake_up(&self, body: &str) -> Result<(), PortError> {
        self.woken.lock().unwrap().push(body.to_owned());
        match body {
            "fails" => Err(PortError::new("wake up", PortErrorKind::Unavailable, "as the test wants it")),
            _ => Ok(()),
        }
    }

    async fn sweep(&self, _: Moment) -> Result<Swept, PortError> {
        Ok(Swept { fired: 2, armed: 3 })
    }

    async fn sweep_outboxes(&self, _: Moment) -> Nudged {
        Nudged { nudged: 4, overdue: 1, error: None }
    }

    async fn sweep_all_outboxes(&self, from: u32, _: Moment) -> (Nudged, Option<u32>) {
        (Nudged { nudged: 5, overdue: 0, error: None }, Some(from + 1))
    }

    async fn outboxes(&self, from: u32, _: Moment) -> Result<Outboxes, PortError> {
        Ok(Outboxes { marked: from as usize, unmarked: 1, addresses: vec!["a/b/c".to_owned()], from: None })
    }

    async fn list(&self, max: usize, payloads: bool, _: Moment) -> Result<Listed, PortError> {
        self.listed.lock().unwrap().push((max, payloads));
        Ok(Listed { entries: Vec::new(), more: true })
    }

    async fn replay(&self, selection: &Selection, max: usize, _: Moment) -> Result<Replayed, PortError> {
        self.replayed.lock().unwrap().push((selection.clone(), max));
        Ok(Replayed { sent: 1, missing: vec!["x".to_owned()], ..Replayed::default() })
    }

    async fn delete(&self, ids: &BTreeSet<String>, malformed: bool, _: Moment) -> Result<Deleted, PortError> {
        self.deleted.lock().unwrap().push((ids.clone(), malformed));
        Ok(Deleted { deleted: 2, ..Deleted::default() })
    }

    async fn peek(&self, address: &Address) -> Result<Option<Record>, PortError> {
        Ok((address.id() == "Bob").then(|| Record { version: 4, ..Record::default() }))
    }
}

struct Fixture {
    memory: Arc<Memory>,
    operator: Arc<Operator>,
    service: RouterService,
}

impl Fixture {
    fn new() -> Self {
        let (memory, operator) = (Arc::<Memory>::default(), Arc::<Operator>::default());
        let module = Module::parse("module.yaml", MODULE).unwrap().resolve(&|_| None).unwrap();
        let router = Arc::new(ModuleRouter::new(&module));
        let dispatcher = Dispatcher {
            router,
            targets: Targets::Declared {
                functions: Default::default(),
                namespaces: ["example", "shop", "a"].map(Into::into).into(),
            },
            queue: memory.clone(),
            malformed: Arc::new(Malformed(memory.clone())),
            clock: Arc::new(SystemClock),
            safeguards: Safeguards::default(),
        };
        let timers = "https://sqs.example/1/timers".to_owned();
        let service = RouterService {
            dispatcher,
            operations: operator.clone(),
            module,
            any_source: false,
            timers,
            emf: Emf::new(Some("stack-Router-1".to_owned()), Moment::default()),
        };
        Self { memory, operator, service }
    }

    async fn handle(&self, event: Value) -> Result<Value, String> {
        let answer = self.service.handle(event, in_time(Duration::from_secs(30))).await.map_err(|error| error.to_string());
        answer.map(|answer| serde_json::from_str(answer.get()).unwrap())
    }

    /// Receivers and texts, in the order sent.
    fn sent(&self) -> Vec<(String, String)> {
        let sent = self.memory.sent.lock().unwrap();
        let text = |envelope: &statefun_core::Envelope| {
            let value = &envelope.messages[0];
            value.get::<String>().ok().flatten().unwrap_or_else(|| value.type_name.to_string())
        };
        sent.iter().map(|envelope| (envelope.to.to_string(), text(envelope))).collect()
    }
}

fn fixture(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn kinesis() -> Value {
    fixture(include_str!("../../fixtures/kinesis.json"))
}

fn none() -> Value {
    json!({ "batchItemFailures": [] })
}

#[tokio::test]
async fn a_kinesis_record_becomes_a_message() {
    let fixture = Fixture::new();
    assert_eq!(fixture.handle(kinesis()).await.unwrap(), none());
    assert_eq!(fixture.sent(), [("example/greeter/1".to_owned(), "Hello, this is a test.".to_owned())]);
    let first = fixture.memory.sent.lock().unwrap()[0].clone();
    assert_eq!((first.sent_at, first.keyed), (Timestamp(1_545_084_650_987), false));
    // Delivered again it has the same id.
    fixture.handle(kinesis()).await.unwrap();
    assert_eq!(fixture.memory.sent.lock().unwrap()[1], first);
}

#[tokio::test]
async fn a_malformed_record_is_parked_and_passed() {
    let fixture = Fixture::new();
    let mut event = kinesis();
    let mut bad = event["Records"][0].clone();
    bad["kinesis"]["data"] = json!("/w==");
    bad["kinesis"]["sequenceNumber"] = json!("7");
    bad["eventID"] = json!("shardId-000000000006:7");
    event["Records"].as_array_mut().unwrap().insert(0, bad);
    assert_eq!(fixture.handle(event.clone()).await.unwrap(), none());
    assert_eq!(fixture.sent().len(), 1);
    let malformed = std::mem::take(&mut *fixture.memory.malformed.lock().unwrap());
    assert_eq!((malformed[0].source.as_str(), malformed[0].position.as_str()), ("lambda-stream", "shardId-000000000006:7"));
    *fixture.memory.letters_down.lock().unwrap() = true;
    let failed = fixture.handle(event).await.unwrap();
    assert_eq!(failed, json!({"batchItemFailures": [{"itemIdentifier": "7"}]}));
}

#[tokio::test]
async fn the_lowest_sequence_number_is_told() {
    let fixture = Fixture::new();
    fixture.memory.queue_down.lock().unwrap().push("example/greeter/b".to_owned());
    let record = |key: &str, number: &str| {
        let mut record = kinesis()["Records"][0].clone();
        record["kinesis"]["partitionKey"] = json!(key);
        record["kinesis"]["sequenceNumber"] = json!(number);
        record["eventID"] = json!(format!("shardId-000000000006:{number}"));
        record
    };
    let event = json!({ "Records": [record("a", "8"), record("b", "9"), record("b", "10"), record("c", "11")] });
    assert_eq!(fixture.handle(event).await.unwrap(), json!({"batchItemFailures": [{"itemIdentifier": "9"}]}));
    let receivers: Vec<_> = fixture.sent().into_iter().map(|(to, _)| to).collect();
    assert_eq!(receivers, ["example/greeter/a", "example/greeter/c"]);
}

/// Never answers a call with an envelope for `stuck`.
struct Stuck(Arc<Memory>);

#[async_trait]
impl EnvelopeQueue for Stuck {
    async fn send(&self, envelopes: &[&Envelope]) -> Vec<Result<(), PortError>> {
        if envelopes.iter().any(|envelope| envelope.to.id() == "stuck") {
            std::future::pending::<()>().await;
        }
        self.0.send(envelopes).await
    }
}

/// An answer that comes too late would be none: all of the batch would come again, for ever.
#[tokio::test(start_paused = true)]
async fn a_queue_that_does_not_answer_leaves_time_for_the_answer() {
    let fixture = Fixture::new();
    let stuck = Arc::new(Stuck(fixture.memory.clone()));
    let dispatcher = Dispatcher { queue: stuck, ..fixture.service.dispatcher };
    let fixture = Fixture { service: RouterService { dispatcher, ..fixture.service }, ..fixture };
    let record = |key: &str, number: &str, data: &str| {
        let mut record = kinesis()["Records"][0].clone();
        record["kinesis"]["partitionKey"] = json!(key);
        record["kinesis"]["sequenceNumber"] = json!(number);
        record["kinesis"]["data"] = json!(data);
        record["eventID"] = json!(format!("shardId-000000000006:{number}"));
        record
    };
    let event = json!({ "Records": [record("a", "7", "/w=="), record("stuck", "8", "aGk="), record("b", "9", "aGk=")] });
    assert_eq!(fixture.handle(event).await.unwrap(), json!({"batchItemFailures": [{"itemIdentifier": "8"}]}));
    assert_eq!(fixture.memory.malformed.lock().unwrap().len(), 1, "what was parked does not come again");
}

#[test]
fn time_is_kept_for_the_answer() {
    let now = Moment::after_start(Duration::from_secs(9));
    let left = |seconds| before(now.plus(Duration::from_secs(seconds)), now).since(now).as_secs_f64();
    assert!((left(30) - 28.0).abs() < 0.5 && (left(2) - 1.0).abs() < 0.5, "{} {}", left(30), left(2));
}

#[tokio::test]
async fn sqs_messages_with_attributes() {
    let fixture_ = Fixture::new();
    let mut event = fixture(include_str!("../../fixtures/sqs-standard.json"));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    event["Records"][0]["messageAttributes"]["traceparent"] = json!({"stringValue": trace, "dataType": "String"});
    assert_eq!(fixture_.handle(event).await.unwrap(), none());
    assert_eq!(fixture_.sent(), [("shop/cart/Bob".to_owned(), "shop/add".to_owned())]);
    assert_eq!(fixture_.memory.sent.lock().unwrap()[0].trace.as_deref(), Some(trace));
}

/// What is optional in an event may be absent or `null`; it means the same.
#[tokio::test]
async fn what_is_optional_in_an_event_may_be_null() {
    for absent in [None, Some(Value::Null)] {
        let fixture_ = Fixture::new();
        let mut event = fixture(include_str!("../../fixtures/sqs-fifo.json"));
        let set = |object: &mut Value, key: &str| match (&absent, object.as_object_mut().unwrap()) {
            (None, object) => drop(object.remove(key)),
            (Some(null), object) => drop(object.insert(key.to_owned(), null.clone())),
        };
        set(&mut event["Records"][0], "messageAttributes");
        set(&mut event["Records"][0]["attributes"], "MessageDeduplicationId");
        assert_eq!(fixture_.handle(event).await.unwrap(), none());
        assert_eq!(fixture_.sent(), [("shop/cart/1".to_owned(), "Test message.".to_owned())]);
        let mut event = fixture(include_str!("../../fixtures/sqs-standard.json"));
        set(&mut event["Records"][0]["messageAttributes"]["noise"], "stringValue");
        set(&mut event["Records"][0]["attributes"], "SequenceNumber");
        assert_eq!(fixture_.handle(event).await.unwrap(), none());
        assert_eq!(fixture_.sent()[1].0, "shop/cart/Bob");
    }
}

/// By a consumer (enhanced fan-out) a stream's records are the same as without: whoever goes over to it doubles nothing.
#[tokio::test]
async fn a_record_by_a_consumer_of_its_stream_is_the_same_record() {
    let fixture_ = Fixture::new();
    fixture_.handle(kinesis()).await.unwrap();
    let mut event = kinesis();
    let arn = event["Records"][0]["eventSourceARN"].as_str().unwrap().to_owned();
    event["Records"][0]["eventSourceARN"] = json!(format!("{arn}/consumer/statefun:1570000000"));
    assert_eq!(fixture_.handle(event.clone()).await.unwrap(), none());
    let mut bad = event;
    bad["Records"][0]["kinesis"]["data"] = json!("/w==");
    fixture_.handle(bad).await.unwrap();
    let sent = fixture_.memory.sent.lock().unwrap();
    assert_eq!((sent.len(), &sent[0]), (2, &sent[1]));
    assert_eq!(fixture_.memory.malformed.lock().unwrap()[0].source, "lambda-stream");
}

#[tokio::test]
async fn a_failed_message_of_a_fifo_queue_takes_the_rest_of_its_group_along() {
    let fixture_ = Fixture::new();
    fixture_.memory.queue_down.lock().unwrap().push("shop/cart/1".to_owned());
    let message = |group: &str, id: &str| {
        let mut message = fixture(include_str!("../../fixtures/sqs-fifo.json"))["Records"][0].clone();
        message["messageId"] = json!(id);
        message["attributes"]["MessageGroupId"] = json!(group);
        message
    };
    let event = json!({ "Records": [message("1", "a"), message("2", "b"), message("1", "c")] });
    let failed = json!({"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "c"}]});
    assert_eq!(fixture_.handle(event).await.unwrap(), failed);
    assert_eq!(fixture_.sent(), [("shop/cart/2".to_owned(), "Test message.".to_owned())]);
}

/// What the alarm on failing messages watches.
#[tokio::test]
async fn the_age_of_what_comes_again_is_told() {
    let fixture_ = Fixture::new();
    fixture_.memory.queue_down.lock().unwrap().push("shop/cart/1".to_owned());
    let mut event = fixture(include_str!("../../fixtures/sqs-fifo.json"));
    event["Records"][0]["attributes"]["SentTimestamp"] = json!(now().minus(Duration::from_secs(600)).0.to_string());
    fixture_.handle(event.clone()).await.unwrap();
    let written = std::mem::take(&mut *fixture_.service.emf.written.lock().unwrap());
    assert!(written.contains("\"statefun_failing_age_seconds\":600}"), "{written}");
    fixture_.memory.queue_down.lock().unwrap().clear();
    fixture_.handle(event).await.unwrap();
    assert_eq!(*fixture_.service.emf.written.lock().unwrap(), "", "nothing failed");
}

#[tokio::test]
async fn what_the_module_does_not_declare_waits() {
    let fixture_ = Fixture::new();
    let mut event = kinesis();
    event["Records"][0]["eventSourceARN"] = json!("arn:aws:kinesis:us-east-2:123456789012:stream/others");
    assert!(fixture_.handle(event.clone()).await.unwrap_err().contains("declares no ingress that reads `arn:aws:kinesis"));
    assert!(fixture_.memory.malformed.lock().unwrap().is_empty());
    // Your own router gets it.
    let router = |record: &IngressRecord| Ok(vec![Routed::new(("a/b", &*record.ingress), &record.text()?.to_owned())?]);
    let dispatcher = Dispatcher { router: Arc::new(router), ..fixture_.service.dispatcher };
    let own = Fixture { service: RouterService { dispatcher, any_source: true, ..fixture_.service }, ..fixture_ };
    assert_eq!(own.handle(event).await.unwrap(), none());
    assert_eq!(own.sent()[0].0, "a/b/others");
}

#[tokio::test]
async fn wake_ups_fire_timers() {
    let fixture_ = Fixture::new();
    let message = |body: &str| {
        let mut message = fixture(include_str!("../../fixtures/sqs-standard.json"))["Records"][0].clone();
        message["messageId"] = json!(format!("id of {body}"));
        message["body"] = json!(body);
        message["eventSourceARN"] = json!("arn:aws:sqs:us-east-2:123456789012:timers");
        message
    };
    let event = json!({ "Records": [message("x"), message("fails"), message("y")] });
    assert_eq!(fixture_.handle(event).await.unwrap(), json!({"batchItemFailures": [{"itemIdentifier": "id of fails"}]}));
    assert_eq!(*fixture_.operator.woken.lock().unwrap(), ["x", "fails", "y"]);
}

#[tokio::test]
async fn commands() {
    let fixture = Fixture::new();
    let handle = async |event| fixture.handle(event).await;
    let outboxes = json!({"marked": 7, "unmarked": 1, "addresses": ["a/b/c"]});
    assert_eq!(handle(json!({"statefun": "list-outboxes", "from": 7})).await.unwrap(), outboxes);
    let more = json!({"nudged": 5, "from": 4});
    assert_eq!(handle(json!({"statefun": "sweep-outboxes", "from": 3})).await.unwrap(), more);
    assert_eq!(handle(json!({"statefun": "sweep"})).await.unwrap(), json!({"fired": 2, "armed": 3, "nudged": 4}));
    let state = handle(json!({"statefun": "state", "address": "example/greeter/Bob"})).await.unwrap();
    assert_eq!((&state["address"], &state["version"]), (&json!("example/greeter/Bob"), &json!(4)));
    assert_eq!(handle(json!({"statefun": "state", "address": "example/greeter/Eve"})).await.unwrap(), Value::Null);
    assert!(handle(json!({"statefun": "state", "address": "Bob"})).await.unwrap_err().contains("namespace/name/id"));
}

#[tokio::test]
async fn commands_about_dead_letters() {
    let fixture = Fixture::new();
    let handle = async |event| fixture.handle(event).await;
    let list = json!({"statefun": "list-dead-letters", "max": 1_000_000, "payloads": true});
    assert_eq!(handle(list).await.unwrap(), json!({"letters": [], "more": true}));
    assert_eq!(*fixture.operator.listed.lock().unwrap(), [(MAX_LETTERS, true)]);

    let mut replay = json!({"statefun": "replay-dead-letters", "max": 1_000_000, "ids": ["x"], "function": "a/b"});
    replay["may_be_applied"] = true.into();
    let mut answer = json!({"sent": 1, "left": 0, "malformed": 0, "no_queue": 0, "missing": ["x"], "more": false});
    (answer["may_be_applied"], answer["refused"]) = (0.into(), 0.into());
    assert_eq!(handle(replay).await.unwrap(), answer);
    let function = Some(TypeName::from_static("a/b"));
    let selection = Selection { ids: Some(["x".to_owned()].into()), function, may_be_applied: true };
    assert_eq!(*fixture.operator.replayed.lock().unwrap(), [(selection, MAX_LETTERS)]);
    let error = handle(json!({"statefun": "replay-dead-letters", "function": "greeter"})).await.unwrap_err();
    assert!(error.contains("`function`"), "{error}");

    let answer = json!({"deleted": 2, "missing": [], "more": false});
    assert_eq!(handle(json!({"statefun": "delete-dead-letters", "malformed": true})).await.unwrap(), answer);
    assert_eq!(handle(json!({"statefun": "delete-dead-letters", "ids": ["x"]})).await.unwrap(), answer);
    assert!(handle(json!({"statefun": "delete-dead-letters"})).await.unwrap_err().contains("which letters"));
    let asked = [(BTreeSet::new(), true), (["x".to_owned()].into(), false)];
    assert_eq!(*fixture.operator.deleted.lock().unwrap(), asked);
}

#[tokio::test]
async fn unknown_events_are_told_what_is_expected() {
    let fixture = Fixture::new();
    assert!(fixture.handle(json!({"detail": {}})).await.unwrap_err().contains("not an event of SQS or Kinesis"));
}
