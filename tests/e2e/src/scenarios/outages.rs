//! A service refuses for a while, an outbox stands, wake-ups get lost: nothing takes effect twice, and all of it once that is over.

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use aws_sdk_kinesis::types::ShardIteratorType;
use serde_json::{Value, json};
use statefun_core::{
    Address, Effect, Envelope, Outbox, Timestamp,
    stored::{decode_outbox, encode_outbox},
};

use super::failures::{CHANGES, LIMIT, finished, noted, parked, tell};
use crate::{
    deploy::Changes,
    faults::{Fault, Rule},
    problem::{Problem, Result, same, until},
    task::{Act, Notes, Task},
    world::{Setting, World, envelope, now},
};

const STORE: &[&str] = &["UpdateItem", "BatchGetItem", "GetItem", "Query", "PutItem", "DeleteItem", "TransactWriteItems"];

/// One after the other the functions have no permission for the table, the queues, the stream, and find them missing: their
/// messages wait. Once that is fixed, each takes effect once, and in order.
pub(super) async fn refusals(setting: &Setting, account: &str) -> Result<String> {
    let world = World::deploy(setting, account, &CHANGES).await?;
    let (mut ann, mut bob, mut number) = (Vec::new(), Vec::new(), 0);
    for (service, actions) in [("dynamodb", STORE), ("sqs", &["SendMessageBatch"]), ("kinesis", &["PutRecords"])] {
        for fault in [Fault::Deny, Fault::Missing] {
            number += 1;
            let act = match service {
                "dynamodb" => Act::Note,
                "sqs" => Act::Pass(vec!["bob".to_owned()]),
                _ => Act::Emit,
            };
            world.faults.add([Rule { account: account.to_owned(), service, actions, fault, probability: 1.0 }]);
            tell(&world, "ann", number, act).await?;
            struck_again(&world, service, fault).await?;
            // Committed before anything is sent; without the table there is no commit.
            let during = world.state::<Notes>("e2e/worker/ann", "notes").await?.unwrap_or_default().numbers;
            let before = ann.clone();
            ann.push(number);
            same(&format!("noted while {service} refuses"), &during, if service == "dynamodb" { &before } else { &ann })?;

            number += 1;
            tell(&world, "ann", number, Act::Note).await?;
            world.faults.clear(account);
            ann.push(number);
            noted(&world, "ann", &ann).await?;
            if service == "sqs" {
                bob.extend((0..number - 1).rev());
                noted(&world, "bob", &bob).await?;
            }
        }
    }
    finished(&world).await?;
    noted(&world, "ann", &ann).await?;
    // An egress may get a record twice, but here no answer was lost.
    same("emitted", &emitted(&world).await?, &vec![9, 11])?;
    parked(&world, &[]).await?;
    let struck: u64 = world.faults.struck(account).values().sum();
    Ok(format!("{struck} calls refused, {} messages applied once", ann.len() + bob.len()))
}

/// Returns once two calls to this service were refused, so that what was refused has come again.
async fn struck_again(world: &World, service: &str, fault: Fault) -> Result<()> {
    until(&format!("{service} is not called twice"), LIMIT, async || {
        let struck = world.faults.struck(&world.account);
        let of_service = struck.iter().filter(|(name, _)| name.starts_with(service) && name.ends_with(&format!("{fault:?}")));
        let count: u64 = of_service.map(|(_, count)| count).sum();
        if count >= 2 { Ok(()) } else { Err(Problem::new(format!("{count} calls"))) }
    })
    .await
}

/// The numbers in the stream of the egress `e2e/out`.
async fn emitted(world: &World) -> Result<Vec<u64>> {
    let kinesis = &world.clients.kinesis;
    let shards = kinesis.list_shards().stream_name("e2e-out").send().await?;
    let mut numbers = Vec::new();
    for shard in shards.shards() {
        let iterator = kinesis.get_shard_iterator().stream_name("e2e-out").shard_id(shard.shard_id());
        let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await?;
        let records = kinesis.get_records().set_shard_iterator(iterator.shard_iterator).send().await?.records;
        for record in records {
            let mut record: Value = serde_json::from_slice(record.data.as_ref())?;
            let task: Task = serde_json::from_value(record["value"].take())?;
            numbers.push(task.number);
        }
    }
    Ok(numbers)
}

