//! A stack of protocol 1, in the middle of its work, becomes one of this version, as docs/deploy.md says: with the world stopped. Every
//! number is then what the same rows give without all that, and an environment of before that comes back writes nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    conformance::protocol_1_takes,
    flights::{Slice, agree, subscribe},
    shop::{hold, order, shelf},
};
use crate::{
    deploy::{Changes, Packages},
    emulator::processes,
    problem::{Problem, Result, same, until},
    runtime::Environment,
    world::{Setting, World, envelope, now},
};

const ACCOUNT: &str = "900000000002";
const LIMIT: Duration = Duration::from_secs(60);
const ROWS: usize = 450;
/// Stands in for a time-out and ten minutes: no invocation here takes longer.
const STILL: Duration = Duration::from_secs(12);

pub(crate) async fn run(setting: &Setting, before: &Packages) -> Result<String> {
    let slice = Slice::read(setting, |_, rows| rows.truncate(ROWS))?;
    let http = crate::http::Http::new(&setting.endpoint, ACCOUNT);
    let stack = before.deploy(&http, &Changes::default()).await.map_err(|problem| problem.during("deploying what was before"))?;
    let mut world = World::of(setting, ACCOUNT, stack).await?;
    let alerts = subscribe(&world).await?;
    let mut parts = slice.records.chunks(ROWS / 3).map(<[_]>::to_vec);
    let mut put = async |world: &World| world.put("Departures", parts.next().unwrap_or_default()).await;
    put(&world).await?;
    greet(&world, 1).await?;
    // Somebody holds two of three books, until a timer or a checkout.
    world.send(world.stack.output("Deliveries")?, "book", "1", &[("item", "book")], r#"{"quantity":3}"#).await?;
    shelf(&world, json!({"available": 3, "reserved": 0, "sold": 0})).await?;
    order(&world, "ann", "1", "add-to-cart", &json!({"item": "book", "quantity": 2})).await?;
    shelf(&world, json!({"available": 1, "reserved": 2, "sold": 0})).await?;
    hold(&world, 1).await?;
    let old = Old::of_a_running(setting)?;
    let mut frozen = old.environment().await?;
    same("what an old environment leaves undone before", &refused(&mut frozen, &world, "Bob", "before").await?, &0)?;

    println!("load, in the middle of which the mappings are switched off");
    put(&world).await?;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    switch(&world, false).await?;
    tokio::time::sleep(STILL).await;
    let mut waiting = 0;
    for queue in ["FlightsQueue0", "FlightsQueue1"] {
        waiting += world.holds(world.stack.queue(queue)?).await?;
    }
    println!("{waiting} messages wait; the stack is updated");
    world.stack = setting.packages.update(&http, &Changes::default()).await.map_err(|problem| problem.during("updating"))?;
    switch(&world, true).await?;

    put(&world).await?;
    greet(&world, 2).await?;
    order(&world, "ann", "2", "checkout", &json!({})).await?;
    shelf(&world, json!({"available": 1, "reserved": 0, "sold": 2})).await?;
    hold(&world, 0).await?;
    agree(&world, &slice.expected, &alerts).await?;

    // It was frozen all the time; or it is a rollback.
    for mut environment in [frozen, old.environment().await?] {
        let there = world.items("example/greeter/Ann").await?;
        same("what an old environment leaves undone", &refused(&mut environment, &world, "Ann", "after").await?, &1)?;
        same("Ann's record", &world.items("example/greeter/Ann").await?, &there)?;
    }
    let taken = old_leases(&world).await?;
    Ok(format!("{ROWS} rows, {waiting} of their messages waited for the upgrade; of {taken} records protocol 1 can take none"))
}

/// An environment of the old version, as the emulator runs it.
struct Old {
    variables: BTreeMap<String, String>,
    folder: tempfile::TempDir,
}

impl Old {
    fn of_a_running(setting: &Setting) -> Result<Self> {
        let stack = format!("e2e-{ACCOUNT}");
        let none = || Problem::new("no greeter runs");
        let id =
            processes(setting.functions_call, ACCOUNT, |function| function.starts_with(&stack) && function.contains("Greeter"));
        let environment = std::fs::read(format!("/proc/{}/environ", id.first().ok_or_else(none)?))?;
        let texts = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let mut variables: BTreeMap<String, String> =
            texts.filter_map(|text| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))).collect();
        let folder = tempfile::tempdir()?;
        let root = PathBuf::from(variables.get("LAMBDA_TASK_ROOT").ok_or_else(none)?);
        for name in ["bootstrap", "module.yaml"] {
            std::fs::copy(root.join(name), folder.path().join(name))?;
        }
        variables.insert("LAMBDA_TASK_ROOT".to_owned(), folder.path().display().to_string());
        Ok(Self { variables, folder })
    }

    async fn environment(&self) -> Result<Environment> {
        let binary: &Path = &self.folder.path().join("bootstrap");
        Environment::start(binary, &self.variables).await
    }
}

