//! A message whose handler ends the process at once, and a process that is started again whenever it has died: the message is given
//! up after exactly its attempts, and what waits before, beside and behind it takes effect once, however it came in.

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
/// The address that sends it, if it is sent.
const SENDER: &str = "before";
const ADDRESSES: [&str; 4] = [SENDER, POISONED, "beside", "behind"];
/// Messages for each address.
const NUMBERS: [u64; 3] = [1, 2, 3];
/// Of these the one that kills.
const DEADLY: u64 = 2;
/// Starts beyond twice the attempts, before this gives up.
const SPARE_STARTS: usize = 4;

const APPLIED: ValueSpec<Applied> = ValueSpec::new("applied");

/// How the deadly message comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It is durable before the first start, as what was acknowledged over HTTP.
    Waiting,
    /// It is read from a file, and would be run before it is durable.
    Read,
    /// Another instance sends it, which commits just before.
    Sent,
}

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    id: String,
    number: u64,
    /// The process dies of this at its right address, after it has noted its attempt in this file. Any other address sends it there.
    poison: Option<PathBuf>,
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
    match &order.poison {
        Some(runs) if ctx.address().id() == POISONED => {
            let attempt = ctx.message().attempt;
            writeln!(fs::OpenOptions::new().create(true).append(true).open(runs)?, "{attempt}")?;
            std::process::abort();
        }
        Some(_) => ctx.send((MORTAL, POISONED), &order)?,
        None => {}
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

/// What the process that dies is started with.
pub(crate) fn args(data: String, input: Option<String>) -> Vec<String> {
    let input = input.map(|input| ["--input", &input, "--to", MORTAL, "--id", "id"].map(String::from));
    let args = ["--until-idle".to_owned(), "--data".to_owned(), data];
    args.into_iter().chain(input.into_iter().flatten()).collect()
}

/// The whole trial, with this many attempts.
pub(crate) fn run(attempts: u32) -> Result<String, String> {
    let mut lives = Vec::new();
    for way in [Way::Waiting, Way::Read, Way::Sent] {
        let tried = trial(way, attempts);
        let (runs, starts) = tried.map_err(|error| {
            format!("a message that kills at once, {way:?}, with {attempts} attempts: {}", error_chain(&*error))
        })?;
        lives.push(format!("{way:?} {runs} runs and {starts} starts"));
    }
    let lives = lives.join(", ");
    Ok(format!("a message that kills at once: given up after {attempts} attempts ({lives}); all others took effect once"))
}

/// How many runs and how many starts it took.
fn trial(way: Way, attempts: u32) -> Result<(usize, usize), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let (runs, input) = (folder.path().join("runs"), folder.path().join("input.jsonl"));
    let mortal = Mortal { data: folder.path().join("data"), attempts, input: (way == Way::Read).then_some(input) };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(mortal.put(&orders(way, &runs)))?;
    let starts = mortal.start_until_it_lives(&runs)?;
    runtime.block_on(mortal.compare())?;
    let found = found_runs(&runs)?;
    if !expected_runs(way, attempts).contains(&found) {
        return Err(format!("its handler saw the attempts {found:?}").into());
    }
    match starts == found.len() + 1 {
        true => Ok((found.len(), starts)),
        false => Err(format!("it took {starts} starts for {} runs", found.len()).into()),
    }
}

/// Everything that comes in, in order.
fn orders(way: Way, runs: &Path) -> Vec<Order> {
    let sender = if way == Way::Sent { SENDER } else { POISONED };
    let order = |number, id: &str| {
        let poison = (id == sender && number == DEADLY).then(|| runs.to_owned());
        Order { id: id.to_owned(), number, poison }
    };
    let each = |number| ADDRESSES.into_iter().map(move |id| order(number, id));
    let wanted = |order: &Order| order.id != POISONED || order.number != DEADLY || order.poison.is_some();
    NUMBERS.into_iter().flat_map(each).filter(wanted).collect()
}

/// Each start delivers the message once more. It is suspected from as many deliveries on as it has attempts, two at least; until then its
/// runs leave no trace, and all of them are the first attempt. So is the one that is watched. From then on it runs alone, and each run
/// counts. A first process may run the message before it is durable, and then nothing is left of that delivery; each process after one
/// that died waits for that.
fn expected_runs(way: Way, attempts: u32) -> Vec<Vec<u32>> {
    let runs = |unnoted: u32| std::iter::repeat_n(1, unnoted as usize).chain(1..=attempts).collect();
    let fewest = attempts.max(2);
    match way {
        Way::Waiting => vec![runs(fewest)],
        Way::Read | Way::Sent => vec![runs(fewest), runs(fewest + 1)],
    }
}

fn found_runs(runs: &Path) -> Result<Vec<u32>, Box<dyn Error>> {
    let attempts: Result<_, _> = fs::read_to_string(runs)?.lines().map(str::parse).collect();
    Ok(attempts?)
}

/// The process that dies, and what it is started with.
struct Mortal {
    data: PathBuf,
    attempts: u32,
    input: Option<PathBuf>,
}

impl Mortal {
    /// Puts all messages where the process finds them.
    async fn put(&self, orders: &[Order]) -> Result<(), Box<dyn Error>> {
        if let Some(input) = &self.input {
            let lines: Result<Vec<_>, _> = orders.iter().map(serde_json::to_string).collect();
            return Ok(fs::write(input, lines?.join("\n"))?);
        }
        let host = self.open()?;
        for order in orders {
            let message = Message::new(Address::parse(&format!("{MORTAL}/{}", order.id))?, TypedValue::of(order)?);
            host.durable(&host.submit(vec![message]).await?).await?;
        }
        Ok(host.shutdown().await?)
    }

    /// A host that runs nothing.
    fn open(&self) -> Result<Host, Box<dyn Error>> {
        let built = application(self.attempts).build()?;
        Ok(Host::open(built.functions, built.rules, HostOptions::new(&self.data))?)
    }

    /// Starts the process until one of its lives ends well, with nothing left to do; returns how many starts that took.
    fn start_until_it_lives(&self, runs: &Path) -> Result<usize, Box<dyn Error>> {
        let most = 2 * self.attempts as usize + SPARE_STARTS;
        for start in 1..=most {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--only-deaths", &self.attempts.to_string(), "--mortal"]).arg(&self.data);
            if let Some(input) = &self.input {
                command.arg("--input").arg(input);
            }
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

    /// Compares dead letters, state and egress with what must be there.
    async fn compare(&self) -> Result<(), Box<dyn Error>> {
        let host = self.open()?;
        let letters = host.store().letters(None, 10)?;
        match &letters[..] {
            [Letter::Dead(letter)] => check(letter, self.attempts)?,
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
        let sent = egress(&self.data)?;
        if sent == expected { Ok(()) } else { Err(format!("the egress has {sent:?} instead of {expected:?}").into()) }
    }
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

fn check(letter: &DeadLetter, attempts: u32) -> Result<(), String> {
    let deadly = letter.envelope.messages.first().and_then(|message| message.get::<Order>().ok()?);
    let right = deadly.is_some_and(|order| order.poison.is_some()) && letter.envelope.to.id() == POISONED;
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
        let text = record["value"].as_str().unwrap_or_default();
        let (id, number) = text.split_once(' ').ok_or("an egress record of another form")?;
        sent.entry(id.to_owned()).or_default().push(number.parse()?);
    }
    Ok(sent)
}
