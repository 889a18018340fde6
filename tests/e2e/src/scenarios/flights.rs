//! Departures through a stream to aircraft, airports and routes: every number and every alert is what the same rows give on this
//! machine, without AWS and without faults.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Map, Value};

use crate::{
    deploy::Changes,
    emulator::kill,
    faults::{Fault, Rule},
    problem::{Problem, Result, same, until},
    stream,
    world::{Record, Setting, World},
};

/// Rows of the week. The emulator does some 30 invocations a second.
const ROWS: usize = 500;
/// In the run with faults: all flights of these many aircraft, those that lost the most time. They have several messages each, whose
/// order counts, and nearly all alerts of the week.
const FAULTY_AIRCRAFT: usize = 25;
const LIMIT: Duration = Duration::from_secs(120);
/// How long calls go on failing after the last record was read.
const STORM: Duration = Duration::from_secs(25);
/// While the processes of the functions are killed, and how often.
const KILLS: u32 = 6;

pub(super) async fn plain(setting: &Setting, account: &str) -> Result<String> {
    let slice = Slice::read(setting, |_, rows| rows.truncate(ROWS))?;
    let world = World::deploy(setting, account, &Changes::default()).await?;
    let alerts = subscribe(&world).await?;
    world.put("Departures", slice.records.clone()).await?;
    agree(&world, &slice.expected, &alerts).await?;
    Ok(format!("{ROWS} rows, {} alerts", slice.expected.alerts.len()))
}

pub(super) async fn faulty(setting: &Setting, account: &str) -> Result<String> {
    let slice = Slice::read(setting, of_the_late)?;
    let without_events = &[("FlightsRouter", "Departures")];
    let changes = Changes { timeout: Some(5), visibility: Some(3), without_events, ..Changes::default() };
    let world = World::deploy(setting, account, &changes).await?;
    let alerts = subscribe(&world).await?;
    world.put("Departures", slice.records.clone()).await?;

    world.faults.add(rules(account));
    let mut killed = 0;
    let killing = async {
        let mut rng = fastrand::Rng::with_seed(setting.seed);
        for _ in 0..KILLS {
            // Not to wait for anything: to strike at any moment.
            tokio::time::sleep(Duration::from_millis(rng.u64(300..1_500))).await;
            for function in functions(&world).await? {
                killed += kill(setting.functions_call, account, &function);
            }
        }
        Ok::<_, Problem>(())
    };
    let router = router(&world).await?;
    let (read, killing) = tokio::join!(stream::drain(&world, "Departures", &router, LIMIT), killing);
    read?;
    killing?;
    let mut agreed = std::pin::pin!(agree(&world, &slice.expected, &alerts));
    let result = tokio::select! {
        result = &mut agreed => result,
        // Pauses grow with every failure; without an end to these the last message might wait for minutes.
        () = tokio::time::sleep(STORM) => {
            world.faults.clear(account);
            agreed.await
        }
    };
    let struck = world.faults.struck(account);
    world.faults.clear(account);
    if let Err(problem) = result {
        let mut held = Vec::new();
        for queue in ["FlightsQueue0", "FlightsQueue1"] {
            held.push(world.holds(world.stack.queue(queue)?).await?);
        }
        let given_up = world.dead_letters().await?.len() as u64 + world.holds(world.stack.output("Undeliverable")?).await?;
        let told = format!("{killed} kills, faults {struck:?}, queues hold {held:?}, {given_up} given up");
        return Err(problem.during(told));
    }
    // A run in which nothing went wrong shows nothing.
    for needed in [
        "dynamodb.BatchGetItem Throttle",
        "dynamodb.UpdateItem Conflict",
        "dynamodb.UpdateItem Fail",
        "dynamodb.UpdateItem LoseAnswer",
        "dynamodb.UpdateItem Throttle",
        "sns.PublishBatch LoseAnswer",
        "sqs.ChangeMessageVisibilityBatch Fail",
        "sqs.SendMessageBatch FailEntries",
        "sqs.SendMessageBatch LoseAnswer",
        "sqs.SendMessageBatch Throttle",
    ] {
        if !struck.contains_key(needed) {
            return Err(Problem::new(format!("no `{needed}` among the faults: {struck:?}")));
        }
    }
    if killed == 0 {
        return Err(Problem::new("no process was killed"));
    }
    let (rows, alerts) = (slice.records.len(), slice.expected.alerts.len());
    Ok(format!("{rows} rows, {alerts} alerts, {} faults, {killed} kills", struck.values().sum::<u64>()))
}