/// How many messages it leaves undone of one to this name.
async fn refused(environment: &mut Environment, world: &World, name: &str, id: &str) -> Result<usize> {
    let envelope = envelope(&format!("example/greeter/{name}"), id, "example/greet", &json!({ "name": name }))?;
    let queue = world.stack.queue("GreeterQueue")?.rsplit('/').next().unwrap_or_default();
    let attributes = json!({
        "ApproximateReceiveCount": "1", "SentTimestamp": now().0.to_string(), "SequenceNumber": "99999999999999999998",
        "MessageGroupId": statefun_core::group_id(&envelope.to), "MessageDeduplicationId": id,
    });
    let arn = format!("arn:aws:sqs:{}:{ACCOUNT}:{queue}", crate::http::REGION);
    let answer = environment.invoke(json!({"Records": [{
        "messageId": id, "receiptHandle": "none", "body": envelope.to_wire(), "attributes": attributes, "messageAttributes": {},
        "eventSource": "aws:sqs", "eventSourceARN": arn, "awsRegion": crate::http::REGION,
    }]}));
    let answer = answer.await?;
    let failures = answer["batchItemFailures"].as_array().ok_or_else(|| Problem::new(format!("no answer for a batch: {answer}")));
    failures.map(Vec::len)
}

/// How many records there are; fails if protocol 1 gets the lease of one.
async fn old_leases(world: &World) -> Result<usize> {
    let table = world.stack.output("Table")?;
    let mut records = 0;
    for item in world.items("").await?.into_iter().filter(|item| item.contains_key("c")) {
        records += 1;
        let address = item.get("pk").cloned();
        if protocol_1_takes(&world.clients, table, item).await? {
            return Err(Problem::new(format!("protocol 1 can take {address:?}")));
        }
    }
    Ok(records)
}

/// Switches all event source mappings on or off.
async fn switch(world: &World, on: bool) -> Result<()> {
    let path = "/2015-03-31/event-source-mappings/";
    let reply = world.http.call(Method::GET, "lambda", path, "application/json", "").await?;
    let reply: Value = serde_json::from_slice(&reply)?;
    let mappings = reply["EventSourceMappings"].as_array().cloned().unwrap_or_default();
    if mappings.is_empty() {
        return Err(Problem::new("the stack has no mappings"));
    }
    for id in mappings.iter().filter_map(|mapping| mapping["UUID"].as_str()) {
        let body = json!({ "Enabled": on }).to_string();
        world.http.call(Method::PUT, "lambda", &format!("{path}{id}"), "application/json", body).await?;
    }
    Ok(())
}

/// Ann is greeted once more; returns once she has been so often.
async fn greet(world: &World, times: u64) -> Result<()> {
    world.put("Names", [("Ann".to_owned(), json!({"name": "Ann"}).to_string().into_bytes())]).await?;
    until("Ann is not greeted", LIMIT, async || same("times", &world.state("example/greeter/Ann", "seen").await?, &Some(times)))
        .await
}
