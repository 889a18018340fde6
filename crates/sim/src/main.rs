//! `statefun-sim seeds FROM COUNT [WORLD]`, `statefun-sim seed N [WORLD]`, `statefun-sim mutations SEEDS`: what `cargo xtask` calls.
//! `statefun-sim traces FROM COUNT` prints a hash of everything that happened in each seed, to compare two builds by.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use indicatif::{ProgressBar, ProgressStyle};
use statefun_core::Safeguards;
use statefun_sim::{Report, Struck, Watch, World, replay_command, trial};

/// Seeds among which each fault has to strike.
const ENOUGH: u64 = 300;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| args.get(index).and_then(|text| text.parse::<u64>().ok());
    let world = args.last().and_then(|name| World::parse(name));
    match (args.first().map(String::as_str), number(1), number(2)) {
        (Some("seeds"), Some(from), Some(count)) => seeds(from, count, world),
        (Some("traces"), Some(from), Some(count)) => traces(from, count, world),
        (Some("seed"), Some(seed), None) => replay(seed, world),
        #[cfg(feature = "mutations")]
        (Some("mutations"), Some(count), None) => mutations::all(count, args.get(2).map(String::as_str), world),
        _ => {
            println!(
                "usage: statefun-sim seeds FROM COUNT [WORLD] | seed N [WORLD] | traces FROM COUNT [WORLD] | mutations SEEDS [SAFEGUARD [WORLD]] (with --features mutations)"
            );
            println!("worlds: {}", World::ALL.map(World::name).join(", "));
            ExitCode::from(2)
        }
    }
}

/// On a terminal, how far the seeds are.
fn progress(count: u64) -> ProgressBar {
    let bar = ProgressBar::new(count);
    match ProgressStyle::with_template("{bar:30} {pos} of {len} seeds, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Runs seeds on all cores; `stop` ends it early.
fn run(
    from: u64,
    count: u64,
    world: Option<World>,
    (safeguards, watch): (Safeguards, Watch),
    stop: impl Fn(&Report) -> bool + Sync,
) -> Vec<Report> {
    let (next, stopped, reports) = (AtomicU64::new(from), AtomicU64::new(u64::MAX), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let shown = progress(count);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count || seed > stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let report = trial(seed, world, safeguards, watch);
                    if stop(&report) {
                        stopped.fetch_min(seed, Ordering::Relaxed);
                    }
                    if let Ok(mut reports) = reports.lock() {
                        reports.push(report);
                    }
                    shown.inc(1);
                }
            });
        }
    });
    shown.finish_and_clear();
    let mut reports = reports.into_inner().unwrap_or_default();
    reports.sort_by_key(|report| report.seed);
    reports
}

