//! What the store makes of DynamoDB's answers, each given by hand.

use statefun_core::{Address, Commit, EnvelopeId, Lease, Owner, Record, Segment, Spilled, Timestamp};
use statefun_engine::ports::{Clock, Committed, InstanceStore, Leased, Leasing, PortErrorKind};

use super::DynamoStore;
use crate::script::{Answer, Script, error, fine};

fn store(answers: impl IntoIterator<Item = Answer>) -> (DynamoStore, Script) {
    let (clients, script) = Script::clients(answers);
    (DynamoStore::new(&clients, "table"), script)
}

/// A condition that found a record with this tag.
fn failed_condition(tag: &str) -> Answer {
    error("ConditionalCheckFailedException", &format!(r#","Item":{{"t":{{"B":"{tag}"}},"v":{{"N":"8"}}}}"#))
}

/// The tag of this commit, and that of somebody else's.
const OURS: &str = "$TAG";
const OTHER: &str = "AAAAAAAAAAc=";

fn cancelled(codes: &[&str]) -> Answer {
    let reasons: Vec<_> = codes.iter().map(|code| format!(r#"{{"Code":"{code}"}}"#)).collect();
    error("TransactionCanceledException", &format!(r#","CancellationReasons":[{}]"#, reasons.join(",")))
}

fn address() -> Address {
    Address::parse("a/b/c").unwrap()
}

/// A commit on version 7.
fn commit(segment: Option<bool>) -> Commit {
    let segment = segment.map(|fresh| Segment {
        number: 1,
        ids: vec![Spilled { id: EnvelopeId([1; 16]), expires: Timestamp(5_000) }],
        newest: Timestamp(5),
        expires: Timestamp(9_000),
        fresh,
    });
    let record = Record { version: 8, ..Record::default() };
    Commit { address: address(), expect: 7, record, changed: Vec::new(), segment }
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
    assert_eq!(committed([failed_condition(OURS)], None).await, Ok(Committed::Fenced), "nothing of ours was under way");
    for lost in [None, error("InternalServerError", "")] {
        assert_eq!(committed([lost.clone(), failed_condition(OURS)], None).await, Ok(Committed::Stored));
        assert_eq!(committed([lost.clone(), failed_condition(OTHER)], None).await, Ok(Committed::Fenced));
        assert_eq!(committed([lost, fine()], None).await, Ok(Committed::Stored));
    }
    let throttled = error("ProvisionedThroughputExceededException", "");
    assert_eq!(committed([throttled, failed_condition(OURS)], None).await, Ok(Committed::Fenced), "throttled: it had no effect");
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
async fn reads_share_a_request_and_what_it_leaves_is_asked_for_again() {
    let item =
        |id: &str| format!(r#"{{"pk":{{"S":"a/b/{id}"}},"sk":{{"S":"r"}},"b":{{"N":"5"}},"c":{{"N":"2"}},"v":{{"N":"7"}}}}"#);
    let left = r#""UnprocessedKeys":{"table":{"Keys":[{"pk":{"S":"a/b/2"},"sk":{"S":"r"}}]}}"#;
    let first = format!(r#"{{"Responses":{{"table":[{}]}},{left}}}"#, item("3"));
    let second = format!(r#"{{"Responses":{{"table":[{}]}}}}"#, item("2"));
    let (store, script) = store([Some((200, first)), Some((200, second))]);
    let addresses = ["1", "2", "3"].map(|id| Address::parse(&format!("a/b/{id}")).unwrap());
    let found = store.load(&addresses.iter().collect::<Vec<_>>()).await;
    let versions: Vec<_> = found.into_iter().map(|found| found.unwrap().map(|record| record.version)).collect();
    assert_eq!(versions, [None, Some(7), Some(7)]);
    let asked = script.asked();
    assert_eq!(script.operations(), ["BatchGetItem", "BatchGetItem"]);
    let keys = |body: &serde_json::Value| body["RequestItems"]["table"]["Keys"].as_array().unwrap().len();
    assert_eq!((keys(&asked[0].1), keys(&asked[1].1)), (3, 1));
    assert!(asked.iter().all(|(_, body)| body["RequestItems"]["table"]["ConsistentRead"] == true));
}

#[tokio::test]
async fn a_record_of_a_later_protocol_is_not_touched() {
    let item = r#"{"Responses":{"table":[{"pk":{"S":"a/b/c"},"sk":{"S":"r"},"b":{"N":"5"},"c":{"N":"3"},"v":{"N":"7"}}]}}"#;
    let (store, _) = store([Some((200, item.to_owned()))]);
    let error = store.load(&[&address()]).await.pop().unwrap().unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Refused);
    assert!(error.source.to_string().contains("newer version"), "{}", error.source);
}

/// Protocol 1 takes a record if `u` is absent or past, and commits if `e` is what it knows.
#[tokio::test]
async fn protocol_1_can_take_no_record_that_was_written() {
    let (store, script) = store([fine(), fine(), fine(), fine()]);
    let lease = Lease { owner: Owner(3), until: Timestamp(9_000) };
    store.commit(&commit(None)).await.unwrap();
    store.commit(&commit(Some(true))).await.unwrap();
    store.finish(&address(), 7).await.unwrap();
    store.lease(&address(), &Leasing { expect: 7, makes: 8, born: Timestamp(5), lease }).await.unwrap();
    for (operation, body) in script.asked() {
        let update = if operation == "UpdateItem" { &body } else { &body["TransactItems"][0]["Update"] };
        let mut expression = update["UpdateExpression"].as_str().unwrap().replace(',', " ,") + " ";
        for (place, name) in update["ExpressionAttributeNames"].as_object().into_iter().flatten() {
            expression = expression.replace(&format!("{place} "), &format!("{} ", name.as_str().unwrap()));
        }
        let (sets, removes) = expression.split_once(" REMOVE ").unwrap();
        let set = |name: &str| {
            let place =
                sets.trim_start_matches("SET ").split(" , ").find_map(|set| set.strip_prefix(&format!("{name} = "))).unwrap();
            update["ExpressionAttributeValues"][place.trim()]["N"].as_str().unwrap()
        };
        assert_eq!((set("u"), set("c")), ("9000000000000000000", "2"), "{expression}");
        assert!(removes.split(',').any(|name| name.trim() == "e"), "{expression}");
    }
}

/// Others may write between the read of a record and that of what it keeps elsewhere.
#[tokio::test]
async fn a_torn_read_is_read_again_and_is_damage_only_if_nothing_changed() {
    let item = |version: u64| {
        let big = format!(r#""g":{{"N":"1"}},"s.a":{{"S":"1.{version}"}}"#);
        let item =
            format!(r#"{{"pk":{{"S":"a/b/c"}},"sk":{{"S":"r"}},"b":{{"N":"5"}},"c":{{"N":"2"}},"v":{{"N":"{version}"}},{big}}}"#);
        Some((200, format!(r#"{{"Responses":{{"table":[{item}]}}}}"#)))
    };
    // A state value of type `a/v`, in base64.
    let part = |version: u64| {
        let item = format!(r#"{{"sk":{{"S":"v#a#000"}},"n":{{"N":"{version}"}},"d":{{"B":"EgNhL3Y="}}}}"#);
        Some((200, format!(r#"{{"Items":[{item}]}}"#)))
    };
    let (whole, _) = store([item(8), part(9), item(9), part(9)]);
    let found = whole.load(&[&address()]).await.pop().unwrap().unwrap().unwrap();
    assert_eq!((found.version, found.state.len()), (9, 1));
    let (damaged, _) = store([item(8), part(7), item(8)]);
    assert_eq!(damaged.load(&[&address()]).await.pop().unwrap().unwrap_err().kind, PortErrorKind::Refused);
}

#[tokio::test]
async fn a_lease_is_taken_on_condition_of_the_version_or_is_found_to_be_ours() {
    let lease = Lease { owner: Owner(5), until: Timestamp(20) };
    let leasing = Leasing { expect: 7, makes: 8, born: Timestamp(5), lease };
    let (store, script) = store([fine(), failed_condition(OTHER)]);
    assert_eq!(store.lease(&address(), &leasing).await.unwrap(), Leased::Taken);
    assert_eq!(store.lease(&address(), &leasing).await.unwrap(), Leased::Refused);
    let condition = &script.asked()[0].1["ConditionExpression"];
    assert_eq!(condition, "v = :expect OR (v = :makes AND h = :owner)");
}

#[tokio::test]
async fn finishing_says_whether_it_was_ours_to_finish() {
    let (store, script) = store([fine(), failed_condition(OTHER), error("AccessDeniedException", "")]);
    assert!(store.finish(&address(), 8).await.unwrap());
    assert!(!store.finish(&address(), 8).await.unwrap());
    assert_eq!(store.finish(&address(), 8).await.unwrap_err().kind, PortErrorKind::Refused);
    assert_eq!(script.asked()[0].1["ExpressionAttributeValues"][":next"]["N"], "9");
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
