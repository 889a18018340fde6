//! `statefun-explore FAULTS SECONDS [marks]`: explores all worlds with at most so many faults, and fails if anything is wrong or left over.
//! With `marks` later deliveries prove outboxes.
//! `statefun-explore mutations FAULTS SECONDS [marks]` (feature `mutations`): fails if a safeguard's absence is not noticed as it is known to
//! be; each safeguard may take so long.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::{
    io::IsTerminal,
    process::ExitCode,
    time::{Duration, Instant},
};

use statefun_core::Safeguards;
use statefun_explore::{Limits, Report, explore};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (words, marks) = match &words[..] {
        [words @ .., "marks"] => (words, true),
        words => (words, false),
    };
    let limits = |faults: &str, seconds: &str| {
        let time = Duration::from_secs(seconds.parse().ok()?);
        Some(Limits { faults: faults.parse().ok()?, time, marks, together: false, every_order: false })
    };
    let done = match *words {
        #[cfg(feature = "mutations")]
        ["mutations", faults, seconds] => limits(faults, seconds).map(mutations),
        [faults, seconds] => limits(faults, seconds).map(exploration),
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

/// Both worlds, in the time of the limits.
fn both(safeguards: Safeguards, limits: Limits) -> impl Iterator<Item = (bool, Report)> {
    let started = Instant::now();
    [false, true].into_iter().map(move |together| {
        let time = limits.time.saturating_sub(started.elapsed());
        (together, explore(safeguards, Limits { time, together, ..limits }, progress))
    })
}

fn exploration(limits: Limits) -> bool {
    both(Safeguards::default(), limits).fold(true, |good, (together, report)| told(together, &report) && good)
}

fn told(together: bool, report: &Report) -> bool {
    if let Some(found) = &report.found {
        println!("{}", found.problem);
        found.path.iter().for_each(|what| println!("  {what}"));
    }
    let end = match (report.exhausted, &report.found) {
        (_, Some(_)) => "a violation",
        (true, None) => "exhausted",
        (false, None) => "NOT exhausted: the time is over",
    };
    let world = if together { "two messages in an envelope" } else { "a message in an envelope" };
    println!("{world:<28} {:>10} states {:>8} ends: {end}", report.states, report.ends);
    report.exhausted && report.found.is_none()
}

#[cfg(feature = "mutations")]
fn mutations(limits: Limits) -> bool {
    use statefun_explore::Expected;
    let mut good = true;
    for safeguard in statefun_core::Safeguard::ALL {
        let expected = Expected::of(safeguard, limits.marks);
        let (mut found, mut exhausted) = (None, true);
        for (_, report) in both(Safeguards::without(safeguard), limits) {
            exhausted &= report.exhausted;
            found = report.found;
            if found.is_some() {
                break;
            }
        }
        let (noticed, as_expected) = match found {
            Some(found) => (found.problem, expected.is_noticed_with(limits.faults)),
            None if exhausted => ("not noticed".to_owned(), !expected.is_noticed_with(limits.faults)),
            // What was not looked at could show it.
            None => ("NOT exhausted: the time is over".to_owned(), false),
        };
        good &= as_expected;
        let why = if as_expected { expected.to_string() } else { format!("UNEXPECTED: {expected}") };
        println!("{:<18} {noticed:<60.60} {why}", format!("{safeguard:?}"));
    }
    good
}
