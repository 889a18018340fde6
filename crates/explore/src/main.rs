//! `statefun-explore FAULTS SECONDS [marks]`: explores all worlds with at most so many faults, and fails if anything is wrong or left over.
//! With `marks` later deliveries prove outboxes.
//! `statefun-explore mutations FAULTS SECONDS [marks]` (feature `mutations`): says which safeguards' absence it notices.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use statefun_explore::{Limits, Report, explore};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (words, marks) = match &words[..] {
        [words @ .., "marks"] => (words, true),
        words => (words, false),
    };
    let limits = |faults: &str, seconds: &str| {
        Some(Limits { faults: faults.parse().ok()?, time: Duration::from_secs(seconds.parse().ok()?), marks })
    };
    let done = match *words {
        #[cfg(feature = "mutations")]
        ["mutations", faults, seconds] => limits(faults, seconds).map(mutations),
        [faults, seconds] => limits(faults, seconds).map(|limits| told(&explore(Default::default(), limits, progress))),
        _ => None,
    };
    match done {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            eprintln!(
                "usage: statefun-explore FAULTS SECONDS [marks] | mutations FAULTS SECONDS [marks] (with --features mutations)"
            );
            ExitCode::from(2)
        }
    }
}

fn progress(states: usize) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{states} states");
    }
}

fn told(report: &Report) -> bool {
    if let Some(found) = &report.found {
        println!("{}", found.problem);
        found.path.iter().for_each(|what| println!("  {what}"));
    }
    let end = match (report.exhausted, &report.found) {
        (_, Some(_)) => "a violation",
        (true, None) => "exhausted",
        (false, None) => "NOT exhausted: the time is over",
    };
    println!("{} states, {} ends: {end}", report.states, report.ends);
    report.exhausted && report.found.is_none()
}

#[cfg(feature = "mutations")]
fn mutations(limits: Limits) -> bool {
    for safeguard in statefun_core::Safeguard::ALL {
        let report = explore(statefun_core::Safeguards::without(safeguard), limits, progress);
        let noticed = match &report.found {
            Some(found) => found.problem.clone(),
            None if report.exhausted => "not noticed".to_owned(),
            None => "not noticed, and not exhausted".to_owned(),
        };
        println!("{safeguard:?}: {noticed} ({} states)", report.states);
    }
    true
}