/// What goes wrong, and how often.
fn rules(account: &str) -> Vec<Rule> {
    const WRITES: &[&str] = &["UpdateItem", "PutItem", "DeleteItem", "TransactWriteItems"];
    const SENDS: &[&str] = &["SendMessage", "SendMessageBatch"];
    let rule = |service, actions, fault, probability| Rule { account: account.to_owned(), service, actions, fault, probability };
    vec![
        rule("dynamodb", &["BatchGetItem"], Fault::Throttle, 0.04),
        rule("dynamodb", &["BatchGetItem"], Fault::LoseAnswer, 0.04),
        rule("dynamodb", WRITES, Fault::Throttle, 0.04),
        rule("dynamodb", WRITES, Fault::Conflict, 0.02),
        rule("dynamodb", WRITES, Fault::Fail, 0.02),
        rule("dynamodb", WRITES, Fault::LoseAnswer, 0.04),
        rule("dynamodb", WRITES, Fault::Delay(Duration::from_millis(400)), 0.02),
        rule("sqs", SENDS, Fault::Throttle, 0.02),
        rule("sqs", SENDS, Fault::Fail, 0.02),
        rule("sqs", SENDS, Fault::LoseAnswer, 0.04),
        rule("sqs", SENDS, Fault::FailEntries, 0.05),
        rule("sqs", &["ChangeMessageVisibilityBatch"], Fault::Fail, 0.3),
        rule("sns", &["PublishBatch"], Fault::LoseAnswer, 0.5),
    ]
}

/// Names of the Lambdas of this example.
async fn functions(world: &World) -> Result<Vec<String>> {
    let reply = world.http.call(hyper::Method::GET, "lambda", "/2015-03-31/functions/", "application/json", "").await?;
    let reply: Value = serde_json::from_slice(&reply)?;
    let names = reply["Functions"].as_array().into_iter().flatten().filter_map(|function| function["FunctionName"].as_str());
    Ok(names.filter(|name| name.contains("Flights")).map(str::to_owned).collect())
}

async fn router(world: &World) -> Result<String> {
    let names = functions(world).await?;
    names.into_iter().find(|name| name.contains("FlightsRouter")).ok_or_else(|| Problem::new("there is no FlightsRouter"))
}

/// Rows, and what they come to.
pub(super) struct Slice {
    pub(super) records: Vec<Record>,
    pub(super) expected: Expected,
}

pub(super) struct Expected {
    aircraft: BTreeMap<String, Value>,
    airports: BTreeMap<String, Value>,
    routes: BTreeMap<String, Value>,
    alerts: BTreeSet<String>,
}

impl Slice {
    /// A part of the week's rows, and what the example makes of them on this machine.
    pub(super) fn read(setting: &Setting, part: impl Fn(&[&str], &mut Vec<&str>)) -> Result<Self> {
        let week = setting.workspace.join("functions/flights/data/flights-week.csv");
        let text = std::fs::read_to_string(&week)?;
        let mut lines: Vec<&str> = text.lines().collect();
        let header = lines.remove(0);
        let columns: Vec<&str> = header.split(',').collect();
        part(&columns, &mut lines);
        let folder = tempfile::tempdir()?;
        let (input, data, report) =
            (folder.path().join("rows.csv"), folder.path().join("data"), folder.path().join("report.json"));
        std::fs::write(&input, format!("{header}\n{}\n", lines.join("\n")))?;
        let mut local = Command::new(setting.binaries.join("flights"));
        local.arg("--input").arg(input).arg("--data").arg(&data).arg("--report").arg(&report);
        let status = local.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if !status.success() {
            return Err(Problem::new(format!("the local run of the flights failed: {status}")));
        }
        let records = lines.iter().map(|line| record(&columns, line)).collect();
        Ok(Self { records, expected: Expected::read(report, data)? })
    }
}

