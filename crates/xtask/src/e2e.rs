//! The end-to-end suite: installs the emulator, builds the Lambdas for this machine, and runs the suite.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    emulator::EMULATOR,
    run::{quiet_cargo, root},
    tests::LAMBDA,
};

/// The suite's package, and its program.
const SUITE: &str = "statefun-e2e";

/// Prints the cost report. Optimised, as what is deployed is: time on a processor is part of the price.
pub(crate) fn cost(json: Option<PathBuf>) -> Result<(), String> {
    let json = json.map(|path| format!("--json={}", path.display()));
    quiet_cargo(&["build", "--release", "--package", SUITE, "--bin", SUITE]).run()?;
    suite("release", &std::iter::once("--cost".to_owned()).chain(json).collect::<Vec<_>>())
}

/// Runs it with these further arguments.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    build()?;
    suite("debug", args)
}

/// Deploys what `sam build` made to the emulator, with the real SAM CLI.
pub(crate) fn deploy(sam: &Path, architecture: &str) -> Result<(), String> {
    build()?;
    suite("debug", &[format!("--sam={}", sam.display()), format!("--architecture={architecture}")])
}

/// As the tests are built: the dependencies are there already, and arithmetic is checked. `cargo xtask sam` builds the release.
pub(crate) fn build() -> Result<(), String> {
    quiet_cargo(&["build", "--workspace", "--bins", "--tests", "--profile", "test", "--features", LAMBDA]).run()
}

/// `built` is the folder of the programs in `target`.
fn suite(built: &str, args: &[String]) -> Result<(), String> {
    let tools = EMULATOR.install()?;
    let binaries = root().join("target").join(built);
    let mut suite = Command::new(binaries.join(SUITE));
    suite.arg("--python").arg(tools.join("python")).arg("--workspace").arg(root()).arg("--binaries").arg(&binaries);
    suite.arg("--log").arg(root().join("target/emulator.log")).args(args);
    let status = suite.status().map_err(|error| format!("the suite cannot be started: {error}"))?;
    if status.success() { Ok(()) } else { Err("the end-to-end suite failed".to_owned()) }
}