fn seeds(from: u64, count: u64, world: Option<World>) -> ExitCode {
    let start = Instant::now();
    let reports = run(from, count, world, (Safeguards::default(), Watch::Nothing), |_| false);
    let bad: Vec<_> = reports.iter().filter(|report| !report.problems.is_empty()).collect();
    for report in bad.iter().take(10) {
        let command = replay_command(report.seed, world);
        println!("seed {} ({}) breaks an invariant; replay it with `{command}`", report.seed, report.world.name());
        report.problems.iter().take(5).for_each(|problem| println!("  {problem}"));
    }
    let mut worlds: BTreeMap<World, (u64, u64)> = BTreeMap::new();
    for report in &reports {
        let (all, broken) = worlds.entry(report.world).or_default();
        *all += 1;
        *broken += u64::from(!report.problems.is_empty());
    }
    for (world, (all, broken)) in worlds {
        println!("{:<14} {all:>7} seeds, {broken} with a violation", world.name());
    }
    let never = print_strikes(&reports);
    let sum = |value: fn(&Report) -> u64| reports.iter().map(value).sum::<u64>();
    println!(
        "{} seeds from {from}, {} with a violation: {} invocations, {} commits, {} ledger look-ups, {} fenced batches, {} dead letters, {:.1} s",
        reports.len(),
        bad.len(),
        sum(|report| report.invocations),
        sum(|report| report.commits),
        sum(|report| report.looks),
        sum(|report| report.fenced),
        sum(|report| report.letters as u64),
        start.elapsed().as_secs_f64(),
    );
    // A few seeds cannot have everything.
    let blind = world.is_none() && count >= ENOUGH && !never.is_empty();
    if blind {
        println!("these never happened: {}", never.join(", "));
    }
    if bad.is_empty() && !blind { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says how often each fault struck; returns those that never did.
fn print_strikes(reports: &[Report]) -> Vec<&'static str> {
    let count = |what: &Struck| reports.iter().filter_map(|report| report.strikes.get(what)).sum::<u64>();
    Struck::ALL.iter().for_each(|what| println!("{:>9}  {}", count(what), what.name()));
    Struck::ALL.iter().filter(|what| count(what) == 0).map(|what| what.name()).collect()
}

fn traces(from: u64, count: u64, world: Option<World>) -> ExitCode {
    for report in run(from, count, world, (Safeguards::default(), Watch::Trace), |_| false) {
        println!("{} {} {:016x}", report.seed, report.world.name(), report.trace);
    }
    ExitCode::SUCCESS
}

fn replay(seed: u64, world: Option<World>) -> ExitCode {
    let report = trial(seed, world, Safeguards::default(), Watch::Print);
    let name = report.world.name();
    println!("seed {seed} ({name}): trace {:016x}, {} invocations, {} commits", report.trace, report.invocations, report.commits);
    report.problems.iter().for_each(|problem| println!("  {problem}"));
    if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(feature = "mutations")]
mod mutations {
    use super::*;
    use statefun_core::Safeguard;

    /// Switches each safeguard off, or only this one; within `count` seeds its absence has to be noticed.
    pub(super) fn all(count: u64, only: Option<&str>, world: Option<World>) -> ExitCode {
        println!("{:<18} {:>10}  what breaks without it", "safeguard", "seed");
        let wanted = |safeguard: &Safeguard| only.is_none_or(|name| format!("{safeguard:?}") == name);
        let safeguards: Vec<_> = Safeguard::ALL.into_iter().filter(wanted).collect();
        let unnoticed = safeguards.iter().filter(|safeguard| !noticed(**safeguard, count, world)).count();
        println!("{} safeguards, {unnoticed} whose absence was not noticed within {count} seeds", safeguards.len());
        if unnoticed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// What few worlds provoke is looked for in one that does: else a change of anything may deal it out of the seeds.
    fn provoking(safeguard: Safeguard) -> Option<World> {
        match safeguard {
            Safeguard::Tombstone => Some(World::Late),
            Safeguard::Hearsay => Some(World::Sparse),
            Safeguard::StateIsNoAttempt => Some(World::Deploying),
            Safeguard::ProofQueue | Safeguard::MarkCovers => Some(World::Moving),
            _ => None,
        }
    }

    fn noticed(safeguard: Safeguard, count: u64, world: Option<World>) -> bool {
        let name = format!("{safeguard:?}");
        let bad = |report: &Report| !report.problems.is_empty();
        let safeguards = (Safeguards::without(safeguard), Watch::Nothing);
        let reports = run(0, count, world.or(provoking(safeguard)), safeguards, bad);
        if let Some(report) = reports.iter().find(|report| bad(report)) {
            println!("{name:<18} {:>10}  {}", report.seed, report.problems[0]);
            return true;
        }
        // What keeps two environments apart, but harms nothing where it fails, is for the conformance kit to notice.
        let findings = statefun_sim::conformance(safeguards.0, statefun_sim::Kind::Plain);
        let finding = findings.first().map_or("NOTHING NOTICED IT", String::as_str);
        println!("{name:<18} {:>10}  {finding}", "kit");
        !findings.is_empty()
    }
}
