//! `run` as the last thing but one of a `main`, each time in a process of its own: this program, started again.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Output},
};

use lambda_statefun::prelude::*;

/// Set where this program is what is tested.
const TESTED: &str = "STATEFUN_TEST_RUN";
/// Written by what comes after `run`.
const AFTER: &str = "after";

async fn ignore(_: &mut Context, _: TypedValue) -> Result<(), FunctionError> {
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::var_os(TESTED).is_none() {
        an_error_of_the_host_comes_back_from_run();
        mistakes_in_the_call_end_the_command_line_with_code_2();
        the_version_of_the_application_is_shown();
        return ExitCode::SUCCESS;
    }
    let app = Application::new().function(Function::new("test/ignore", ignore)).version("7.8.9");
    let result = lambda_statefun::run(app).await;
    fs::write(AFTER, format!("{:?}", result.as_ref().err())).unwrap();
    result.map_or_else(|error| ExitCode::from(error.exit_code()), |()| ExitCode::SUCCESS)
}

fn an_error_of_the_host_comes_back_from_run() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("data"), "a file").unwrap();
    let output = tested(folder.path(), &["--data", "data", "--until-idle"]);
    let after = fs::read_to_string(folder.path().join(AFTER)).unwrap();
    assert!(output.status.code() == Some(1) && after.contains("data folder"), "{output:?} {after}");
    let output = tested(folder.path(), &["--data", "other", "--until-idle"]);
    let after = fs::read_to_string(folder.path().join(AFTER)).unwrap();
    assert!(output.status.success() && after == "None", "{output:?} {after}");
}

fn mistakes_in_the_call_end_the_command_line_with_code_2() {
    let folder = tempfile::tempdir().unwrap();
    for mistake in [&["--nonsense"][..], &["--listen", "nowhere", "--handler-timeout", "soon"]] {
        let output = tested(folder.path(), mistake);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && mistake.iter().all(|word| said.contains(word)), "{said}");
        assert!(!folder.path().join(AFTER).exists());
    }
}

fn the_version_of_the_application_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let said = tested(folder.path(), &["--version"]).stdout;
    assert!(String::from_utf8_lossy(&said).contains("7.8.9"), "{said:?}");
}

fn tested(folder: &Path, args: &[&str]) -> Output {
    let program = std::env::current_exe().unwrap();
    Command::new(program).args(args).env(TESTED, "1").current_dir(folder).output().unwrap()
}
