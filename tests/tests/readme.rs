//! What README.md shows can be done: its program is run, and its `curl`s are sent to it and to the greeter.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use statefun_host::{App, run_cli};

const README: &str = include_str!("../../README.md");
const PROGRAM: &str = include_str!("../src/bin/readme.rs");

/// The blocks of README.md in a language.
fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    README.split("```").skip(1).step_by(2).filter_map(move |block| block.strip_prefix(language)?.strip_prefix('\n'))
}

/// The `curl`s of README.md that send a message to a function, in order.
fn curls() -> Vec<&'static str> {
    blocks("sh").flat_map(str::lines).filter(|line| line.starts_with("curl ") && line.contains(" -d ")).collect()
}

/// A program that listens.
struct Server {
    process: Option<Child>,
    data: tempfile::TempDir,
}

impl Server {
    /// README.md's own program.
    fn start(with: impl FnOnce(&mut Command)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_readme"));
        command.arg("--data").arg(data.path().join("data")).stderr(Stdio::null());
        with(&mut command);
        Self { process: Some(command.spawn().unwrap()), data }
    }

    /// The example, within this process: it ends with it.
    fn greeter() -> Self {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("data").into_os_string();
        let args = ["greeter".into(), "--listen".into(), "0".into(), "--data".into(), folder];
        thread::spawn(move || {
            let built = greeter::application().build().unwrap();
            let app = App { rules: built.rules, ..App::new(built.functions) };
            tokio::runtime::Runtime::new().unwrap().block_on(run_cli(app, args)).unwrap();
        });
        Self { process: None, data }
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.data.path().join("data").join(name)).unwrap_or_default()
    }

    fn address(&self) -> String {
        until(|| self.file("address").lines().next().map(str::to_owned))
    }

    /// Does what a line of README.md does, and says what the answer was.
    fn answers(&self, curl: &str) -> String {
        let line = curl.replace("localhost:8080", &self.address().replace("0.0.0.0", "127.0.0.1"));
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        format!("{line}: {}", String::from_utf8_lossy(&output.stdout))
    }

    fn greeting(&self) -> String {
        until(|| Some(self.file("egress/example/greetings.jsonl")).filter(|text| text.ends_with('\n')))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "nothing came");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_programs_that_the_readme_shows_understand_the_curls_below_them() {
    let shown = blocks("rust").next().unwrap();
    assert_eq!(PROGRAM.split_once("\n\n").unwrap().1, shown, "tests/src/bin/readme.rs is not what README.md shows: copy it");
    let [first, second] = curls()[..] else { panic!("{:?}", curls()) };
    for (server, curl, greeting) in [
        (Server::start(|command| _ = command.args(["--listen", "0"])), first, "hello Ann, 1"),
        (Server::greeter(), second, "Welcome Ann"),
    ] {
        let answer = server.answers(curl);
        assert!(answer.contains("\"id\""), "{answer}");
        let line: serde_json::Value = serde_json::from_str(&server.greeting()).unwrap();
        assert_eq!(line["value"], greeting, "{curl}: {line}");
        // Text that is said to be a protobuf message would be read as an empty name.
        let lie = server.answers(&curl.replace(" -d ", " -H 'Content-Type: application/vnd.io.statefun.types/string' -d "));
        assert!(lie.contains("\"error\""), "{lie}");
    }
}

#[test]
fn the_token_of_the_environment_is_asked_for() {
    let server = Server::start(|command| _ = command.args(["--listen", "0.0.0.0:0"]).env("STATEFUN_TOKEN", "0123456789abcdef"));
    let curl = curls()[0];
    let answer = server.answers(curl);
    assert!(answer.contains("Authorization: Bearer"), "{answer}");
    let answer = server.answers(&format!("{curl} -H 'Authorization: Bearer 0123456789abcdef'"));
    assert!(answer.contains("\"id\""), "{answer}");
}