/// Keeps the rows of the aircraft that lost the most time.
fn of_the_late(columns: &[&str], rows: &mut Vec<&str>) {
    let place = |name| columns.iter().position(|column| *column == name).unwrap_or_default();
    let (tailnum, delay) = (place("tailnum"), place("dep_delay"));
    let field = |row: &str, place: usize| row.split(',').nth(place).unwrap_or_default().to_owned();
    let mut lost: BTreeMap<String, i64> = BTreeMap::new();
    for row in rows.iter() {
        *lost.entry(field(row, tailnum)).or_default() += field(row, delay).parse().unwrap_or(0).max(0);
    }
    let mut late: Vec<_> = lost.into_iter().filter(|(tailnum, _)| tailnum.starts_with('N') && tailnum != "NA").collect();
    late.sort_by_key(|(_, minutes)| std::cmp::Reverse(*minutes));
    late.truncate(FAULTY_AIRCRAFT);
    rows.retain(|row| late.iter().any(|(late, _)| *late == field(row, tailnum)));
}

/// A row as a JSON object of its columns; its partition key keeps an aircraft's flights in order.
fn record(columns: &[&str], line: &str) -> Record {
    let fields: Vec<&str> = line.split(',').collect();
    let object: Map<String, Value> =
        columns.iter().zip(&fields).map(|(name, field)| ((*name).to_owned(), (*field).into())).collect();
    let field = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
    let key = Some(field("tailnum")).filter(|tailnum| !["", "NA"].contains(&tailnum.as_str()));
    (key.unwrap_or_else(|| field("origin")), Value::Object(object).to_string().into_bytes())
}

impl Expected {
    fn read(report: PathBuf, data: PathBuf) -> Result<Self> {
        let mut report: Value = serde_json::from_slice(&std::fs::read(report)?)?;
        let mut part = |name: &str| serde_json::from_value(report[name].take());
        let (aircraft, airports, routes) = (part("aircraft")?, part("airports")?, part("routes")?);
        let mut alerts = BTreeSet::new();
        for line in std::fs::read_to_string(data.join("egress/flights/alerts.jsonl")).unwrap_or_default().lines() {
            let line: Value = serde_json::from_str(line)?;
            alerts.insert(line["value"].to_string());
        }
        Ok(Self { aircraft, airports, routes, alerts })
    }
}

/// A queue that gets what is published to the alerts' topic.
pub(super) async fn subscribe(world: &World) -> Result<String> {
    let queue = world.clients.sqs.create_queue().queue_name("alerts").send().await?.queue_url.unwrap_or_default();
    let arn = format!("arn:aws:sqs:{}:{}:alerts", crate::http::REGION, world.account);
    world.clients.sns.subscribe().topic_arn(world.stack.output("Alerts")?).protocol("sqs").endpoint(arn).send().await?;
    Ok(queue)
}

