//! What goes over the wire, and what is made of the answers: against a service that says what the test tells it to.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use statefun_core::{TypeName, TypedValue};
use statefun_engine::ports::PortErrorKind;

use super::{tests::record, *};

type Bodies = Arc<Mutex<Vec<String>>>;

/// A service that gives these answers, one per request, and keeps what it was sent.
fn service(answers: Vec<(u16, String)>) -> (String, Bodies) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let bodies = Bodies::default();
    let kept = bodies.clone();
    std::thread::spawn(move || {
        for (status, answer) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            kept.lock().unwrap().push(body_of(&mut stream));
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
            stream.write_all(format!("{head}{answer}").as_bytes()).unwrap();
        }
    });
    (endpoint, bodies)
}

fn body_of(stream: &mut TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    while reader.read_line(&mut line).unwrap() > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

/// Sends texts, each from the instance of its number, to a sink; what became of each.
async fn emit(endpoint: &str, sink: Sink, texts: &[&str]) -> Vec<Option<PortErrorKind>> {
    let clients = Clients::for_endpoint(endpoint, "eu-west-1", "000000000001").await;
    let egress = AwsEgress::new(clients, [(TypeName::from_static("example/out"), sink.into())].into());
    let value = |text: &str| TypedValue::present(TypeName::from_static("a/b"), text.to_owned());
    let records: Vec<_> =
        texts.iter().enumerate().map(|(index, text)| record(index as u8, &format!("i{index}"), value(text))).collect();
    let results = egress.emit(&records.iter().collect::<Vec<_>>()).await;
    results.into_iter().map(|result| result.err().map(|error| error.kind)).collect()
}

fn sent(bodies: &Bodies) -> Value {
    serde_json::from_str(&bodies.lock().unwrap()[0]).unwrap()
}

#[tokio::test]
async fn sqs_tells_entry_by_entry() {
    use PortErrorKind::{Refused, Rejected, Throttled, Unavailable};
    let answer = json!({
        "Successful": [{"Id": "0", "MessageId": "m", "MD5OfMessageBody": "x"}],
        "Failed": [
            {"Id": "1", "SenderFault": false, "Code": "InternalError", "Message": "oh"},
            {"Id": "2", "SenderFault": true, "Code": "RequestThrottled"},
            {"Id": "3", "SenderFault": true, "Code": "InvalidMessageContents"},
            {"Id": "4", "SenderFault": true, "Code": "AccessDenied"},
        ],
    });
    let (endpoint, bodies) = service(vec![(200, answer.to_string())]);
    let sink = Sink::Sqs { queue_url: format!("{endpoint}/1/out.fifo") };
    let results = emit(&endpoint, sink, &["a", "b", "c", "d", "e", "f"]).await;
    assert_eq!(results, [None, Some(Unavailable), Some(Throttled), Some(Rejected), Some(Refused), Some(Unavailable)]);
    let entry = &sent(&bodies)["Entries"][1];
    assert_eq!((&entry["MessageBody"], &entry["MessageGroupId"]), (&json!("b"), &json!("a/b/i1")));
    assert_eq!(entry["MessageDeduplicationId"], json!("01".repeat(16)));
    assert_eq!(entry["MessageAttributes"]["statefun-type"], json!({"DataType": "String", "StringValue": "a/b"}));
}

#[tokio::test]
async fn sns_tells_entry_by_entry() {
    let answer = "<PublishBatchResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishBatchResult><Successful><member>\
        <Id>0</Id><MessageId>m</MessageId></member></Successful><Failed><member><Id>1</Id><Code>Throttling</Code>\
        <SenderFault>true</SenderFault></member></Failed></PublishBatchResult></PublishBatchResponse>";
    let (endpoint, bodies) = service(vec![(200, answer.to_owned())]);
    let sink = Sink::Sns { topic_arn: "arn:aws:sns:eu-west-1:123456789012:out".to_owned() };
    assert_eq!(emit(&endpoint, sink, &["a", "b"]).await, [None, Some(PortErrorKind::Throttled)]);
    let form = bodies.lock().unwrap()[0].clone();
    assert!(form.contains("Action=PublishBatch") && form.contains("Message=b"), "{form}");
    assert!(!form.contains("MessageGroupId"), "a standard topic has no groups: {form}");
}

#[tokio::test]
async fn kinesis_tells_entry_by_entry() {
    let answer = json!({
        "FailedRecordCount": 1,
        "Records": [
            {"SequenceNumber": "1", "ShardId": "s"},
            {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slowly"},
            {"ErrorCode": "InternalFailure"},
        ],
    });
    let (endpoint, bodies) = service(vec![(200, answer.to_string())]);
    let results = emit(&endpoint, Sink::Kinesis { stream: "out".to_owned() }, &["a", "b", "c"]).await;
    assert_eq!(results, [None, Some(PortErrorKind::Throttled), Some(PortErrorKind::Unavailable)]);
    let body = sent(&bodies);
    assert_eq!((&body["StreamName"], &body["Records"][2]["PartitionKey"]), (&json!("out"), &json!("i2")));
}

#[tokio::test]
async fn a_request_that_is_refused_for_what_is_in_it_is_sent_record_by_record() {
    let refused = || (400, json!({"__type": "ValidationException", "message": "too long"}).to_string());
    let fine = || (200, json!({"FailedRecordCount": 0, "Records": [{"SequenceNumber": "1", "ShardId": "s"}]}).to_string());
    let (endpoint, bodies) = service(vec![refused(), fine(), refused(), fine()]);
    let results = emit(&endpoint, Sink::Kinesis { stream: "out".to_owned() }, &["a", "b", "c"]).await;
    // Alone it may as well be the stream's name that is wrong.
    assert_eq!(results, [None, Some(PortErrorKind::Refused), None]);
    assert_eq!(bodies.lock().unwrap().len(), 4);

    let refused = || (400, json!({"__type": "com.amazonaws.sqs#BatchRequestTooLong", "message": "too long"}).to_string());
    let fine = || {
        let entry = json!({"Id": "0", "MessageId": "m", "MD5OfMessageBody": "x"});
        (200, json!({"Successful": [entry], "Failed": []}).to_string())
    };
    let (endpoint, _) = service(vec![refused(), fine(), refused()]);
    let sink = Sink::Sqs { queue_url: format!("{endpoint}/1/out") };
    assert_eq!(emit(&endpoint, sink, &["a", "b"]).await, [None, Some(PortErrorKind::Rejected)]);
}

#[tokio::test]
async fn a_stream_that_is_missing_is_refused_for_all() {
    let answer = json!({"__type": "ResourceNotFoundException", "message": "no stream"}).to_string();
    let (endpoint, _) = service(vec![(400, answer)]);
    let results = emit(&endpoint, Sink::Kinesis { stream: "out".to_owned() }, &["a", "b"]).await;
    assert_eq!(results, [Some(PortErrorKind::Refused); 2]);
}

#[tokio::test]
async fn a_service_that_is_down_is_unavailable() {
    let (endpoint, _) = service(vec![(503, String::new()); 3]);
    let sink = Sink::Sqs { queue_url: format!("{endpoint}/1/out") };
    assert_eq!(emit(&endpoint, sink, &["a"]).await, [Some(PortErrorKind::Unavailable)]);
}
