//! What the commands make of the queue's answers, each given by hand.

use std::time::Duration;

use serde_json::{Value, json};
use statefun_core::{Address, EgressRecord, Reason, Timestamp, TypeName, TypedValue, stored::Letter};
use statefun_engine::{
    InFlight,
    ports::{Clock, Moment},
};

use super::*;
use crate::{
    backend::SystemClock,
    egress::{AwsEgress, Sink},
    queues::{FunctionQueues, SqsQueues},
    requests::SqsRequests,
    script::{Answer, Script, error, fine},
};

fn letter(id: u8, to: &str) -> DeadLetter {
    let message = TypedValue::present(TypeName::from_static("a/v"), "secret");
    let envelope = Envelope {
        id: EnvelopeId([id; 16]),
        to: Address::parse(to).unwrap(),
        from: None,
        sent_at: Timestamp(1),
        keyed: false,
        hops: 0,
        trace: None,
        messages: vec![message],
    };
    let (id, at) = (EnvelopeId([id; 16]), Timestamp(u64::from(id)));
    DeadLetter { id, at, reason: Reason::Exhausted, error: "it failed".into(), attempts: 5, envelope }
}

fn malformed(id: u8) -> MalformedRecord {
    let mut record = MalformedRecord::new(Timestamp(u64::from(id)), "orders", "17", "no key", b"secret", 100);
    record.id = EnvelopeId([id; 16]);
    record
}

fn id_of(id: u8) -> String {
    EnvelopeId([id; 16]).to_string()
}

fn dead(id: u8, to: &str) -> String {
    letter_to_json(&letter(id, to))
}

/// An answer with these bodies; receipts are `r` and the body's place.
fn received(bodies: &[String]) -> Answer {
    let message = |(place, body): (usize, &String)| json!({"MessageId": format!("m{place}"), "ReceiptHandle": format!("r{place}"), "Body": body});
    let messages: Vec<_> = bodies.iter().enumerate().map(message).collect();
    Some((200, json!({ "Messages": messages }).to_string()))
}

fn sent() -> Answer {
    Some((200, json!({"Successful": [{"Id": "0", "MessageId": "m", "MD5OfMessageBody": "x"}], "Failed": []}).to_string()))
}

fn shown() -> Answer {
    Some((200, json!({"Successful": [{"Id": "0"}], "Failed": []}).to_string()))
}

fn queue(answers: impl IntoIterator<Item = Answer>) -> (DeadLetterQueue, Receivers<'static>, Script) {
    let (clients, script) = Script::clients(answers);
    let batcher = Batcher::new(Arc::new(SqsRequests(clients.sqs.clone())), Arc::new(SystemClock), InFlight::default());
    let mut functions = FunctionQueues::default();
    functions.function(TypeName::from_static("a/b"), ["https://sqs.example/1/b.fifo".to_owned()]);
    functions.function(TypeName::from_static("a/c"), ["https://sqs.example/1/c.fifo".to_owned()]);
    let out = Sink::Sqs { queue_url: "https://sqs.example/1/out".to_owned() };
    let egress = AwsEgress::new(clients.clone(), [(TypeName::from_static("a/out"), out.into())].into());
    // A test's process is short.
    let (queues, egress) =
        (Box::leak(Box::new(SqsQueues::new(batcher.clone(), Arc::new(functions)))), Box::leak(Box::new(egress)));
    (DeadLetterQueue::new(&clients, batcher, "https://sqs.example/1/letters.fifo"), Receivers { queues, egress }, script)
}

fn soon() -> Moment {
    SystemClock.moment().plus(Duration::from_secs(20))
}

fn of_function(name: &'static str) -> Selection {
    Selection { function: Some(TypeName::from_static(name)), ..Selection::default() }
}

fn of_ids(ids: &[u8]) -> Selection {
    Selection { ids: Some(ids.iter().map(|id| id_of(*id)).collect()), ..Selection::default() }
}

/// What was asked by calls of this name.
fn asked(script: &Script, operation: &str) -> Vec<Value> {
    script.asked().into_iter().filter(|(name, _)| name == operation).map(|(_, body)| body).collect()
}

fn sent_to(script: &Script) -> Vec<String> {
    let to = |body: &Value| {
        let envelope: Value = serde_json::from_str(body["Entries"][0]["MessageBody"].as_str().unwrap()).unwrap();
        envelope["to"].as_str().unwrap_or_default().to_owned()
    };
    asked(script, "SendMessageBatch").iter().map(to).collect()
}