/// An outbox that was sent stands, and the next message proves it: nothing is sent twice. One that was not, and that no message comes to, is
/// found by the sweep: a nudge makes its function send it.
pub(super) async fn outboxes(setting: &Setting, account: &str) -> Result<String> {
    let changes = Changes { without_events: &[("RouterLambda", "Sweep")], ..CHANGES };
    let world = World::deploy(setting, account, &changes).await?;
    let pass = || Act::Pass(vec!["bob".to_owned()]);
    tell(&world, "ann", 1, pass()).await?;
    noted(&world, "bob", &[0]).await?;
    finished(&world).await?;
    let stands = stored(&world).await?;
    let mark = stands.mark.ok_or_else(|| Problem::new(format!("the outbox of ann has no mark: {stands:?}")))?;
    tell(&world, "ann", 2, Act::Note).await?;
    noted(&world, "ann", &[1, 2]).await?;
    finished(&world).await?;
    same("entries that stand", &stored(&world).await?.len(), &0)?;

    // As an environment leaves it that died after its commit, whose message somebody took away.
    let message = envelope("e2e/worker/bob", "9", "e2e/task", &Task { number: 9, act: Act::Note })?;
    let address = Address::parse("e2e/worker/ann")?;
    let made_at = Timestamp(now().0 - 3_600_000);
    let left = Outbox { made_at, ..vec![Effect::Send(Envelope { from: Some(address.clone()), ..message })].into() };
    let request = world.clients.dynamodb.update_item().table_name(world.stack.output("Table")?);
    let request = request.key("pk", AttributeValue::S(address.to_string())).key("sk", AttributeValue::S("r".to_owned()));
    let bytes = AttributeValue::B(Blob::new(encode_outbox(&address, &left)));
    request.update_expression("SET o = :o").expression_attribute_values(":o", bytes).send().await?;
    let swept = world.operate(&json!({"statefun": "sweep-outboxes"})).await?;
    same("nudged", &swept["nudged"].as_u64(), &Some(1))?;
    noted(&world, "bob", &[0, 9]).await?;
    finished(&world).await?;
    same("entries that stand", &stored(&world).await?.len(), &0)?;
    noted(&world, "ann", &[1, 2]).await?;
    parked(&world, &[]).await?;
    let days = (mark.until.0 - now().0) / 86_400_000;
    Ok(format!("1 outbox proven by a later message ({days} days before its mark ends), 1 sent after a nudge"))
}

/// What stands of ann.
async fn stored(world: &World) -> Result<Outbox> {
    let items = world.items("e2e/worker/ann").await?;
    let bytes = items.iter().find_map(|item| item.get("o")?.as_b().ok());
    let address = Address::parse("e2e/worker/ann")?;
    Ok(bytes.map(|bytes| decode_outbox(&address, bytes.clone().into_inner().into())).transpose()?.unwrap_or_default())
}

