//! `cargo xtask kill --times N`: a process dies again and again and is started again, and an independent count shows what that did.
//! In [`load`] it is killed from outside, in [`deaths`] by one of its own messages.
#![expect(clippy::print_stdout, reason = "a command line tool")]

mod deaths;
mod load;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use lambda_statefun::{Application, OnFailure};

#[derive(Parser)]
struct Args {
    /// How often to kill
    #[arg(long, default_value_t = 50)]
    times: u32,
    /// Decides the moments
    #[arg(long)]
    seed: Option<u64>,
    /// Only lets a message kill the process, which has so many attempts
    #[arg(long, value_name = "ATTEMPTS")]
    only_deaths: Option<u32>,
    /// The first half of the kills is of this program, of an older version: then this one takes over its data folder
    #[arg(long, value_name = "PROGRAM")]
    before: Option<PathBuf>,
    /// Used by itself: be the process that is killed
    #[arg(long, hide = true)]
    victim: Option<PathBuf>,
    #[arg(long, hide = true, default_value = "")]
    listen: String,
    /// Used by itself: be the process that dies of a message
    #[arg(long, hide = true, requires = "only_deaths")]
    mortal: Option<PathBuf>,
    #[arg(long, hide = true)]
    input: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Args { times, seed, only_deaths, before, victim, listen, mortal, input } = Args::parse();
    let text = |path: PathBuf| path.display().to_string();
    match (victim, mortal, only_deaths) {
        (Some(data), ..) => host(load::application(), vec!["--data".into(), text(data), "--listen".into(), listen]),
        (_, Some(data), Some(attempts)) => host(deaths::application(attempts), deaths::args(text(data), input.map(text))),
        (_, _, Some(attempts)) => said(deaths::run(attempts)),
        _ => all(times, seed.unwrap_or_else(|| fastrand::u64(..1_000_000)), before),
    }
}

/// Both parts, the quick one first.
fn all(times: u32, seed: u64, before: Option<PathBuf>) -> ExitCode {
    let deaths = [2, OnFailure::DEFAULT_ATTEMPTS].map(|attempts| said(deaths::run(attempts)));
    let load = said(load::run(times, seed, before));
    deaths.into_iter().chain([load]).find(|code| *code != ExitCode::SUCCESS).unwrap_or(ExitCode::SUCCESS)
}

/// The process under test: an ordinary local host.
fn host(application: Application, args: Vec<String>) -> ExitCode {
    let args = std::iter::once("kill".to_owned()).chain(args);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map(|runtime| runtime.block_on(lambda_statefun::run_with(application, args))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Prints what came out.
fn said(result: Result<String, String>) -> ExitCode {
    match result {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            println!("{problem}");
            ExitCode::FAILURE
        }
    }
}
