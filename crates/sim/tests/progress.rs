//! Long work shows what it does on a terminal, and stays quiet in a pipe.

use std::process::{Command, Output};

const RUN: [&str; 3] = ["seeds", "7000", "30"];
const LAST_LINE: &str = "30 seeds from 7000, 0 with a violation";

fn sim() -> &'static str {
    env!("CARGO_BIN_EXE_statefun-sim")
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

#[test]
fn on_a_terminal_the_simulation_shows_how_many_seeds_are_left() {
    let terminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]))";
    let shown = output(Command::new("python3").args(["-c", terminal, sim()]).args(RUN).env("TERM", "xterm"));
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(" of 30 seeds, ") && shown.contains(LAST_LINE), "{shown}");
}

#[test]
fn in_a_pipe_it_writes_only_its_result() {
    let shown = output(Command::new(sim()).args(RUN));
    assert!(String::from_utf8_lossy(&shown.stdout).contains(LAST_LINE));
    assert_eq!(String::from_utf8_lossy(&shown.stderr), "");
}
