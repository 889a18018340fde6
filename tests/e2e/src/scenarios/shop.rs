//! Orders through a queue to carts: nothing is sold twice, receipts are right, a checkout cancels the end of the hold.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    deploy::Changes,
    http::REGION,
    problem::{Problem, Result, same, until},
    world::{Setting, World, now},
};

const LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn run(setting: &Setting, account: &str) -> Result<String> {
    let world = World::deploy(setting, account, &Changes::default()).await?;
    world.send(world.stack.output("Deliveries")?, "book", "1", &[("item", "book")], r#"{"quantity":3}"#).await?;
    shelf(&world, json!({"available": 3, "reserved": 0, "sold": 0})).await?;

    // Ann's order comes twice, as from a producer that did not hear back: once within the queue's own window.
    order(&world, "ann", "1", "add-to-cart", &json!({"item": "book", "quantity": 2})).await?;
    order(&world, "ann", "1", "add-to-cart", &json!({"item": "book", "quantity": 2})).await?;
    shelf(&world, json!({"available": 1, "reserved": 2, "sold": 0})).await?;
    // A third time, when the queue has forgotten the first: another message, under the producer's own id.
    world.operate(&again(&world, "ann", "1", "add-to-cart", &json!({"item": "book", "quantity": 2}))?).await?;
    hold(&world, 1).await?;
    order(&world, "bob", "2", "add-to-cart", &json!({"item": "book", "quantity": 2})).await?;
    order(&world, "bob", "3", "checkout", &json!({})).await?;
    order(&world, "ann", "4", "checkout", &json!({})).await?;

    let mut receipts = Vec::new();
    until("the receipts", LIMIT, async || {
        let bodies = world.take("Receipts").await?.into_iter().filter_map(|message| message.body);
        for body in bodies {
            receipts.push(serde_json::from_str::<Value>(&body)?);
        }
        receipts.sort_by_key(|receipt| receipt["user"].to_string());
        let expected = vec![json!({"user": "ann", "items": {"book": 2}}), json!({"user": "bob", "items": {}})];
        same("receipts", &receipts, &expected)
    })
    .await?;
    shelf(&world, json!({"available": 1, "reserved": 0, "sold": 2})).await?;
    hold(&world, 0).await?;

    // What nobody can read or route is parked with its reason, and the same user's next order goes on.
    order(&world, "carol", "5", "dance", &json!({})).await?;
    order(&world, "carol", "6", "add-to-cart", &json!({"item": "book", "quantity": 1})).await?;
    shelf(&world, json!({"available": 0, "reserved": 1, "sold": 2})).await?;
    hold(&world, 1).await?;
    until("the dead letter", LIMIT, async || {
        let letters = world.dead_letters().await?;
        if letters.len() == 1 { Ok(()) } else { Err(Problem::new(format!("{letters:?}"))) }
    })
    .await?;
    Ok("2 receipts of 3 books, hold armed and cancelled, 1 order parked".to_owned())
}

pub(super) async fn order(world: &World, user: &str, id: &str, kind: &str, body: &Value) -> Result<()> {
    world.send(world.stack.output("Orders")?, user, id, &[("type", &format!("shop/{kind}"))], &body.to_string()).await
}

/// The event of a message that the queue takes for a new one.
fn again(world: &World, user: &str, id: &str, kind: &str, body: &Value) -> Result<Value> {
    let queue = world.stack.output("Orders")?.rsplit('/').next().unwrap_or_default();
    let (now, arn) = (now().0.to_string(), format!("arn:aws:sqs:{REGION}:{}:{queue}", world.account));
    let attributes = json!({
        "ApproximateReceiveCount": "1", "SentTimestamp": now, "SequenceNumber": "99999999999999999999", "MessageGroupId": user,
        "MessageDeduplicationId": id,
    });
    let kind = json!({"type": {"stringValue": format!("shop/{kind}"), "dataType": "String"}});
    Ok(json!({"Records": [{
        "messageId": "another", "receiptHandle": "none", "body": body.to_string(), "attributes": attributes,
        "messageAttributes": kind, "eventSource": "aws:sqs", "eventSourceARN": arn, "awsRegion": REGION,
    }]}))
}

pub(super) async fn shelf(world: &World, expected: Value) -> Result<()> {
    until("the shelf", LIMIT, async || {
        same("books", &world.state::<Value>("shop/stock/book", "shelf").await?, &Some(expected.clone()))
    })
    .await
}

/// There are this many timers.
pub(super) async fn hold(world: &World, count: usize) -> Result<()> {
    until("the end of the hold", LIMIT, async || same("timers", &world.items("timers#").await?.len(), &count)).await
}
