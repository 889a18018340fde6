//! Running commands from the workspace's root.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// A command to run from the workspace's root.
pub(crate) struct Step {
    command: Command,
    shown: String,
}

/// `cargo ARGS`, with the cargo that runs this.
pub(crate) fn cargo(args: &[&str]) -> Step {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    Step { command, shown: "cargo".to_owned() }.args(args)
}

/// The same, with cargo's own progress for those who watch, and quiet in a pipe.
pub(crate) fn quiet_cargo(args: &[&str]) -> Step {
    match args {
        [verb, rest @ ..] if !std::io::stderr().is_terminal() => cargo(&[*verb, "--quiet"]).args(rest),
        _ => cargo(args),
    }
}

/// A program that was built as the tests are.
pub(crate) fn program(name: &str) -> Step {
    let mut command = Command::new(root().join("target/debug").join(name));
    command.current_dir(root());
    Step { command, shown: name.to_owned() }
}

impl Step {
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        for arg in args {
            self.shown.push(' ');
            self.shown.push_str(arg);
        }
        self
    }

    /// In this folder, instead of the workspace's root.
    pub(crate) fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it with its output shown.
    pub(crate) fn run(mut self) -> Result<(), String> {
        let status = self.command.status().map_err(|error| format!("`{}` cannot be started: {error}", self.shown))?;
        if status.success() { Ok(()) } else { Err(format!("`{}` failed ({status})", self.shown)) }
    }

    /// Runs it and returns its standard output.
    pub(crate) fn output(mut self) -> Result<Vec<u8>, String> {
        let output = self.command.stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| format!("`{}` cannot be started: {error}", self.shown))?;
        if output.status.success() { Ok(output.stdout) } else { Err(format!("`{}` failed ({})", self.shown, output.status)) }
    }
}

/// What the parts so far took.
#[derive(Default)]
pub(crate) struct Parts(Vec<(&'static str, Duration)>);

impl Parts {
    /// Runs a named part and says how long it took.
    pub(crate) fn run(&mut self, name: &'static str, action: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        println!("== {name}");
        let start = Instant::now();
        let result = action();
        let took = start.elapsed();
        println!("== {name}: {} in {:.0} s\n", if result.is_ok() { "ok" } else { "FAILED" }, took.as_secs_f64());
        self.0.push((name, took));
        result
    }

    /// A table of minutes.
    pub(crate) fn print(&self) {
        for (name, took) in &self.0 {
            println!("{:>7.1} min  {name}", took.as_secs_f64() / 60.0);
        }
        let all: Duration = self.0.iter().map(|(_, took)| *took).sum();
        println!("{:>7.1} min  in all", all.as_secs_f64() / 60.0);
    }
}

pub(crate) fn root() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).map_or(own.clone(), PathBuf::from)
}

/// `cargo metadata` of the workspace.
pub(crate) fn metadata(args: &[&str]) -> Result<serde_json::Value, String> {
    let output = cargo(&["metadata", "--format-version", "1"]).args(args).output()?;
    serde_json::from_slice(&output).map_err(|error| format!("`cargo metadata` cannot be read: {error}"))
}
