//! End to end, without AWS: the Lambda binaries, deployed from template.yaml to an emulator, with faults. `cargo xtask e2e` builds
//! what is needed and runs this.
#![expect(clippy::print_stdout, reason = "a command line tool")]

mod aggregated;
#[cfg(test)]
mod claims;
mod cost;
mod deploy;
mod emulator;
mod faults;
mod http;
mod problem;
mod proxy;
mod runtime;
mod sam;
mod scenarios;
mod stream;
mod task;
#[cfg(test)]
mod templates;
mod world;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use futures_util::{StreamExt, stream as futures};

use deploy::Packages;
use emulator::Emulator;
use faults::Faults;
use http::Http;
use problem::{Problem, Result};
use proxy::Proxy;
use sam::Sam;
use scenarios::{ALL, Scenario};
use world::Setting;

/// No scenario may take longer.
const LIMIT: Duration = Duration::from_secs(240);

#[derive(Parser)]
struct Args {
    /// The emulator's Python
    #[arg(long)]
    python: PathBuf,
    /// The workspace's folder
    #[arg(long)]
    workspace: PathBuf,
    /// The folder with the Lambdas' binaries
    #[arg(long)]
    binaries: PathBuf,
    /// Where the emulator's log goes
    #[arg(long)]
    log: PathBuf,
    /// How often to run everything
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
    /// Only scenarios whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Decides faults and kills
    #[arg(long)]
    seed: Option<u64>,
    /// Print the cost report instead
    #[arg(long)]
    cost: bool,
    /// Write the cost report here too, as JSON
    #[arg(long, requires = "cost")]
    json: Option<PathBuf>,
    /// Deploy what `sam build` made instead, with this SAM CLI
    #[arg(long, requires = "architecture")]
    sam: Option<PathBuf>,
    /// What `sam build` built for: arm64 or x86_64
    #[arg(long)]
    architecture: Option<String>,
    /// Upgrade a stack of the version whose sources and binaries are in these two folders
    #[arg(long, num_args = 2, value_names = ["SOURCES", "BINARIES"])]
    upgrade: Vec<PathBuf>,
    /// Scenarios at a time
    #[arg(long, default_value_t = 3)]
    jobs: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    match run(&args, seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("seed {seed}: {problem}\nthe emulator's log is {}", args.log.display());
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, seed: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if args.cost {
        // No faults, no functions: nothing goes through a proxy.
        let mut emulator = Emulator::start(&args.python, std::net::SocketAddr::from(([127, 0, 0, 1], 1)), &args.log)?;
        return runtime.block_on(async {
            emulator.ready().await?;
            cost::run(&emulator.endpoint(), args.json.as_deref()).await
        });
    }
    let packages = Packages::build(&args.python, &args.workspace, &args.binaries)?;
    let faults = Arc::new(Faults::new(seed));
    let proxy = runtime.block_on(Proxy::start(faults.clone()))?;
    let mut emulator = Emulator::start(&args.python, proxy.address(), &args.log)?;
    proxy.pass_on_to(emulator.address());
    let (workspace, binaries, endpoint) = (args.workspace.clone(), args.binaries.clone(), emulator.endpoint());
    let (python, functions_call) = (args.python.clone(), proxy.address());
    let setting = Setting { packages, endpoint, functions_call, faults, python, workspace, binaries, seed };
    runtime.block_on(async {
        emulator.ready().await?;
        tokio::select! {
            result = chosen(args, &setting) => result,
            _ = tokio::signal::ctrl_c() => Err(Problem::new("interrupted")),
        }
    })
}

async fn chosen(args: &Args, setting: &Setting) -> Result<()> {
    if let [sources, binaries] = &args.upgrade[..] {
        let before = Packages::build(&args.python, sources, binaries)?;
        println!("{}", scenarios::upgrade::run(setting, &before).await?);
        return Ok(());
    }
    let (Some(program), Some(architecture)) = (args.sam.clone(), args.architecture.clone()) else {
        return all(args, setting).await;
    };
    println!("{}", Sam { program, architecture }.run(setting).await?);
    Ok(())
}

/// All scenarios, some at a time; a line for each. The emulator is one process: more at a time would only wait for it.
async fn all(args: &Args, setting: &Setting) -> Result<()> {
    let wanted = |scenario: &&Scenario| args.only.as_ref().is_none_or(|only| scenario.name.contains(only));
    let wanted: Vec<&Scenario> = ALL.iter().filter(wanted).collect();
    if wanted.is_empty() {
        let names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
        return Err(Problem::new(format!("there is no such scenario: {}", names.join(", "))));
    }
    let start = Instant::now();
    let runs = (0..args.times).flat_map(|time| wanted.iter().map(move |scenario| (time, *scenario)));
    let runs = runs.enumerate().map(|(number, (time, scenario))| one(setting, scenario, time, number));
    let results: Vec<bool> = futures::iter(runs).buffer_unordered(args.jobs.max(1)).collect().await;
    let failed = results.iter().filter(|good| !**good).count();
    println!("{} scenarios, {failed} failed, {:.0} s, seed {}", results.len(), start.elapsed().as_secs_f64(), setting.seed);
    if failed == 0 { Ok(()) } else { Err(Problem::new(format!("{failed} scenarios failed"))) }
}

/// Runs a scenario in an account of its own, and says how it went.
async fn one(setting: &Setting, scenario: &Scenario, time: u32, number: usize) -> bool {
    let account = format!("{:012}", 100_000_000_001 + number);
    let start = Instant::now();
    let result = tokio::time::timeout(LIMIT, (scenario.run)(setting, &account)).await;
    let result = result.unwrap_or_else(|_| Err(Problem::new(format!("not done after {} s", LIMIT.as_secs()))));
    let calls: u64 = setting.faults.calls(&account).values().sum();
    setting.faults.clear(&account);
    // It must not load the emulator any more, and has to be possible.
    let result = match (result, setting.packages.remove(&Http::new(&setting.endpoint, &account)).await) {
        (Ok(_), Err(problem)) => Err(problem.during("removing the stack")),
        (result, _) => result,
    };
    let seconds = start.elapsed().as_secs_f64();
    let (name, round) = (scenario.name, if time > 0 { format!(" #{}", time + 1) } else { String::new() });
    match &result {
        Ok(shown) => println!("{name:<20}{round} ok     {seconds:>5.1} s, {calls} calls: {shown}"),
        Err(problem) => println!("{name:<20}{round} FAILED {seconds:>5.1} s, account {account}: {problem}"),
    }
    result.is_ok()
}
