//! A whole year, in bounded memory. Takes long, so it is asked for:
//!
//! `cargo test --release -p flights --test year -- --ignored`
//!
//! `FLIGHTS_YEAR=FILE` takes your own file, such as nycflights13's; otherwise one is made of the week.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should panic")]

mod common;

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::PathBuf,
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

/// What the host may need at most: its caches and what waits are bounded, whatever the file's length.
const MOST_BYTES: u64 = 512 << 20;

#[test]
#[ignore = "takes a minute or two"]
fn a_year_takes_bounded_memory() {
    let folder = TempDir::new().unwrap();
    let input = std::env::var_os("FLIGHTS_YEAR").map_or_else(|| synthetic(&folder), PathBuf::from);
    let report = folder.path().join("report.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_flights"));
    command.env_remove("AWS_LAMBDA_RUNTIME_API").current_dir(&folder);
    command.args(["--data", "data", "--json", "--input"]).arg(&input).arg("--report").arg(&report);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", String::from_utf8_lossy(&output.stdout));

    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(summary["peak_memory_bytes"].as_u64().unwrap() < MOST_BYTES, "{summary}");
    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    common::assert_same(&report, &common::reference::report(&fs::read_to_string(input).unwrap()));
}

fn synthetic(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("year.csv");
    let mut file = BufWriter::new(File::create(&path).unwrap());
    common::year::write(&fs::read_to_string(common::week()).unwrap(), common::year::YEAR_ROWS, &mut file).unwrap();
    file.flush().unwrap();
    path
}
