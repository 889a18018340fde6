//! What a wake-up does, over answers that are each given by hand.

use std::{sync::Mutex, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::json;
use statefun_core::{Address, Envelope, TypeName, TypedValue, stored::encode_envelope};
use statefun_engine::{
    InFlight,
    ports::{Moment, PortErrorKind},
};

use super::*;
use crate::{
    queues::{FunctionQueues, SqsQueues},
    requests::SqsRequests,
    script::{Answer, Script, error, fine},
};

const DUE: Timestamp = Timestamp(1_700_000_000_000);

/// Stands still, and notes for how long it was waited.
#[derive(Default)]
struct Still(Mutex<Timestamp>, Mutex<Vec<Duration>>);

#[async_trait]
impl Clock for Still {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn moment(&self) -> Moment {
        Moment::default()
    }

    async fn sleep_until(&self, moment: Moment) {
        self.1.lock().unwrap().push(moment.since(self.moment()));
    }
}

fn timer() -> Timer {
    let envelope = Envelope {
        id: EnvelopeId([7; 16]),
        to: Address::parse("a/b/c").unwrap(),
        from: None,
        sent_at: Timestamp(1),
        keyed: false,
        hops: 0,
        trace: None,
        messages: vec![TypedValue::present(TypeName::from_static("a/v"), "x")],
    };
    Timer { due: DUE, envelope }
}

/// The timers at this moment, before services that give these answers.
fn timers(now: Timestamp, answers: impl IntoIterator<Item = Answer>) -> (DynamoTimers, Arc<Still>, Script) {
    let (clients, script) = Script::clients(answers);
    let batcher = Batcher::new(Arc::new(SqsRequests(clients.sqs.clone())), Arc::new(SystemClock), InFlight::default());
    let mut functions = FunctionQueues::default();
    functions.function(TypeName::from_static("a/b"), ["https://sqs.example/1/b.fifo".to_owned()]);
    let queue = Arc::new(SqsQueues::new(batcher.clone(), Arc::new(functions)));
    let clock = Arc::new(Still(Mutex::new(now), Mutex::default()));
    let timers = DynamoTimers::new(DynamoStore::new(&clients, "table"), batcher, "https://sqs.example/1/timers", queue);
    (DynamoTimers { clock: clock.clone(), ..timers }, clock, script)
}

fn wake_up() -> String {
    WakeUp { id: EnvelopeId([7; 16]), due: DUE }.to_json()
}

/// The row is there.
fn row() -> Answer {
    let envelope = BASE64.encode(encode_envelope(&timer().envelope));
    let sort = format!("{:020}#{}", DUE.0, timer().envelope.id);
    let item = json!({"pk": {"S": "timers#07"}, "sk": {"S": sort}, "d": {"B": envelope}});
    Some((200, json!({ "Item": item }).to_string()))
}

/// There is no such item: no row, or no tombstone.
fn nothing() -> Answer {
    fine()
}

fn sent() -> Answer {
    Some((200, json!({"Successful": [{"Id": "0", "MessageId": "m", "MD5OfMessageBody": "x"}], "Failed": []}).to_string()))
}

/// The deduplication ids of what was sent.
fn ids(script: &Script) -> Vec<String> {
    let sends = script.asked().into_iter().filter(|(operation, _)| operation == "SendMessageBatch");
    sends.map(|(_, body)| body["Entries"][0]["MessageDeduplicationId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_wake_up_that_comes_twice_finds_no_row() {
    let (timers, _, script) = timers(DUE, [row(), nothing(), sent(), fine(), nothing()]);
    timers.wake_up(&wake_up()).await.unwrap();
    assert_eq!(script.operations(), ["GetItem", "GetItem", "SendMessageBatch", "DeleteItem"], "the row goes last");
    timers.wake_up(&wake_up()).await.unwrap();
    assert_eq!((ids(&script).len(), script.operations().len()), (1, 5), "nothing but a look at the row");
}

#[tokio::test]
async fn a_wake_up_that_comes_too_early_is_waited_for_or_comes_again() {
    let (early, clock, script) = timers(Timestamp(DUE.0 - 5_001), []);
    let error = early.wake_up(&wake_up()).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Unavailable, "its message stays in the queue");
    assert!(script.asked().is_empty() && clock.1.lock().unwrap().is_empty());
    let (nearly, clock, script) = timers(Timestamp(DUE.0 - 5_000), [row(), nothing(), sent(), fine()]);
    nearly.wake_up(&wake_up()).await.unwrap();
    assert_eq!((*clock.1.lock().unwrap()).as_slice(), [Duration::from_secs(5)]);
    assert_eq!(ids(&script).len(), 1);
}

#[tokio::test]
async fn a_wake_up_whose_row_cannot_be_read_comes_again() {
    for before in [vec![], vec![row()]] {
        let (timers, _, script) = timers(DUE, before.into_iter().chain([error("AccessDeniedException", "")]));
        assert_eq!(timers.wake_up(&wake_up()).await.unwrap_err().kind, PortErrorKind::Refused);
        assert!(script.operations().iter().all(|operation| operation == "GetItem"), "neither sent nor deleted");
    }
}

#[tokio::test]
async fn a_timer_whose_send_has_no_answer_is_sent_again_under_the_same_id_then_deleted() {
    let lost = [row(), nothing(), None, None, None];
    let (timers, _, script) = timers(DUE, lost.into_iter().chain([row(), nothing(), sent(), fine()]));
    assert_eq!(timers.wake_up(&wake_up()).await.unwrap_err().kind, PortErrorKind::Unavailable);
    assert!(!script.operations().contains(&"DeleteItem".to_owned()), "perhaps it was not sent");
    timers.wake_up(&wake_up()).await.unwrap();
    assert_eq!(ids(&script), vec![timer().envelope.id.to_string(); 4]);
    assert_eq!(script.operations().last().unwrap(), "DeleteItem");
}

#[tokio::test]
async fn a_timer_that_cannot_be_deleted_fires_again_under_the_same_id() {
    let refused = [row(), nothing(), sent(), error("AccessDeniedException", "")];
    let (timers, _, script) = timers(DUE, refused.into_iter().chain([row(), nothing(), sent(), fine()]));
    assert_eq!(timers.wake_up(&wake_up()).await.unwrap_err().kind, PortErrorKind::Refused);
    timers.wake_up(&wake_up()).await.unwrap();
    assert_eq!(ids(&script), vec![timer().envelope.id.to_string(); 2]);
    assert!(script.is_over());
}

#[tokio::test]
async fn a_cancelled_timer_is_only_deleted() {
    let tombstone = Some((200, json!({"Item": {"pk": {"S": "x"}, "sk": {"S": "cancelled"}}}).to_string()));
    let (timers, _, script) = timers(DUE, [row(), tombstone, fine()]);
    timers.wake_up(&wake_up()).await.unwrap();
    assert_eq!(script.operations(), ["GetItem", "GetItem", "DeleteItem"]);
}
