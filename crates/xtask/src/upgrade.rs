//! The upgrade from protocol 1: its binaries, built from the last commit that spoke it, and then ours, over the same table and folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    e2e,
    run::{program, quiet_cargo, root},
    tests::LAMBDA,
};

/// The last commit that speaks protocol 1.
const BEFORE: &str = "372e3b5a850054e84ba541c2761bed06d05091ed";
const KILLS: &str = "--times=20";

/// Builds what was before, and upgrades from it.
pub(crate) fn run() -> Result<(), String> {
    let folder = root().join("target/protocol-1");
    let (sources, target) = (folder.join("tree"), folder.join("built"));
    if !sources.exists() {
        let part = folder.join("part");
        unpack(&part)?;
        fs::rename(&part, &sources).map_err(|error| format!("{}: {error}", sources.display()))?;
    }
    println!("building protocol 1 from {} into {} (minutes, the first time)", &BEFORE[..8], target.display());
    // With the features that its tests were built with, for both the local host and Lambda.
    let build = ["build", "--workspace", "--bins", "--profile", "test", "--features", LAMBDA];
    quiet_cargo(&build).within(&sources).env("CARGO_TARGET_DIR", &text(&target)).run()?;
    let binaries = target.join("debug");
    e2e::run(&["--upgrade".to_owned(), text(&sources), text(&binaries)])?;
    println!("a local host of protocol 1 is killed, and ours goes on with its folder");
    program("kill").args(&[KILLS, "--before", &text(&binaries.join("kill"))]).run()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Its sources, from this repository's history.
fn unpack(into: &PathBuf) -> Result<(), String> {
    fs::create_dir_all(into).map_err(|error| format!("{}: {error}", into.display()))?;
    let missing =
        || format!("commit {BEFORE} is needed, and not in this repository: `git fetch --unshallow` brings all of its history");
    let git =
        Command::new("git").current_dir(root()).args(["archive", BEFORE]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut git = git.map_err(|error| format!("git cannot be started: {error}"))?;
    let archive = git.stdout.take().ok_or_else(missing)?;
    let tar = Command::new("tar").args(["-x", "-C"]).arg(into).stdin(archive).stderr(Stdio::null()).status();
    let tar = tar.map_err(|error| format!("tar cannot be started: {error}"))?;
    match git.wait() {
        Ok(status) if status.success() && tar.success() => Ok(()),
        _ => Err(missing()),
    }
}
