//! `statefun-sim seeds FROM COUNT`, `statefun-sim seed N`, `statefun-sim mutations SEEDS`: what `cargo xtask` calls.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use statefun_core::Safeguards;
use statefun_sim::{Report, replay_command, trial};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| args.get(index).and_then(|text| text.parse::<u64>().ok());
    match (args.first().map(String::as_str), number(1), number(2)) {
        (Some("seeds"), Some(from), Some(count)) => seeds(from, count),
        (Some("seed"), Some(seed), None) => replay(seed),
        #[cfg(feature = "mutations")]
        (Some("mutations"), Some(count), None) => mutations::all(count),
        _ => {
            println!("usage: statefun-sim seeds FROM COUNT | seed N | mutations SEEDS (with --features mutations)");
            ExitCode::from(2)
        }
    }
}

/// Runs seeds on all cores; `stop` ends it early.
fn run(from: u64, count: u64, safeguards: Safeguards, stop: impl Fn(&Report) -> bool + Sync) -> Vec<Report> {
    let (next, stopped, reports) = (AtomicU64::new(from), AtomicU64::new(u64::MAX), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count || seed > stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let report = trial(seed, safeguards, false);
                    if stop(&report) {
                        stopped.fetch_min(seed, Ordering::Relaxed);
                    }
                    if let Ok(mut reports) = reports.lock() {
                        reports.push(report);
                    }
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap_or_default();
    reports.sort_by_key(|report| report.seed);
    reports
}

fn seeds(from: u64, count: u64) -> ExitCode {
    let start = Instant::now();
    let reports = run(from, count, Safeguards::default(), |_| false);
    let bad: Vec<_> = reports.iter().filter(|report| !report.problems.is_empty()).collect();
    for report in bad.iter().take(10) {
        println!("seed {} breaks an invariant; replay it with `{}`", report.seed, replay_command(report.seed));
        report.problems.iter().take(5).for_each(|problem| println!("  {problem}"));
    }
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
    if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(seed: u64) -> ExitCode {
    let report = trial(seed, Safeguards::default(), true);
    println!("seed {seed}: trace {:016x}, {} invocations, {} commits", report.trace, report.invocations, report.commits);
    report.problems.iter().for_each(|problem| println!("  {problem}"));
    if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(feature = "mutations")]
mod mutations {
    use super::*;
    use statefun_core::Safeguard;

    /// Switches each safeguard off; within `count` seeds each has to be missed.
    pub(super) fn all(count: u64) -> ExitCode {
        println!("{:<18} {:>10}  what breaks without it", "safeguard", "seed");
        let unnoticed = Safeguard::ALL.into_iter().filter(|safeguard| !noticed(*safeguard, count)).count();
        println!("{} safeguards, {unnoticed} of them not missed within {count} seeds", Safeguard::ALL.len());
        if unnoticed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn noticed(safeguard: Safeguard, count: u64) -> bool {
        let name = format!("{safeguard:?}");
        let safeguards = Safeguards::without(safeguard);
        let reports = run(0, count, safeguards, |report| !report.problems.is_empty());
        if let Some(report) = reports.iter().find(|report| !report.problems.is_empty()) {
            println!("{name:<18} {:>10}  {}", report.seed, report.problems[0]);
            return true;
        }
        // What keeps two environments apart, but harms nothing where it fails, is for the conformance kit to notice.
        let findings = statefun_sim::conformance(safeguards, false);
        let finding = findings.first().map_or("NOTHING NOTICED IT", String::as_str);
        println!("{name:<18} {:>10}  {finding}", "kit");
        !findings.is_empty()
    }
}
