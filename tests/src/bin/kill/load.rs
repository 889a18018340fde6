//! A process under load is killed with SIGKILL at random moments and started again; an independent count then shows whether
//! anything was lost, doubled or put out of order.
//!
//! `kill/source` gets numbered ticks over HTTP (with idempotency keys, sent again until they are acknowledged) and causes a
//! message to `kill/sink`, an egress record, and every fifth time a delayed message to `kill/late`.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressFinish};
use lambda_statefun::prelude::*;
use serde::{Deserialize, Serialize};

/// Addresses that ticks go to.
const SOURCES: u64 = 24;
/// Addresses that gather what sources send.
const SINKS: u64 = 6;
/// Threads that send ticks, each for its own sources.
const SENDERS: u64 = 6;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Tick {
    source: u64,
    number: u64,
}

impl Value for Tick {
    const TYPE_NAME: TypeName = TypeName::from_static("kill/tick");
    type Codec = Json;
}

/// Per source: how many came, and the last.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    counts: BTreeMap<u64, (u64, u64)>,
    out_of_order: u64,
}

impl Value for Seen {
    const TYPE_NAME: TypeName = TypeName::from_static("kill/seen");
    type Codec = Json;
}

const SEEN: ValueSpec<Seen> = ValueSpec::new("seen");

fn note(ctx: &mut Context, tick: Tick) -> Result<(), FunctionError> {
    let mut seen = ctx.get(&SEEN)?.unwrap_or_default();
    let (count, last) = seen.counts.get(&tick.source).copied().unwrap_or_default();
    seen.out_of_order += u64::from(count > 0 && tick.number <= last);
    seen.counts.insert(tick.source, (count + 1, tick.number));
    ctx.set(&SEEN, seen)?;
    Ok(())
}

async fn source(ctx: &mut Context, tick: Tick) -> Result<(), FunctionError> {
    note(ctx, tick)?;
    ctx.send(("kill/sink", (tick.source % SINKS).to_string()), &tick)?;
    ctx.egress("kill/out", &tick)?;
    if tick.number.is_multiple_of(5) {
        ctx.send_after(Duration::from_millis(20 + tick.number % 400), ("kill/late", tick.source.to_string()), &tick, None)?;
    }
    Ok(())
}

async fn gather(ctx: &mut Context, tick: Tick) -> Result<(), FunctionError> {
    note(ctx, tick)
}

pub(crate) fn application() -> Application {
    Application::new()
        .function(Function::new("kill/source", source).state(&SEEN))
        .function(Function::new("kill/sink", gather).state(&SEEN))
        .function(Function::new("kill/late", gather).state(&SEEN))
}

/// Kills `times` times, at moments that `seed` decides, and counts. The first half is of the program `before`, if one is named.
pub(crate) fn run(times: u32, seed: u64, before: Option<PathBuf>) -> Result<String, String> {
    Trial::run(times, seed, before).map_err(|problem| format!("seed {seed}: {problem}"))
}

struct Trial {
    before: Option<PathBuf>,
    data: PathBuf,
    address: String,
    /// Numbers acknowledged so far, by source: 1 to this.
    acknowledged: Vec<AtomicU64>,
    retries: AtomicU64,
    enough: AtomicBool,
}