/// Timers whose wake-up got lost, or is not sent yet because they are due in more than 15 minutes, are the sweep's.
pub(super) async fn missed_wake_ups(setting: &Setting, account: &str) -> Result<String> {
    let changes = Changes { without_events: &[("RouterLambda", "Sweep")], ..CHANGES };
    let world = World::deploy(setting, account, &changes).await?;
    let timers = async |expected: usize| -> Result<Vec<_>> {
        let mut found = Vec::new();
        until("the timers' rows", LIMIT, async || {
            found = world.items("timers#").await?;
            same("rows", &found.len(), &expected)
        })
        .await?;
        Ok(found)
    };
    // A minute from now: nothing fires before this test says so.
    tell(&world, "ann", 1, Act::Later(2, 60_000)).await?;
    tell(&world, "bob", 3, Act::Later(4, 20 * 60_000)).await?;
    noted(&world, "ann", &[1]).await?;
    noted(&world, "bob", &[3]).await?;
    let rows = timers(2).await?;
    finished(&world).await?;
    let queue = world.stack.output("Timers")?;
    same("wake-ups under way", &world.holds(queue).await?, &1)?;
    world.clients.sqs.purge_queue().queue_url(queue).send().await?;
    same("wake-ups under way", &world.holds(queue).await?, &0)?;
    // The one is not due, and a message was to wake it; the other is too far away.
    same("fired and armed", &sweep(&world).await?, &(0, 0))?;

    // Time passes: ann's is overdue, bob's is nearly due.
    let now = now();
    for row in rows {
        let key = row["sk"].as_s().map(String::as_str).unwrap_or_default();
        let (due, id) = key.split_once('#').ok_or_else(|| Problem::new(format!("`{key}` is not a timer's key")))?;
        let is_anns = due.parse::<u64>()? < now.0 + 10 * 60_000;
        let due = if is_anns { now.0 - 1_000 } else { now.0 + 5_000 };
        world.rename(row.clone(), &format!("{due:020}#{id}")).await?;
    }
    // Something else lies among the rows: it is reported, and holds up nothing.
    let junk = world.put_junk("timers#00", &format!("{:020}#junk", now.0 - 2_000)).await?;
    match sweep(&world).await {
        Ok(swept) => return Err(Problem::new(format!("a sweep that cannot read a row says {swept:?} and nothing of it"))),
        Err(problem) if problem.to_string().contains("cannot be read") => {}
        Err(problem) => return Err(problem),
    }
    noted(&world, "ann", &[1, 2]).await?;
    noted(&world, "bob", &[3, 4]).await?;
    world.delete(junk).await?;
    timers(0).await?;
    same("fired and armed", &sweep(&world).await?, &(0, 0))?;
    finished(&world).await?;
    parked(&world, &[]).await?;
    Ok("1 timer fired and 1 armed by the sweep, 1 unreadable row reported".to_owned())
}

/// Delayed messages while calls fail before and after they take effect, and batches in part: each comes once, and no row stays.
pub(super) async fn faulty_timers(setting: &Setting, account: &str) -> Result<String> {
    const WORKERS: u64 = 8;
    let world = World::deploy(setting, account, &CHANGES).await?;
    let rules = [
        ("dynamodb", STORE, Fault::Throttle),
        ("dynamodb", STORE, Fault::LoseAnswer),
        ("sqs", &["SendMessageBatch"], Fault::Fail),
        ("sqs", &["SendMessageBatch"], Fault::FailEntries),
        ("sqs", &["SendMessageBatch"], Fault::LoseAnswer),
    ];
    world.faults.add(rules.map(|(service, actions, fault)| {
        let account = account.to_owned();
        Rule { account, service, actions, fault, probability: 0.15 }
    }));
    for number in 0..WORKERS {
        tell(&world, &format!("w{number}"), number, Act::Later(WORKERS + number, 1_000 + 100 * number)).await?;
    }
    for number in 0..WORKERS {
        noted(&world, &format!("w{number}"), &[number, WORKERS + number]).await?;
    }
    let struck: u64 = world.faults.struck(account).values().sum();
    world.faults.clear(account);
    until("timers' rows stay", LIMIT, async || same("rows", &world.items("timers#").await?.len(), &0)).await?;
    finished(&world).await?;
    for number in 0..WORKERS {
        noted(&world, &format!("w{number}"), &[number, WORKERS + number]).await?;
    }
    parked(&world, &[]).await?;
    Ok(format!("{WORKERS} delayed messages came once, {struck} faults"))
}

/// What a sweep fired, and what it armed.
async fn sweep(world: &World) -> Result<(u64, u64)> {
    let answer = world.operate(&json!({"statefun": "sweep"})).await?;
    let count = |name: &str| answer[name].as_u64().ok_or_else(|| Problem::new(format!("{answer} has no `{name}`")));
    Ok((count("fired")?, count("armed")?))
}
