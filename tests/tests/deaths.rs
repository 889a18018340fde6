//! A message that kills its process at once, again and again: `cargo xtask kill` tries the same with the release build.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::process::Command;

#[test]
fn a_message_that_kills_at_once_is_given_up_after_its_attempts() {
    for attempts in [1, 2, 5] {
        let output = Command::new(env!("CARGO_BIN_EXE_kill")).args(["--only-deaths", &attempts.to_string()]).output().unwrap();
        let (said, logged) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}{logged}");
    }
}