#[tokio::test]
async fn letters_are_sent_again_in_the_order_they_were_parked_and_deleted() {
    let page = received(&[dead(2, "a/b/x"), dead(1, "a/b/x")]);
    let (letters, queues, script) = queue([page, received(&[]), sent(), fine(), sent(), fine()]);
    let replayed = letters.replay(queues, &Selection::default(), 10, soon()).await.unwrap();
    assert_eq!(replayed, Replayed { sent: 2, ..Replayed::default() });
    let receipts: Vec<_> = asked(&script, "DeleteMessage").iter().map(|body| body["ReceiptHandle"].clone()).collect();
    assert_eq!(receipts, ["r1", "r0"]);
    assert!(script.is_over() && asked(&script, "ChangeMessageVisibilityBatch").is_empty(), "nothing is left to show again");
    let receive = &asked(&script, "ReceiveMessage")[0];
    assert_eq!(receive["WaitTimeSeconds"], 1, "a short poll may find nothing where there is something");
    assert!((30..=32).contains(&receive["VisibilityTimeout"].as_i64().unwrap()), "hidden for longer than the pass: {receive}");
}

fn refused(id: u8) -> String {
    let record = EgressRecord {
        id: EnvelopeId([id; 16]),
        egress: TypeName::from_static("a/out"),
        from: Address::parse("a/b/Bob").unwrap(),
        at: Timestamp(1),
        value: TypedValue::of(&format!("value {id}")).unwrap(),
    };
    refused_to_json(&RefusedRecord::new(record, "InvalidMessageContents".to_owned(), 5, Timestamp(u64::from(id))))
}

#[tokio::test]
async fn a_refused_record_goes_to_its_egress_again_under_its_own_id() {
    let (letters, to, script) = queue([received(&[refused(2), dead(1, "a/b/x")]), received(&[]), sent(), fine(), sent(), fine()]);
    let replayed = letters.replay(to, &Selection::default(), 10, soon()).await.unwrap();
    assert_eq!(replayed, Replayed { sent: 2, ..Replayed::default() });
    let record = &asked(&script, "SendMessageBatch")[1];
    assert_eq!(
        (&record["QueueUrl"], &record["Entries"][0]["MessageBody"]),
        (&json!("https://sqs.example/1/out"), &json!("value 2"))
    );
    assert_eq!(record["Entries"][0]["MessageAttributes"]["statefun-id"]["StringValue"], id_of(2));
    assert_eq!(asked(&script, "DeleteMessage")[1]["ReceiptHandle"], "r0");
}

#[tokio::test]
async fn a_record_that_is_refused_again_stays_and_so_do_those_behind_it() {
    let no = json!({"Successful": [], "Failed": [{"Id": "0", "SenderFault": true, "Code": "InvalidMessageContents"}]});
    let answers = [received(&[refused(1), refused(2)]), received(&[]), Some((200, no.to_string())), shown()];
    let (letters, to, script) = queue(answers);
    let replayed = letters.replay(to, &Selection::default(), 10, soon()).await.unwrap();
    assert_eq!(replayed, Replayed { refused: 1, left: 1, ..Replayed::default() });
    assert!(script.is_over() && asked(&script, "DeleteMessage").is_empty());
}

#[tokio::test]
async fn a_refused_record_is_kept_under_its_own_id_so_that_a_copy_of_its_letter_collapses() {
    let (letters, _, script) = queue([sent(), sent()]);
    let Ok(Letter::Refused(refused)) = statefun_core::stored::letter_from_json(refused(3).as_bytes()) else { panic!() };
    letters.park_refused(&refused).await.unwrap();
    letters.park_refused(&RefusedRecord { at: Timestamp(99), ..*refused }).await.unwrap();
    for body in asked(&script, "SendMessageBatch") {
        assert_eq!(body["Entries"][0]["MessageDeduplicationId"], id_of(3));
    }
}

#[tokio::test]
async fn a_letter_that_cannot_be_deleted_is_sent_again_under_the_same_new_id() {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let refused = error("AccessDenied", "");
        let (letters, queues, script) = queue([received(&[dead(1, "a/b/x")]), received(&[]), sent(), refused, shown()]);
        letters.replay(queues, &Selection::default(), 10, soon()).await.unwrap_err();
        ids.push(asked(&script, "SendMessageBatch")[0]["Entries"][0]["MessageDeduplicationId"].clone());
        assert!(script.is_over(), "what is left is shown again");
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], id_of(1));
}

