//! The main job on this machine; where Lambda runs it, the functions.

#[cfg(feature = "local")]
mod job;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    #[cfg(feature = "local")]
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_none() {
        return job::main().await;
    }
    // An error ends the process, with its own exit code.
    let _ = lambda_statefun::run(flights::application()).await;
    ExitCode::SUCCESS
}