impl Trial {
    fn run(times: u32, seed: u64, before: Option<PathBuf>) -> Result<String, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let trial = Self {
            before,
            data: folder.path().join("data"),
            address: listener.map_err(|error| error.to_string())?.to_string(),
            acknowledged: (0..SOURCES).map(|_| AtomicU64::new(0)).collect(),
            retries: AtomicU64::new(0),
            enough: AtomicBool::new(false),
        };
        let start = Instant::now();
        let mut child = thread::scope(|scope| {
            for sender in 0..SENDERS {
                let trial = &trial;
                scope.spawn(move || trial.send(sender));
            }
            let child = trial.kill_often(times, seed);
            trial.enough.store(true, Ordering::Relaxed);
            child
        })?;
        let counted = trial.count();
        // Whatever the count says, the process must not outlive this one.
        let _ = child.kill().and_then(|()| child.wait());
        counted?;
        let sent: u64 = trial.acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        Ok(format!(
            "{times} kills (seed {seed}), {sent} ticks acknowledged, {} requests repeated, {:.0} s: nothing lost, doubled or out of order",
            trial.retries.load(Ordering::Relaxed),
            start.elapsed().as_secs_f64()
        ))
    }

    /// Starts it, before the last kill but so many.
    fn start(&self, left: u32, times: u32) -> Result<Child, String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(self.before.as_ref().filter(|_| left > times / 2).unwrap_or(&own));
        command.arg("--victim").arg(&self.data).args(["--listen", &self.address]);
        command.env("RUST_LOG", "warn").stdout(Stdio::null()).spawn().map_err(|error| error.to_string())
    }

    /// Kills and starts again, `times` times; the last process stays.
    fn kill_often(&self, times: u32, seed: u64) -> Result<Child, String> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut child = self.start(times, times)?;
        let shown = ProgressBar::new(times.into()).with_finish(ProgressFinish::AndClear);
        for kill in shown.wrap_iter(0..times) {
            let before = self.total();
            thread::sleep(Duration::from_millis(rng.u64(30..600)));
            // Not before it worked at all: a process that is always killed at its start shows nothing.
            let patience = Instant::now() + Duration::from_secs(30);
            while self.total() < before + 20 {
                if Instant::now() > patience {
                    return Err(format!("after {kill} kills the process takes nothing in any more"));
                }
                thread::sleep(Duration::from_millis(2));
            }
            child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
            child = self.start(times - kill - 1, times)?;
        }
        Ok(child)
    }

    fn total(&self) -> u64 {
        self.acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Sends the ticks of every `SENDERS`-th source in turn, each until it is acknowledged.
    fn send(&self, sender: u64) {
        let agent = agent();
        let mut number = 0;
        while !self.enough.load(Ordering::Relaxed) {
            number += 1;
            for source in (sender..SOURCES).step_by(SENDERS as usize) {
                let url = format!("http://{}/kill/source/{source}", self.address);
                let key = format!("{source}-{number}");
                let request = || agent.post(&url).header("idempotency-key", &key).send_json(Tick { source, number });
                while request().is_err() {
                    self.retries.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(5));
                }
                self.acknowledged[source as usize].store(number, Ordering::Relaxed);
            }
        }
    }

    /// Compares what is there with what must be, until it is so or does not change any more.
    fn count(&self) -> Result<(), String> {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            match self.compare() {
                Ok(()) => return Ok(()),
                Err(problem) if Instant::now() > patience => return Err(problem),
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn compare(&self) -> Result<(), String> {
        let sent: Vec<u64> = self.acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        for (source, sent) in sent.iter().enumerate() {
            let source = source as u64;
            self.expect("source", source, BTreeMap::from([(source, (*sent, *sent))]), true)?;
            let late = BTreeMap::from([(source, (sent / 5, 0))]);
            self.expect("late", source, late, false)?;
        }
        for sink in 0..SINKS {
            let sources = (sink..SOURCES).step_by(SINKS as usize);
            let expected = sources.map(|source| (source, (sent[source as usize], sent[source as usize]))).collect();
            self.expect("sink", sink, expected, true)?;
        }
        self.egress(&sent)
    }

    /// Compares an instance's counts, and with `ordered` its last numbers and their order.
    fn expect(&self, function: &str, id: u64, expected: BTreeMap<u64, (u64, u64)>, ordered: bool) -> Result<(), String> {
        let url = format!("http://{}/_/state/kill/{function}/{id}", self.address);
        let mut reply = agent().get(&url).call().map_err(|error| format!("{url}: {error}"))?;
        let text = reply.body_mut().read_to_string().map_err(|error| format!("{url}: {error}"))?;
        let state: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("{url}: {error}"))?;
        let seen = state["state"]["seen"].get("value").cloned().unwrap_or_default();
        let seen: Seen = serde_json::from_value(seen).map_err(|error| format!("{url}: {error} in {text}"))?;
        let same = match ordered {
            true => seen.counts == expected && seen.out_of_order == 0,
            false => seen
                .counts
                .iter()
                .map(|(source, (count, _))| (*source, *count))
                .eq(expected.iter().map(|(source, (count, _))| (*source, *count)).filter(|(_, count)| *count > 0)),
        };
        if same { Ok(()) } else { Err(format!("kill/{function}/{id} has {seen:?} instead of {expected:?}")) }
    }

    /// The egress file has every tick once, in its source's order.
    fn egress(&self, sent: &[u64]) -> Result<(), String> {
        let path = self.data.join("egress/kill/out.jsonl");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut last = vec![0; sent.len()];
        for line in text.lines() {
            let mut record: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("{error} in {line}"))?;
            let tick: Tick = serde_json::from_value(record["value"].take()).map_err(|error| format!("{error} in {line}"))?;
            let last = &mut last[tick.source as usize];
            if tick.number != *last + 1 {
                return Err(format!("the egress has tick {} of source {} after {last}", tick.number, tick.source));
            }
            *last = tick.number;
        }
        if last == sent { Ok(()) } else { Err(format!("the egress ends at {last:?} instead of {sent:?}")) }
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().into()
}