#[tokio::test]
async fn only_what_is_selected_is_sent() {
    let bodies = [dead(1, "a/b/x"), dead(2, "a/c/y"), malformed_to_json(&malformed(3)), "no letter".into(), dead(4, "a/gone/z")];
    for (selection, to, left, missing) in
        [(of_function("a/c"), "a/c/y", 2 + 1, vec![]), (of_ids(&[1, 9]), "a/b/x", 2 + 1, vec![id_of(9)])]
    {
        let (letters, queues, script) = queue([received(&bodies), received(&[]), sent(), fine(), shown()]);
        let replayed = letters.replay(queues, &selection, 10, soon()).await.unwrap();
        assert_eq!(replayed, Replayed { sent: 1, left, malformed: 1, missing, ..Replayed::default() });
        assert_eq!(sent_to(&script), [to]);
        let shown = &asked(&script, "ChangeMessageVisibilityBatch")[0]["Entries"];
        assert_eq!(shown.as_array().unwrap().len(), 4, "who looks next sees them: {shown}");
        assert!(shown.as_array().unwrap().iter().all(|entry| entry["VisibilityTimeout"] == 0));
    }
}

#[tokio::test]
async fn a_function_without_queue_holds_up_no_other() {
    let (letters, queues, script) =
        queue([received(&[dead(1, "a/gone/x"), dead(2, "a/b/y")]), received(&[]), sent(), fine(), shown()]);
    let replayed = letters.replay(queues, &Selection::default(), 10, soon()).await.unwrap();
    assert_eq!(replayed, Replayed { sent: 1, no_queue: 1, ..Replayed::default() });
    assert_eq!(sent_to(&script), ["a/b/y"]);
}

#[tokio::test]
async fn what_may_have_been_applied_is_left_unless_that_is_asked_for() {
    let old = letter_to_json(&DeadLetter { reason: Reason::TooOld, ..letter(1, "a/b/x") });
    let bodies = [old, dead(2, "a/b/y"), dead(3, "a/c/z")];
    let all = Selection::default();
    let asked_for = |selection| Selection { may_be_applied: true, ..selection };
    for (selection, to, left, may_be_applied) in [
        (all.clone(), vec!["a/b/y", "a/c/z"], 0, 1),
        (of_ids(&[1]), vec![], 2, 1),
        (of_function("a/c"), vec!["a/c/z"], 2, 0),
        (asked_for(all), vec!["a/b/x", "a/b/y", "a/c/z"], 0, 0),
        (asked_for(of_ids(&[1])), vec!["a/b/x"], 2, 0),
    ] {
        let sends = to.iter().flat_map(|_| [sent(), fine()]);
        let (letters, queues, script) = queue([received(&bodies), received(&[])].into_iter().chain(sends).chain([shown()]));
        let replayed = letters.replay(queues, &selection, 10, soon()).await.unwrap();
        assert_eq!(replayed, Replayed { sent: to.len(), left, may_be_applied, ..Replayed::default() });
        assert_eq!(sent_to(&script), to, "{selection:?}");
    }
}

/// Pages of what is not sent are not the end.
#[tokio::test]
async fn a_page_without_anything_to_send_is_passed() {
    let nothing = received(&["no letter".to_owned(), malformed_to_json(&malformed(1))]);
    let (letters, queues, script) = queue([nothing, received(&[dead(2, "a/b/x")]), received(&[]), sent(), fine(), shown()]);
    let replayed = letters.replay(queues, &Selection::default(), 10, soon()).await.unwrap();
    assert_eq!(replayed, Replayed { sent: 1, left: 1, malformed: 1, ..Replayed::default() });
    assert!(script.is_over());
}

#[tokio::test]
async fn no_more_are_sent_than_asked_for_and_the_oldest_first() {
    let (letters, queues, script) = queue([received(&[dead(2, "a/b/x"), dead(1, "a/b/y")]), sent(), fine(), shown()]);
    let replayed = letters.replay(queues, &Selection::default(), 1, soon()).await.unwrap();
    assert_eq!(replayed, Replayed { sent: 1, left: 1, more: true, ..Replayed::default() });
    assert_eq!(sent_to(&script), ["a/b/y"]);
}

#[tokio::test]
async fn what_fails_holds_up_only_what_is_behind_it() {
    let page = received(&[dead(1, "a/b/x"), dead(2, "a/b/x"), dead(3, "a/c/y")]);
    let (letters, queues, script) = queue([page, received(&[]), error("AccessDenied", ""), sent(), fine(), shown()]);
    letters.replay(queues, &Selection::default(), 10, soon()).await.unwrap_err();
    assert_eq!(sent_to(&script), ["a/b/x", "a/c/y"]);
    assert!(script.is_over());
}

