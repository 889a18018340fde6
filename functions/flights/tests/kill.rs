//! The command itself, killed again and again: in the end every number is right.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should panic")]

mod common;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

/// Rows: long enough to be killed on the way.
const ROWS: usize = 20_000;

/// Longer than that nothing here takes.
const PATIENCE: Duration = Duration::from_secs(120);

fn start(folder: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flights"));
    command.env_remove("AWS_LAMBDA_RUNTIME_API").current_dir(folder);
    command.args(["--input", "weeks.csv", "--data", "data", "--report", "report.json", "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits this long at most; whether it ended.
fn ends_within(child: &mut Child, time: Duration) -> bool {
    let step = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    while waited < time {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        sleep(step);
        waited += step;
    }
    false
}

#[test]
fn every_number_is_right_after_kills() {
    let folder = TempDir::new().unwrap();
    let mut weeks = Vec::new();
    common::year::write(&fs::read_to_string(common::week()).unwrap(), ROWS, &mut weeks).unwrap();
    fs::write(folder.path().join("weeks.csv"), &weeks).unwrap();

    let report = folder.path().join("report.json");
    let (mut kills, mut pause) = (0, Duration::from_millis(80));
    let output = loop {
        let mut child = start(folder.path());
        // Each try gets a little further, so that it ends at some time.
        if ends_within(&mut child, if kills < 40 { pause } else { PATIENCE }) {
            break child.wait_with_output().unwrap();
        }
        assert!(kills < 40, "it did not end within {PATIENCE:?}");
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        assert!(!report.exists() || kills >= 3, "it had ended before it was killed often enough");
        kills += 1;
        pause += Duration::from_millis(17);
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(kills >= 3, "it was killed {kills} times only");
    assert_ne!(summary["start"], "new", "{summary}");

    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    common::assert_same(&report, &common::reference::report(&String::from_utf8(weeks).unwrap()));
}
