//! Names through a stream to greeters: what comes out is exactly what the local host says, in order per name.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    aggregated::aggregate,
    deploy::Changes,
    http::REGION,
    problem::{Problem, Result, same, until},
    stream::read,
    world::{Record, Setting, World},
};

const NAMES: usize = 12;
const ROUNDS: usize = 4;
const LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn run(setting: &Setting, account: &str) -> Result<String> {
    let world = World::deploy(setting, account, &Changes::default()).await?;
    let names: Vec<String> = (0..NAMES).map(|number| format!("name {number}")).collect();
    let greet = |name: &str| json!({ "name": name }).to_string().into_bytes();

    let mut records: Vec<Record> = Vec::new();
    for _ in 1..ROUNDS {
        records.extend(names.iter().map(|name| (name.clone(), greet(name))));
    }
    // The last round comes in two records of a producer that aggregates, after one that nobody can read.
    records.insert(NAMES / 2, ("nobody".to_owned(), b"this is not JSON".to_vec()));
    let (first, second) = names.split_at(NAMES / 2);
    world.put("Names", records).await?;
    settled(&world, ROUNDS - 1).await?;
    for half in [first, second] {
        let bodies: Vec<_> = half.iter().map(|name| (name.as_str(), greet(name))).collect();
        let bodies: Vec<_> = bodies.iter().map(|(name, body)| (*name, body.as_slice())).collect();
        world.put("Names", [(half[0].clone(), aggregate(&bodies))]).await?;
    }

    let (mut greetings, mut ids) = (BTreeMap::<String, Vec<String>>::new(), BTreeSet::new());
    let expected: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), expected(name))).collect();
    until("not all greetings came", LIMIT, async || {
        for message in world.take("Greetings").await? {
            let attribute = |name: &str| message.message_attributes()?.get(name)?.string_value();
            let from = attribute("statefun-from").unwrap_or_default();
            ids.insert(attribute("statefun-id").map(str::to_owned));
            let name = from.strip_prefix("example/greeter/").unwrap_or(from).to_owned();
            greetings.entry(name).or_default().push(message.body.unwrap_or_default());
        }
        same("greetings", &greetings, &expected)
    })
    .await?;
    same("different ids of greetings", &ids.len(), &(NAMES * ROUNDS))?;
    settled(&world, ROUNDS).await?;
    malformed(&world).await?;
    Ok(format!("{} greetings of {NAMES} names, 1 malformed record listed and deleted", NAMES * ROUNDS))
}

/// Records that a router gave up are read from their stream and routed by `infra/unread_records.py`: each takes effect once, even if
/// that is done twice.
pub(super) async fn unread(setting: &Setting, account: &str) -> Result<String> {
    let changes = Changes { without_events: &[("RouterLambda", "Names")], ..Changes::default() };
    let world = World::deploy(setting, account, &changes).await?;
    let greet = |number| (format!("name {number}"), json!({ "name": format!("name {number}") }).to_string().into_bytes());
    world.put("Names", (0..NAMES).map(greet)).await?;

    let stream = world.stack.output("Names")?;
    let mut letters = Vec::new();
    for shard in world.clients.kinesis.list_shards().stream_name(stream).send().await?.shards() {
        let records = read(&world, stream, shard.shard_id()).await?;
        let (Some(first), Some(last)) = (records.first(), records.last()) else { continue };
        // As Lambda reports them.
        letters.push(json!({
            "requestContext": {"functionArn": world.stack.output("Router")?, "condition": "RetryAttemptsExhausted"},
            "KinesisBatchInfo": {
                "streamArn": first["eventSourceARN"], "shardId": shard.shard_id(), "batchSize": records.len(),
                "startSequenceNumber": first["kinesis"]["sequenceNumber"], "endSequenceNumber": last["kinesis"]["sequenceNumber"],
            },
        }));
    }
    let queue = world.stack.output("UnreadRecords")?;
    for _ in 0..2 {
        for letter in &letters {
            world.clients.sqs.send_message().queue_url(queue).message_body(letter.to_string()).send().await?;
        }
        let routed = route_unread(setting, &world, queue).await?;
        same("lines about routed records", &routed.lines().count(), &letters.len())?;
        settled(&world, 1).await?;
        same("notes left", &world.holds(queue).await?, &0)?;
    }
    world.emptied(world.stack.queue("GreeterQueue")?, LIMIT).await?;
    settled(&world, 1).await?;
    same("dead letters", &world.dead_letters().await?.len(), &0)?;
    Ok(format!("{NAMES} unread records routed twice, applied once"))
}

async fn route_unread(setting: &Setting, world: &World, queue: &str) -> Result<String> {
    let mut script = tokio::process::Command::new(&setting.python);
    script.arg(setting.workspace.join("infra/unread_records.py")).arg(queue).kill_on_drop(true);
    for (name, value) in [
        ("AWS_ENDPOINT_URL", setting.endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", &world.account),
        ("AWS_SECRET_ACCESS_KEY", "none"),
        ("AWS_DEFAULT_REGION", REGION),
    ] {
        script.env(name, value);
    }
    let output = script.output().await?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Problem::new(format!("unread_records.py failed: {}", String::from_utf8_lossy(&output.stderr)))),
    }
}

fn expected(name: &str) -> Vec<String> {
    vec![
        format!("Welcome {name}"),
        format!("Nice to see you again {name}"),
        format!("Third time is a charm {name}"),
        format!("Nice to see you for the 4-th time {name}!"),
    ]
}

/// Every name was seen this often.
async fn settled(world: &World, times: usize) -> Result<()> {
    until("the greeters' states", LIMIT, async || {
        let seen = world.states::<u64>("example/greeter", "seen").await?;
        let seen: Vec<u64> = seen.into_values().collect();
        same("seen", &seen, &vec![times as u64; NAMES])
    })
    .await
}

/// The record that cannot be read is in the dead letters, once, with what is wrong and what it was. An operator is shown it, cannot
/// replay it, and deletes it.
async fn malformed(world: &World) -> Result<()> {
    let letter = only(&world.operate(&json!({"statefun": "list-dead-letters", "payloads": true})).await?)?;
    same(
        "what is reported of it",
        &(letter["kind"].as_str(), letter["raw"].as_str()),
        &(Some("malformed"), Some("this is not JSON")),
    )?;
    let told = ["id", "error", "source", "position"].map(|name| letter[name].as_str().is_some_and(|text| !text.is_empty()));
    same("whether id, error, source and position are there", &told, &[true; 4])?;
    let without = only(&world.operate(&json!({"statefun": "list-dead-letters"})).await?)?;
    same("its content where none was asked for", &without["raw"], &Value::Null)?;

    let replayed = world.operate(&json!({"statefun": "replay-dead-letters"})).await?;
    same("replayed", &(replayed["sent"].as_u64(), replayed["malformed"].as_u64()), &(Some(0), Some(1)))?;
    let deleted = world.operate(&json!({"statefun": "delete-dead-letters", "ids": [letter["id"], "another"]})).await?;
    same("deleted", &deleted, &json!({"deleted": 1, "missing": ["another"], "more": false}))?;
    same("letters left", &world.holds(world.stack.output("DeadLetters")?).await?, &0)
}

fn only(listed: &Value) -> Result<Value> {
    match listed["letters"].as_array().map(Vec::as_slice) {
        Some([letter]) => Ok(letter.clone()),
        _ => Err(Problem::new(format!("one dead letter was expected: {listed}"))),
    }
}
