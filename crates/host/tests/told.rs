//! What a person sees of a host: its first line, its version, its progress, its errors, and what ties a log line to a dead letter.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::fs;

use common::{
    folder, open,
    process::{finish, finish_well, on_a_terminal, printed, said, serve_if_asked, words},
};
use statefun_embedded::Letter;

const TO_COUNTER: &str = "--until-idle --to test/counter --id id --type test/order";

#[test]
fn a_host_in_a_process_of_its_own() {
    serve_if_asked();
}

#[test]
fn the_first_line_names_functions_address_and_data_folder() {
    let (_folder, folder) = folder();
    let said = finish_well(&folder, words("--data some/where --listen 0 --until-idle"));
    let first = said.lines().next().unwrap();
    for part in ["test/both, test/counter, test/echo", "address=\"http://127.0.0.1:", "data=some/where"] {
        assert!(first.contains(part), "{part} in {first}");
    }
    let said = finish_well(&folder, words("--data d --until-idle"));
    assert!(said.lines().next().unwrap().contains("address=\"none\""), "{said}");
}

#[test]
fn the_version_is_shown_and_nothing_is_started() {
    let (_folder, folder) = folder();
    for option in ["--version", "-V"] {
        let printed = printed(&folder, [option, "--data", "d"]);
        assert!(printed.contains(concat!("app lambda-statefun ", env!("CARGO_PKG_VERSION"), "\n")), "{printed}");
    }
    assert!(!folder.join("d").exists());
}

#[test]
fn an_error_of_the_system_is_said_once() {
    let (_folder, folder) = folder();
    fs::write(folder.join("file"), "").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("--data d --listen {}", taken.local_addr().unwrap());
    for arguments in [
        "--data file/d --until-idle",
        "--data file --until-idle",
        "--data file --fresh --until-idle",
        "--data d --module missing.yaml --until-idle",
        "--data d --token-file missing --until-idle",
        "--data d --input missing.csv --to test/counter --id id --until-idle",
        &listen,
    ] {
        let output = finish(&folder, words(arguments));
        let said = said(&output);
        assert!(!output.status.success(), "{arguments}: {said}");
        assert_eq!(said.matches("(os error ").count(), 1, "{arguments}: {said}");
    }
}

#[test]
fn a_failure_is_logged_with_what_ties_it_to_its_dead_letter() {
    let (_folder, folder) = folder();
    fs::write(folder.join("orders.jsonl"), "{\"id\":\"a\",\"n\":-1}\n").unwrap();
    let said = finish_well(&folder, words(&format!("--data d --input orders.jsonl {TO_COUNTER}")));
    let letter = match open(&folder.join("d")).store().letters(None, 10).unwrap().remove(0) {
        Letter::Dead(letter) => letter,
        other => panic!("{other:?}"),
    };
    let at = |level: &str| said.lines().filter(|line| line.contains(level)).collect::<Vec<_>>().join("\n");
    for part in ["function=test/counter", "attempt=1", "kind=\"terminal\"", "reason=terminal"] {
        assert!(at(" WARN ").contains(part), "{part} in {said}");
    }
    assert!(!at(" WARN ").contains("a bad order"), "{said}");
    for part in [&format!("envelope={}", letter.envelope.id), "a bad order"] {
        assert!(at("DEBUG ").contains(part), "{part} in {said}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_progress_of_an_input_is_shown_on_a_terminal_and_not_in_a_pipe() {
    let (_folder, folder) = folder();
    let rows: String = (0..2_000).map(|n| format!("{{\"id\":\"i{}\"}}\n", n % 10)).collect();
    fs::write(folder.join("orders.jsonl"), rows).unwrap();
    let arguments = |data: &str| words(&format!("--data {data} --input orders.jsonl {TO_COUNTER}"));
    let shown = on_a_terminal(&folder, arguments("a"));
    assert!(shown.contains("100%  2000 rows"), "{shown}");
    let piped = finish_well(&folder, arguments("b"));
    assert!(!piped.contains('%') && piped.contains("the input is read rows=2000"), "{piped}");
}
