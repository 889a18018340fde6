//! What the store makes of DynamoDB's answers, each given by hand.

use statefun_core::{Address, Commit, EnvelopeId, Held, Record, Segment, Spilled, Timestamp};
use statefun_engine::ports::{Acquired, Clock, Committed, InstanceStore, PortErrorKind};

use super::DynamoStore;
use crate::script::{Answer, Script, error, fine};

fn store(answers: impl IntoIterator<Item = Answer>) -> (DynamoStore, Script) {
    let (clients, script) = Script::clients(answers);
    (DynamoStore::new(&clients, "table"), script)
}

fn failed_condition(epoch: u64, version: u64) -> Answer {
    error("ConditionalCheckFailedException", &format!(r#","Item":{{"e":{{"N":"{epoch}"}},"v":{{"N":"{version}"}}}}"#))
}

fn cancelled(codes: &[&str]) -> Answer {
    let reasons: Vec<_> = codes.iter().map(|code| format!(r#"{{"Code":"{code}"}}"#)).collect();
    error("TransactionCanceledException", &format!(r#","CancellationReasons":[{}]"#, reasons.join(",")))
}

fn address() -> Address {
    Address::parse("a/b/c").unwrap()
}

/// A commit from epoch 3, version 7.
fn commit(segment: Option<bool>) -> Commit {
    let segment = segment.map(|fresh| Segment {
        number: 1,
        ids: vec![Spilled { id: EnvelopeId([1; 16]), expires: Timestamp(5_000) }],
        newest: Timestamp(5),
        expires: Timestamp(9_000),
        fresh,
    });
    let record = Record { epoch: 3, version: 8, ..Record::default() };
    Commit { address: address(), expect: Held { epoch: 3, version: 7 }, record, changed: Vec::new(), segment }
}

async fn committed(answers: impl IntoIterator<Item = Answer>, segment: Option<bool>) -> Result<Committed, PortErrorKind> {
    let (store, script) = store(answers);
    let result = store.commit(&commit(segment)).await.map_err(|error| error.kind);
    assert!(script.is_over(), "an answer was not asked for");
    result
}

#[tokio::test]
async fn a_failed_condition_is_a_fence_unless_our_own_lost_write_made_it_fail() {
    assert_eq!(committed([fine()], None).await, Ok(Committed::Stored));
    assert_eq!(committed([failed_condition(3, 8)], None).await, Ok(Committed::Fenced), "nothing of ours was under way");
    for lost in [None, error("InternalServerError", "")] {
        assert_eq!(committed([lost.clone(), failed_condition(3, 8)], None).await, Ok(Committed::Stored));
        assert_eq!(committed([lost.clone(), failed_condition(4, 8)], None).await, Ok(Committed::Fenced));
        assert_eq!(committed([lost.clone(), failed_condition(3, 9)], None).await, Ok(Committed::Fenced));
        assert_eq!(committed([lost, fine()], None).await, Ok(Committed::Stored));
    }
    let throttled = error("ProvisionedThroughputExceededException", "");
    assert_eq!(committed([throttled, failed_condition(3, 8)], None).await, Ok(Committed::Fenced), "throttled: it had no effect");
}

#[tokio::test]
async fn what_can_pass_is_tried_again_and_what_cannot_is_not() {
    let throttled = || error("ThrottlingException", "");
    assert_eq!(committed([throttled(), throttled(), fine()], None).await, Ok(Committed::Stored));
    assert_eq!(committed([throttled(), throttled(), throttled()], None).await, Err(PortErrorKind::Throttled));
    assert_eq!(committed([None, None, None], None).await, Err(PortErrorKind::Unavailable));
    assert_eq!(committed([error("TransactionConflictException", ""), fine()], None).await, Ok(Committed::Stored));
    for code in ["ResourceNotFoundException", "AccessDeniedException", "ValidationException"] {
        assert_eq!(committed([error(code, "")], None).await, Err(PortErrorKind::Refused), "{code}");
    }
}

#[tokio::test]
async fn a_transaction_has_one_token_for_all_its_tries() {
    assert_eq!(committed([cancelled(&["ConditionalCheckFailed", "None"])], Some(true)).await, Ok(Committed::Fenced));
    let (store, script) = store([cancelled(&["None", "TransactionConflict"]), None, fine()]);
    assert_eq!(store.commit(&commit(Some(true))).await.unwrap(), Committed::Stored);
    let asked = script.asked();
    let tokens: Vec<_> = asked.iter().map(|(_, body)| body["ClientRequestToken"].as_str().unwrap().to_owned()).collect();
    assert!(asked.len() == 3 && asked.iter().all(|(target, _)| target == "TransactWriteItems"));
    assert!(tokens.iter().all(|token| *token == tokens[0] && token.len() == 32), "{tokens:?}");
}

#[tokio::test]
async fn a_segment_of_earlier_entries_comes_before_its_commit() {
    let (store, script) = store([fine(), fine()]);
    assert_eq!(store.commit(&commit(Some(false))).await.unwrap(), Committed::Stored);
    let targets = script.operations();
    assert_eq!(targets, ["PutItem", "UpdateItem"]);
    let (store, script) = self::store([error("AccessDeniedException", "")]);
    assert_eq!(store.commit(&commit(Some(false))).await.unwrap_err().kind, PortErrorKind::Refused);
    assert_eq!(script.asked().len(), 1, "without its segment a commit must not be");
}

#[tokio::test]
async fn a_lease_is_taken_in_one_write_that_returns_the_record() {
    let item = r#"{"Attributes":{"b":{"N":"5"},"e":{"N":"2"},"u":{"N":"20"},"v":{"N":"0"}}}"#;
    let (store, script) = store([Some((200, item.to_owned())), failed_condition(2, 0)]);
    let acquired = store.acquire(&address(), Timestamp(10), Timestamp(20)).await.unwrap();
    let expected = Record { born: Timestamp(5), epoch: 2, lease_until: Timestamp(20), ..Record::default() };
    assert_eq!(acquired, Acquired::Held(Box::new(expected)));
    assert_eq!(store.acquire(&address(), Timestamp(10), Timestamp(20)).await.unwrap(), Acquired::Busy);
    let asked = script.asked();
    assert!(asked.len() == 2 && asked.iter().all(|(target, _)| target == "UpdateItem"));
    assert_ne!(asked[0].1["ExpressionAttributeValues"][":holder"], asked[1].1["ExpressionAttributeValues"][":holder"]);
}

/// The engine does not learn of it, so nobody else would give it back.
#[tokio::test]
async fn a_lease_whose_record_cannot_be_loaded_is_given_back() {
    // Two parts of an outbox lie in items of their own.
    let item = r#"{"Attributes":{"b":{"N":"5"},"e":{"N":"2"},"u":{"N":"20"},"v":{"N":"1"},"p":{"N":"2"}}}"#;
    let (store, script) = store([Some((200, item.to_owned())), error("AccessDeniedException", ""), fine()]);
    let error = store.acquire(&address(), Timestamp(10), Timestamp(20)).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Refused);
    assert_eq!(script.operations(), ["UpdateItem", "Query", "UpdateItem"]);
    let release = &script.asked()[2].1;
    assert_eq!(release["ExpressionAttributeValues"][":epoch"]["N"], "2", "only this lease: {release}");
    assert_eq!(release["UpdateExpression"], "SET u = :zero");
}

#[tokio::test]
async fn finishing_says_whether_it_was_ours_to_finish() {
    let held = Held { epoch: 3, version: 8 };
    let (store, _) = store([fine(), failed_condition(4, 8), error("AccessDeniedException", "")]);
    assert!(store.finish(&address(), held).await.unwrap());
    assert!(!store.finish(&address(), held).await.unwrap());
    assert_eq!(store.finish(&address(), held).await.unwrap_err().kind, PortErrorKind::Refused);
}

#[tokio::test]
async fn every_page_of_the_segments_is_read() {
    let page = |bytes: &str, more: &str| Some((200, format!(r#"{{"Items":[{{"d":{{"B":"{bytes}"}}}}]{more}}}"#)));
    let last = r#","LastEvaluatedKey":{"pk":{"S":"a/b/c"},"sk":{"S":"s#1"}}"#;
    // 16 bytes of 1, and of 2, in base64.
    let (one, two) = ("AQEBAQEBAQEBAQEBAQEBAQ==", "AgICAgICAgICAgICAgICAg==");
    let (store, script) = store([page(one, last), page(two, "")]);
    let wanted = [EnvelopeId([2; 16]), EnvelopeId([3; 16])];
    assert_eq!(store.spilled(&address(), &wanted, Timestamp(0)).await.unwrap(), [EnvelopeId([2; 16])]);
    let asked = script.asked();
    assert_eq!(asked[1].1["ExclusiveStartKey"]["sk"]["S"], "s#1");
    assert!(asked.iter().all(|(_, body)| body["ConsistentRead"] == true));
}

/// Every keyed message asks for its id: one is found without reading all segments.
#[tokio::test]
async fn ids_of_producers_keys_have_items_of_their_own() {
    let (store, script) = store([fine(), fine(), fine()]);
    let mut commit = commit(Some(false));
    let key = EnvelopeId([2; 16]).keyed();
    commit.segment.as_mut().unwrap().ids.push(Spilled { id: key, expires: Timestamp(7_000) });
    assert_eq!(store.commit(&commit).await.unwrap(), Committed::Stored);
    let asked = script.asked();
    let mut sorts: Vec<_> = asked.iter().filter_map(|(_, body)| body["Item"]["sk"]["S"].as_str()).collect();
    sorts.sort_unstable();
    assert!(sorts.len() == 2 && sorts[0] == format!("k#{key}") && sorts[1].starts_with("s#"), "{sorts:?}");
    assert_eq!(asked[2].0, "UpdateItem", "after both");
    let of_key = asked.iter().find(|(_, body)| body["Item"]["sk"]["S"] == format!("k#{key}"));
    assert_eq!(of_key.unwrap().1["Item"]["ttl"]["N"], "7", "its own time, not the segment's");

    let until = |seconds: u64| Some((200, format!(r#"{{"Items":[{{"sk":{{"S":"k#{key}"}},"ttl":{{"N":"{seconds}"}}}}]}}"#)));
    let now = crate::SystemClock.now().0 / 1_000;
    let (store, script) = self::store([until(now + 60), until(now - 60), Some((200, r#"{"Items":[]}"#.to_owned()))]);
    let (late, other) = (EnvelopeId([3; 16]).keyed(), EnvelopeId([4; 16]).keyed());
    assert_eq!(store.spilled(&address(), &[key, late, other], Timestamp::ZERO).await.unwrap(), [key]);
    assert_eq!(script.asked().len(), 3, "no segments were read");
}
