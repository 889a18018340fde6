//! `cargo xtask VERB`: everything the project does beside being a library, the same in CI and by hand.
#![expect(clippy::print_stdout, reason = "a command line tool")]

mod cold_start;
mod e2e;
mod emulator;
mod layers;
mod licences;
mod run;
mod sam;
mod tests;
mod upgrade;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use run::{Step, quiet_cargo};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's verbs", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Everything that has to pass: format, lints, layers, licences, tests, documentation, exploration, simulation, mutations, kills
    Test,
    /// Simulate seeds, or replay one with its trace
    Sim {
        /// How many seeds
        #[arg(long, default_value_t = 1_000, conflicts_with = "seed")]
        seeds: u64,
        /// The first of them
        #[arg(long, default_value_t = 0, conflicts_with = "seed")]
        from: u64,
        /// Replay this one
        #[arg(long)]
        seed: Option<u64>,
        /// All in this kind of world, such as `moving`; without it each seed has its own
        #[arg(long)]
        world: Option<String>,
    },
    /// Switch each safeguard of the protocol off: the simulation has to notice
    Mutations {
        /// Within this many seeds
        #[arg(long, default_value_t = 200)]
        seeds: u64,
    },
    /// Explore every order of steps and faults in a small world, with the machine that ships: nothing may be left unexplored
    Explore {
        /// Faults that strike at most
        #[arg(long, default_value_t = 2)]
        faults: u8,
        /// The search is given up after so long, and has failed then
        #[arg(long, default_value_t = 15)]
        minutes: u64,
        /// Switch each safeguard off in turn: the search fails unless it notices just those that it is known to notice
        #[arg(long)]
        mutations: bool,
        /// Outboxes are proven by later deliveries, instead of being cleared
        #[arg(long)]
        marks: bool,
    },
    /// Kill a loaded process again and again, from outside and by a message of its own, and count what it did
    Kill {
        /// How often
        #[arg(long, default_value_t = 50)]
        times: u32,
        /// Decides the moments
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Change inputs of everything that reads outside input at random; keeps what breaks a property in the corpus
    Fuzz {
        /// For how long each target gets inputs
        #[arg(long, default_value_t = 20.0)]
        minutes: f64,
        /// Only targets whose name contains this
        #[arg(long, default_value = "")]
        only: String,
        /// Decides the inputs
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Measure; prints a table
    Bench {
        /// Writes the figures here too
        #[arg(long)]
        json: Option<std::path::PathBuf>,
        /// Only scenarios whose name contains this
        #[arg(long)]
        only: Option<String>,
    },
    /// Run the Lambdas end to end: template.yaml on an emulator of AWS, with faults
    E2e {
        /// How often
        #[arg(long, default_value_t = 1)]
        times: u32,
        /// Only scenarios whose name contains this
        #[arg(long)]
        only: Option<String>,
        /// Decides faults and kills
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Upgrade from protocol 1, built from its own sources: a stack on the emulator, and a local host that is killed, in the middle of their work
    Upgrade,
    /// Print the cost report: what a message costs in each shape of traffic. Fails if it costs more than its target
    Cost {
        /// Writes it here too
        #[arg(long)]
        json: Option<std::path::PathBuf>,
    },
    /// Check template.yaml, and build what it deploys with the SAM CLI; prints sizes
    Sam {
        /// arm64 or x86_64
        #[arg(long, default_value = "arm64", value_parser = ["arm64", "x86_64"])]
        architecture: String,
    },
    /// Lint template.yaml
    Template,
    /// Check that dependencies between our crates point down only
    Layers,
    /// Check the licences of all dependencies
    Licences,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Test => tests::all(),
        Verb::Sim { seed: Some(seed), world, .. } => {
            sim(&["seed", &seed.to_string()]).args(&world.as_deref().into_iter().collect::<Vec<_>>()).run()
        }
        Verb::Sim { seeds, from, world, .. } => {
            sim(&["seeds", &from.to_string(), &seeds.to_string()]).args(&world.as_deref().into_iter().collect::<Vec<_>>()).run()
        }
        Verb::Mutations { seeds } => mutations(seeds).run(),
        Verb::Explore { faults, minutes, mutations, marks } => explore(faults, minutes * 60, mutations, marks).run(),
        Verb::Kill { times, seed } => tests::kill(times, seed),
        Verb::Fuzz { minutes, only, seed } => fuzz(minutes, &only, seed).run(),
        Verb::Bench { json, only } => bench(json, only).run(),
        Verb::E2e { times, only, seed } => e2e::run(&e2e_args(times, only, seed)),
        Verb::Upgrade => upgrade::run(),
        Verb::Cost { json } => e2e::cost(json),
        Verb::Sam { architecture } => sam::build(&architecture),
        Verb::Template => sam::lint(),
        Verb::Layers => layers::check(),
        Verb::Licences => licences::check(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn sim(args: &[&str]) -> Step {
    quiet_cargo(&["run", "--release", "--package", "statefun-sim", "--"]).args(args)
}

fn explore(faults: u8, seconds: u64, mutations: bool, marks: bool) -> Step {
    let mut args = vec!["run", "--release", "--package", "statefun-explore"];
    args.extend(if mutations { &["--features", "mutations", "--", "mutations"][..] } else { &["--"] });
    let step = quiet_cargo(&args).args(&[&faults.to_string(), &seconds.to_string()]);
    if marks { step.args(&["marks"]) } else { step }
}

fn mutations(seeds: u64) -> Step {
    let args = ["run", "--release", "--package", "statefun-sim", "--features", "mutations", "--", "mutations"];
    quiet_cargo(&args).args(&[&seeds.to_string()])
}

/// Built as the tests are: with the checks, and fast enough.
fn fuzz(minutes: f64, only: &str, seed: Option<u64>) -> Step {
    let step = quiet_cargo(&["run", "--profile", "test", "--package", "statefun-fuzz", "--"]);
    let step = step.args(&[&format!("--minutes={minutes}"), &format!("--only={only}")]);
    match seed {
        Some(seed) => step.args(&[&format!("--seed={seed}")]),
        None => step,
    }
}

fn e2e_args(times: u32, only: Option<String>, seed: Option<u64>) -> Vec<String> {
    let only = only.map(|only| format!("--only={only}"));
    let seed = seed.map(|seed| format!("--seed={seed}"));
    std::iter::once(format!("--times={times}")).chain(only).chain(seed).collect()
}

fn bench(json: Option<std::path::PathBuf>, only: Option<String>) -> Step {
    let mut step = quiet_cargo(&["run", "--release", "--package", "statefun-tests", "--bin", "bench", "--"]);
    if let Some(path) = json {
        step = step.args(&["--json", &path.display().to_string()]);
    }
    if let Some(only) = only {
        step = step.args(&["--only", &only]);
    }
    step
}
