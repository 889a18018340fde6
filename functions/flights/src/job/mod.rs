//! The main job: reads the departures through the functions, then shows what they know.

mod args;
mod show;
mod summary;

use std::{error::Error, fs, io::Write, path::Path, process::ExitCode};

use args::{Args, Look};
use clap::Parser;
use lambda_statefun::error_chain;

use flights::local::{self, Job, JobError, Outcome};
use show::Shown;

/// Runs it as the command line says.
pub(crate) async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", error_chain(&*error)); // if that is closed, nobody is there to read it
            ExitCode::from(error.downcast_ref::<JobError>().map_or(1, JobError::exit_code))
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    match &args.look {
        None => job(&args).await,
        Some(look) => look_at(&args.data, look).await,
    }
}

/// Leaves looking at the folder to the host's own command line.
async fn look_at(data: &Path, look: &Look) -> Result<(), Box<dyn Error>> {
    let mut arguments = vec!["flights".into(), "--data".into(), data.into()];
    arguments.extend(look.arguments());
    match lambda_statefun::run_with(flights::application(), arguments).await {
        Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn job(args: &Args) -> Result<(), Box<dyn Error>> {
    let Args { input, data, .. } = args;
    let job = Job { input: input.clone(), data: data.clone() };
    if args.fresh {
        lambda_statefun::local::erase(data).map_err(JobError::from)?;
    }
    let mut shown = Shown::new();
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    let outcome = local::run(&job, |progress| shown.show(progress), stop).await;
    shown.end();
    let outcome = outcome?;
    if let Some(path) = &args.report {
        write_report(path, &outcome)?;
    }
    let text = if args.json { summary::json(&job, &outcome)? } else { summary::text(&job, &outcome) };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn write_report(path: &Path, outcome: &Outcome) -> Result<(), Box<dyn Error>> {
    let mut text = serde_json::to_string_pretty(&outcome.report)?;
    text.push('\n');
    fs::write(path, text).map_err(|error| format!("cannot write the report `{}`: {error}", path.display()).into())
}
