//! A message whose handler ends the process at once, and a process that is started again whenever it has died: the message is given
//! up after exactly its attempts, and what waits before, beside and behind it takes effect once.
//!
//! All messages are durable before the first start, so that the number of starts is no matter of luck.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use lambda_statefun::{error_chain, prelude::*};
use serde::{Deserialize, Serialize};
use statefun_core::{DeadLetter, Reason, stored::Letter};
use statefun_host::{Host, HostOptions, Message};

const MORTAL: &str = "kill/mortal";
const OUT: &str = "kill/applied";
/// The address that gets the deadly message, and others.
const POISONED: &str = "poisoned";
const ADDRESSES: [&str; 4] = ["before", POISONED, "beside", "behind"];
/// Messages for each address.
const NUMBERS: [u64; 3] = [1, 2, 3];
/// Of these the one that kills.
const DEADLY: u64 = 2;
/// Starts beyond those that are expected, before this gives up.
const SPARE_STARTS: usize = 4;

const APPLIED: ValueSpec<Applied> = ValueSpec::new("applied");

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    number: u64,
    /// The process dies, after it has noted its attempt in this file.
    dies: Option<PathBuf>,
}

impl Value for Order {
    const TYPE_NAME: TypeName = TypeName::from_static("kill/order");
    type Codec = Json;
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Applied(Vec<u64>);

impl Value for Applied {
    const TYPE_NAME: TypeName = TypeName::from_static("kill/numbers");
    type Codec = Json;
}

async fn mortal(ctx: &mut Context, order: Order) -> Result<(), FunctionError> {
    if let Some(file) = order.dies {
        let attempt = ctx.message().attempt;
        writeln!(fs::OpenOptions::new().create(true).append(true).open(file)?, "{attempt}")?;
        std::process::abort();
    }
    let mut applied = ctx.get(&APPLIED)?.unwrap_or_default();
    applied.0.push(order.number);
    ctx.set(&APPLIED, applied)?;
    Ok(ctx.egress(OUT, &format!("{} {}", ctx.address().id(), order.number))?)
}

pub(crate) fn application(attempts: u32) -> Application {
    let mortal = Function::new(MORTAL, mortal).state(&APPLIED).on_failure(OnFailure::DeadLetter { max_attempts: attempts });
    Application::new().function(mortal)
}

/// The whole trial, with this many attempts (two at least).
pub(crate) fn run(attempts: u32) -> Result<String, String> {
    trial(attempts).map_err(|error| format!("a message that kills at once, with {attempts} attempts: {}", error_chain(&*error)))
}

fn trial(attempts: u32) -> Result<String, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let (data, runs) = (folder.path().join("data"), folder.path().join("runs"));
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(put(&data, attempts, &runs))?;
    let starts = start_until_it_lives(&data, attempts, &runs)?;
    runtime.block_on(compare(&data, attempts))?;
    let (expected, found) = (expected_runs(attempts), found_runs(&runs)?);
    if found != expected {
        return Err(format!("its handler saw the attempts {found:?} instead of {expected:?}").into());
    }
    if starts != expected.len() + 1 {
        return Err(format!("it took {starts} starts for {} runs", expected.len()).into());
    }
    Ok(format!(
        "a message that kills at once: given up after {attempts} attempts, {} runs and {starts} starts; all others took effect once",
        found.len()
    ))
}

/// Puts all messages into a folder, as durable as what was acknowledged over HTTP.
async fn put(data: &Path, attempts: u32, runs: &Path) -> Result<(), Box<dyn Error>> {
    let host = open(data, attempts)?;
    for number in NUMBERS {
        for id in ADDRESSES {
            let dies = (id == POISONED && number == DEADLY).then(|| runs.to_owned());
            let message = Message::new(Address::parse(&format!("{MORTAL}/{id}"))?, TypedValue::of(&Order { number, dies })?);
            host.durable(&host.submit(vec![message]).await?).await?;
        }
    }
    Ok(host.shutdown().await?)
}

/// A host that runs nothing.
fn open(data: &Path, attempts: u32) -> Result<Host, Box<dyn Error>> {
    let built = application(attempts).build()?;
    Ok(Host::open(built.functions, built.rules, HostOptions::new(data))?)
}

