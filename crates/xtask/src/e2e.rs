//! The end-to-end suite: installs the emulator, builds the Lambdas for this machine, and runs the suite.

use std::{path::PathBuf, process::Command};

use crate::{
    emulator::EMULATOR,
    run::{cargo, root},
};

/// Packages with binaries that the suite runs; one call of cargo, so that what they share is built once.
const PACKAGES: &[&str] = &["router-lambda", "greeter", "shopping-cart", "flights", "statefun-e2e"];

/// Prints the cost report.
pub(crate) fn cost(json: Option<PathBuf>) -> Result<(), String> {
    let json = json.map(|path| format!("--json={}", path.display()));
    cargo(&["build", "--quiet", "--release", "--package", "statefun-e2e", "--bin", "statefun-e2e"]).run()?;
    suite(&std::iter::once("--cost".to_owned()).chain(json).collect::<Vec<_>>())
}

/// Runs it with these further arguments.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let mut build = cargo(&["build", "--quiet", "--release", "--features", "greeter/lambda,shopping-cart/lambda,flights/lambda"]);
    for package in PACKAGES {
        build = build.args(&["--package", package]);
    }
    build.run()?;
    suite(args)
}

fn suite(args: &[String]) -> Result<(), String> {
    let tools = EMULATOR.install()?;
    let binaries = root().join("target/release");
    let mut suite = Command::new(binaries.join("statefun-e2e"));
    suite.arg("--python").arg(tools.join("python")).arg("--workspace").arg(root()).arg("--binaries").arg(&binaries);
    suite.arg("--log").arg(root().join("target/emulator.log")).args(args);
    let status = suite.status().map_err(|error| format!("the suite cannot be started: {error}"))?;
    if status.success() { Ok(()) } else { Err("the end-to-end suite failed".to_owned()) }
}
