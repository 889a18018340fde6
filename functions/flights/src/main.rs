//! The main job on this machine; where Lambda runs it, the functions.

#[cfg(feature = "local")]
mod job;

use std::{io::Write, process::ExitCode};

#[tokio::main]
async fn main() -> ExitCode {
    #[cfg(feature = "local")]
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_none() {
        return job::main().await;
    }
    match lambda_statefun::run(flights::application()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:?}"); // if that is closed, nobody is there to read it
            ExitCode::from(error.exit_code())
        }
    }
}