/// Waits until the state is as expected, and compares the alerts. These may come twice: a topic does not deduplicate, so they
/// are known by their ids.
pub(super) async fn agree(world: &World, expected: &Expected, alerts: &str) -> Result<()> {
    until("the states differ from those of the local run", LIMIT, async || {
        let routes = world.states::<Value>("flights/route", "numbers").await?;
        compare("routes", &routes, &expected.routes, route)?;
        let airports = world.states::<Value>("flights/airport", "numbers").await?;
        compare("airports", &airports, &expected.airports, airport)?;
        let aircraft = world.states::<Value>("flights/aircraft", "numbers").await?;
        compare("aircraft", &aircraft, &expected.aircraft, Value::clone)
    })
    .await?;
    for queue in ["FlightsQueue0", "FlightsQueue1"] {
        world.emptied(world.stack.queue(queue)?, LIMIT).await?;
    }
    let mut found = BTreeMap::new();
    until("the alerts differ from those of the local run", LIMIT, async || {
        for message in world.take_from(alerts).await? {
            let message: Value = serde_json::from_str(message.body().unwrap_or_default())?;
            let id = message["MessageAttributes"]["statefun-id"]["Value"].as_str();
            let id = id.ok_or_else(|| Problem::new(format!("an alert has no id: {message}")))?.to_owned();
            // The order of a struct's fields says nothing.
            let alert: Value = serde_json::from_str(message["Message"].as_str().unwrap_or_default())?;
            found.insert(id, alert.to_string());
        }
        let texts: Vec<&String> = found.values().collect();
        let mut expected: Vec<&String> = expected.alerts.iter().collect();
        let mut texts_sorted = texts;
        texts_sorted.sort();
        expected.sort();
        same("alerts", &texts_sorted, &expected)
    })
    .await?;
    same("dead letters", &world.dead_letters().await?.len(), &0)
}

/// The first difference, in words.
fn compare(
    what: &str,
    found: &BTreeMap<String, Value>,
    expected: &BTreeMap<String, Value>,
    told: impl Fn(&Value) -> Value,
) -> Result<()> {
    for (id, expected) in expected {
        same(&format!("{what} {id}"), &found.get(id).map(&told), &Some(expected.clone()))?;
    }
    same(what, &found.len(), &expected.len())
}

/// An airport's state as the report has it.
fn airport(state: &Value) -> Value {
    let mut told = Map::new();
    for name in ["departures", "cancelled", "arrivals"] {
        told.insert(name.to_owned(), state[name].clone());
    }
    told.extend(mean(&state["delay_minutes"], &state["delays"]).map(|mean| ("mean_departure_delay".to_owned(), mean)));
    let worst = Some(state["worst_delay"].clone()).filter(|worst| !worst.is_null());
    told.extend(worst.map(|worst| ("worst_departure_delay".to_owned(), worst)));
    Value::Object(told)
}

/// A route's state as the report has it.
fn route(state: &Value) -> Value {
    let mut told = Map::new();
    for name in ["flown", "cancelled"] {
        told.insert(name.to_owned(), state[name].clone());
    }
    told.extend(mean(&state["air_minutes"], &state["timed"]).map(|mean| ("mean_air_time".to_owned(), mean)));
    Value::Object(told)
}

/// To six decimals, as the report has it.
fn mean(sum: &Value, count: &Value) -> Option<Value> {
    let (sum, count) = (sum.as_i64()?, count.as_i64().filter(|count| *count > 0)?);
    Some(((sum as f64 * 1e6 / count as f64).round_ties_even() / 1e6).into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_become_records() {
        let columns = ["tailnum", "origin"];
        let (key, data) = record(&columns, "N1,EWR");
        assert_eq!((key.as_str(), data), ("N1", br#"{"origin":"EWR","tailnum":"N1"}"#.to_vec()));
        assert_eq!(record(&columns, "NA,EWR").0, "EWR");
        assert_eq!(record(&columns, ",JFK").0, "JFK");
    }

    #[test]
    fn states_are_told_as_the_report_does() {
        let state = json!({"departures": 3, "cancelled": 0, "arrivals": 1, "delays": 3, "delay_minutes": 2, "worst_delay": 5});
        let told =
            json!({"departures": 3, "cancelled": 0, "arrivals": 1, "mean_departure_delay": 0.666667, "worst_departure_delay": 5});
        assert_eq!(airport(&state), told);
        assert_eq!(
            route(&json!({"flown": 0, "cancelled": 2, "timed": 0, "air_minutes": 0})),
            json!({"flown": 0, "cancelled": 2})
        );
    }
}
