//! Records that a producer's library packed.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use md5::{Digest, Md5};

use super::*;

/// A field of at most 16 KiB.
fn field(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | 2);
    message.extend([(bytes.len() & 0x7f) as u8 | 0x80, (bytes.len() >> 7) as u8]);
    message.extend(bytes);
}

/// An event of one record with these user records, all of one key.
fn event(key: &str, bodies: &[String]) -> Value {
    let mut message = Vec::new();
    field(&mut message, 1, key.as_bytes());
    for body in bodies {
        let mut record = vec![1 << 3, 0];
        field(&mut record, 3, body.as_bytes());
        field(&mut message, 3, &record);
    }
    let data = [&[0xf3, 0x89, 0x9a, 0xc2], &*message, &Md5::digest(&message)].concat();
    let mut event = kinesis();
    event["Records"][0]["kinesis"]["data"] = json!(BASE64.encode(data));
    event
}

fn number() -> String {
    kinesis()["Records"][0]["kinesis"]["sequenceNumber"].as_str().unwrap().to_owned()
}

/// One for each user record would take longer than an invocation can, and each try would begin at the first.
#[tokio::test]
async fn ten_thousand_user_records_of_one_key_are_few_envelopes() {
    let fixture = Fixture::new();
    let bodies: Vec<_> = (0..10_000).map(|number| number.to_string()).collect();
    assert_eq!(fixture.handle(event("Bob", &bodies)).await.unwrap(), none());
    let first = std::mem::take(&mut *fixture.memory.sent.lock().unwrap());
    assert_eq!(first.len(), 10);
    let texts: Vec<_> =
        first.iter().flat_map(|sent| &sent.messages).map(|value| value.get::<String>().unwrap().unwrap()).collect();
    assert_eq!(texts, bodies);
    fixture.handle(event("Bob", &bodies)).await.unwrap();
    assert_eq!(*fixture.memory.sent.lock().unwrap(), first, "again the same");
}

#[tokio::test]
async fn a_failed_one_comes_again_as_a_whole() {
    let fixture = Fixture::new();
    fixture.memory.queue_down.lock().unwrap().push("example/greeter/Bob".to_owned());
    let failed = fixture.handle(event("Bob", &["a".to_owned(), "b".to_owned()])).await.unwrap();
    assert_eq!(failed, json!({"batchItemFailures": [{"itemIdentifier": number()}]}));
}

#[tokio::test]
async fn one_that_is_beyond_all_limits_is_parked_as_a_whole() {
    let fixture = Fixture::new();
    assert_eq!(fixture.handle(event(&"k".repeat(257), &["a".to_owned(), "b".to_owned()])).await.unwrap(), none());
    assert_eq!(fixture.sent(), []);
    let malformed = std::mem::take(&mut *fixture.memory.malformed.lock().unwrap());
    let [letter] = &*malformed else { panic!("{malformed:?}") };
    assert!(letter.reason.contains("a key of 257 characters"), "{}", letter.reason);
    assert_eq!(letter.position, format!("shardId-000000000006:{}", number()));
    assert!(letter.raw.starts_with("base64:84ma"), "{}", letter.raw);
}