/// Starts the process until one of its lives ends well, with nothing left to do; returns how many starts that took.
fn start_until_it_lives(data: &Path, attempts: u32, runs: &Path) -> Result<usize, Box<dyn Error>> {
    let most = expected_runs(attempts).len() + 1 + SPARE_STARTS;
    for start in 1..=most {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--only-deaths", &attempts.to_string(), "--mortal"]).arg(data);
        let status = command.env("RUST_LOG", "error").stdout(Stdio::null()).status()?;
        if status.success() {
            return Ok(start);
        }
        if !is_abort(status) {
            return Err(format!("at start {start} it ended with {status}").into());
        }
    }
    Err(format!("it still dies at start {most}; its handler saw the attempts {:?}", found_runs(runs)?).into())
}

#[cfg(unix)]
fn is_abort(status: ExitStatus) -> bool {
    const SIGABRT: i32 = 6;
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(SIGABRT)
}

#[cfg(not(unix))]
fn is_abort(status: ExitStatus) -> bool {
    !status.success()
}

/// Each start delivers the message once more. It is suspected from as many deliveries on as it has attempts; until then its runs
/// leave no trace, and all of them are the first attempt. From then on each run is noted, and counts.
fn expected_runs(attempts: u32) -> Vec<u32> {
    std::iter::repeat_n(1, attempts as usize - 1).chain(1..=attempts).collect()
}

fn found_runs(runs: &Path) -> Result<Vec<u32>, Box<dyn Error>> {
    let attempts: Result<_, _> = fs::read_to_string(runs)?.lines().map(str::parse).collect();
    Ok(attempts?)
}

/// Compares dead letters, state and egress with what must be there.
async fn compare(data: &Path, attempts: u32) -> Result<(), Box<dyn Error>> {
    let host = open(data, attempts)?;
    let letters = host.store().letters(None, 10)?;
    match &letters[..] {
        [Letter::Dead(letter)] => check(letter, attempts)?,
        other => return Err(format!("instead of one dead letter there are {other:?}").into()),
    }
    let mut expected = BTreeMap::new();
    for id in ADDRESSES {
        let numbers = NUMBERS.into_iter().filter(|number| id != POISONED || *number != DEADLY).collect();
        let record = host.store().record(&Address::parse(&format!("{MORTAL}/{id}"))?)?.unwrap_or_default();
        let applied = record.state.get(APPLIED.name()).map(|stored| stored.value.get::<Applied>()).transpose()?.flatten();
        if applied != Some(Applied(numbers)) {
            return Err(format!("{id} has applied {applied:?}").into());
        }
        expected.extend(applied.map(|Applied(numbers)| (id.to_owned(), numbers)));
    }
    host.shutdown().await?;
    let sent = egress(data)?;
    if sent == expected { Ok(()) } else { Err(format!("the egress has {sent:?} instead of {expected:?}").into()) }
}

fn check(letter: &DeadLetter, attempts: u32) -> Result<(), String> {
    let deadly = letter.envelope.messages.first().and_then(|message| message.get::<Order>().ok()?);
    let right = deadly.is_some_and(|order| order.dies.is_some()) && letter.envelope.to.id() == POISONED;
    match right && letter.reason == Reason::Died && letter.attempts == attempts {
        true => Ok(()),
        false => Err(format!("the dead letter is {letter:?}")),
    }
}

/// What each address sent to the egress, in order.
fn egress(data: &Path) -> Result<BTreeMap<String, Vec<u64>>, Box<dyn Error>> {
    let mut sent: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in fs::read_to_string(data.join("egress").join(format!("{OUT}.jsonl")))?.lines() {
        let record: serde_json::Value = serde_json::from_str(line)?;
        let bytes = record["text"].as_str().unwrap_or_default().as_bytes();
        let text = <String as Value>::decode(bytes)?;
        let (id, number) = text.split_once(' ').ok_or("an egress record of another form")?;
        sent.entry(id.to_owned()).or_default().push(number.parse()?);
    }
    Ok(sent)
}
