//! `statefun-fuzz [--minutes N] [--only TARGET] [--seed S]`: what `cargo xtask fuzz` calls.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use statefun_fuzz::{Progress, TARGETS, Target, fuzz};

#[derive(Parser)]
struct Args {
    /// For how long each target gets inputs
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// Only targets whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Decides the inputs
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let Args { minutes, only, seed } = Args::parse();
    let chosen: Vec<_> = TARGETS.iter().filter(|target| target.name.contains(&only)).collect();
    let Ok(time) = Duration::try_from_secs_f64(minutes * 60.0) else {
        println!("`--minutes {minutes}` is not a time: give a number of minutes, such as 0.5");
        return ExitCode::from(2);
    };
    if chosen.is_empty() {
        println!(
            "no target's name contains `{only}`: there are {}",
            TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ")
        );
        return ExitCode::from(2);
    }
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("{} targets, {minutes} minutes each, seed {seed}", chosen.len());
    // A panic is reported with its input.
    std::panic::set_hook(Box::new(|_| {}));
    let mut bad = 0;
    for target in chosen {
        match one(target, time, seed) {
            Ok(Progress { inputs, shapes, slowest }) => {
                println!(
                    "{:12} {:>12} inputs, {shapes:>5} shapes, slowest {slowest:.1?}",
                    target.name,
                    HumanCount(inputs).to_string()
                );
            }
            Err(problem) => {
                bad += 1;
                println!("{problem}");
            }
        }
    }
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// On a terminal with a bar, elsewhere without.
fn one(target: &Target, time: Duration, seed: u64) -> Result<Progress, String> {
    let bar = ProgressBar::new(time.as_secs());
    let style = ProgressStyle::with_template("{msg:12} {wide_bar} {elapsed}, {prefix}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(target.name);
    let start = Instant::now();
    let result = fuzz(target, time, seed, |Progress { inputs, shapes, .. }| {
        bar.set_position(start.elapsed().as_secs());
        bar.set_prefix(format!("{} inputs, {shapes} shapes", HumanCount(inputs)));
    });
    bar.finish_and_clear();
    result
}