#[tokio::test]
async fn a_listing_tells_all_without_payloads_and_changes_nothing() {
    let bodies = [dead(2, "a/b/x"), malformed_to_json(&malformed(1)), "no letter".to_owned()];
    for payloads in [false, true] {
        let (letters, _, script) = queue([received(&bodies), received(&[]), shown()]);
        let listed = letters.list(10, payloads, soon()).await.unwrap();
        let (mut second, mut first) = (letter(2, "a/b/x"), malformed(1));
        if !payloads {
            second.envelope.messages.clear();
            first.raw.clear();
        }
        let ids: Vec<_> = listed.entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["m2", &id_of(1), &id_of(2)]);
        assert!(listed.entries[0].letter.is_err() && !listed.more);
        assert_eq!(listed.entries[1].letter, Ok(Letter::Malformed(first)));
        assert_eq!(listed.entries[2].letter, Ok(Letter::Dead(Box::new(second))));
        assert_eq!(script.operations(), ["ReceiveMessage", "ReceiveMessage", "ChangeMessageVisibilityBatch"]);
    }
}

#[tokio::test]
async fn a_listing_fits_into_an_answer() {
    let mut big = letter(1, "a/b/x");
    big.envelope.messages = vec![TypedValue::present(TypeName::from_static("a/v"), vec![b'x'; 1_000_000])];
    let bodies = vec![letter_to_json(&big); 5];
    for (payloads, max, listed, more) in [(true, 10, 3, true), (false, 10, 5, false), (false, 2, 2, true)] {
        let (letters, _, _) = queue([received(&bodies), received(&[]), shown()]);
        let answer = letters.list(max, payloads, soon()).await.unwrap();
        assert_eq!((answer.entries.len(), answer.more), (listed, more));
    }
}

#[tokio::test]
async fn letters_are_deleted_by_id_and_malformed_ones_all_at_once() {
    let bodies = [dead(1, "a/b/x"), malformed_to_json(&malformed(2)), "no letter".to_owned(), malformed_to_json(&malformed(3))];
    for (ids, all_malformed, receipts, missing) in [
        (vec![id_of(1), id_of(9)], false, vec!["r0"], vec![id_of(9)]),
        (vec![], true, vec!["r1", "r3"], vec![]),
        (vec!["m2".to_owned(), id_of(2)], false, vec!["r1", "r2"], vec![]),
    ] {
        let mut answers = vec![received(&bodies)];
        answers.extend(receipts.iter().map(|_| fine()));
        let (letters, _, script) = queue(answers.into_iter().chain([received(&[]), shown()]));
        let deleted = letters.delete(&ids.into_iter().collect(), all_malformed, soon()).await.unwrap();
        assert_eq!(deleted, Deleted { deleted: receipts.len(), missing, more: false });
        let gone: Vec<_> = asked(&script, "DeleteMessage").iter().map(|body| body["ReceiptHandle"].clone()).collect();
        assert_eq!(gone, receipts);
        assert_eq!(asked(&script, "ChangeMessageVisibilityBatch")[0]["Entries"].as_array().unwrap().len(), 4 - receipts.len());
    }
}

#[tokio::test]
async fn every_letter_is_a_group_of_its_own() {
    let (letters, _, script) = queue([sent(), sent()]);
    letters.park(&letter(1, "a/b/x")).await.unwrap();
    letters.park_malformed(&malformed(2)).await.unwrap();
    let groups: Vec<_> =
        asked(&script, "SendMessageBatch").iter().map(|body| body["Entries"][0]["MessageGroupId"].clone()).collect();
    assert_eq!(groups, [id_of(1), id_of(2)]);
}

#[test]
fn a_letter_that_is_too_big_is_cut_into_letters() {
    let message = |size| TypedValue::present(TypeName::from_static("a/v"), vec![b'x'; size]);
    let envelope = Envelope {
        id: EnvelopeId([1; 16]),
        to: Address::parse("a/b/c").unwrap(),
        from: None,
        sent_at: Timestamp(1),
        keyed: false,
        hops: 0,
        trace: None,
        messages: vec![message(300_000), message(300_000), message(300_000), message(148_000)],
    };
    let letter = DeadLetter {
        id: EnvelopeId([2; 16]),
        at: Timestamp(2),
        reason: Reason::Died,
        error: "x".repeat(2_000),
        attempts: 5,
        envelope,
    };
    let parts = fitting(letter.clone());
    assert_eq!(parts.iter().map(|part| part.envelope.messages.len()).collect::<Vec<_>>(), [2, 2]);
    assert!(parts[0].id == letter.id && parts[1].id != letter.id);
    assert_eq!(fitting(letter.clone()), parts, "the same parts each time");
    let messages: Vec<_> = parts.into_iter().flat_map(|part| part.envelope.messages).collect();
    assert_eq!(messages, letter.envelope.messages);
}
