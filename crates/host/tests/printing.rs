//! What a host prints may be lost: nothing else is lost with it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::{fs, net::SocketAddr, path::Path, process::Stdio};

use common::{process::*, *};

#[test]
fn a_host_in_a_process_of_its_own() {
    serve_if_asked();
}

async fn works(to: SocketAddr, folder: &Path, ids: std::ops::Range<usize>) {
    for id in ids.clone() {
        let reply = post(to, &format!("/test/counter/{id}"), "application/json", r#"{"id":"x"}"#).await;
        assert_eq!(reply.status, 202, "{}", reply.body);
    }
    let last = format!("{} 1", ids.end - 1);
    wait_for(|| lines(&folder.join("data/egress/test/out.jsonl")).contains(&last).then_some(()));
    assert_eq!(request(to, "GET", "/_/health", &[], b"").await.status, 200);
}

#[tokio::test]
async fn a_host_whose_log_nobody_reads_works_and_stops_as_ever() {
    let (_folder, folder) = folder();
    // Far more lines than a pipe holds.
    let mut process = start_with_stderr(&folder, words("--data data --listen 0"), Stdio::piped());
    let to = process.address(&folder.join("data"));
    works(to, &folder, 0..400).await;
    process.signal("TERM");
    assert_eq!(process.end(), Some(0));
}

#[tokio::test]
async fn a_host_whose_log_is_closed_works_and_stops_as_ever() {
    let (_folder, folder) = folder();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut process = start_with_stderr(&folder, words("--data data --listen 0"), writer);
    drop(reader);
    let to = process.address(&folder.join("data"));
    works(to, &folder, 0..20).await;
    process.signal("TERM");
    assert_eq!(process.end(), Some(0));
}

const INPUT: &str = "--data data --listen 0 --input - --to test/counter --id id --type test/order";

#[tokio::test]
async fn a_host_that_ignores_the_end_of_its_terminal_works_on_without_it() {
    let (_folder, folder) = folder();
    let mut process = start_in_terminal(&folder, words(INPUT), true);
    let to = process.address(&folder.join("data"));
    works(to, &folder, 0..5).await;
    fs::write(folder.join("close"), "").unwrap();
    // The progress bar and the log go nowhere now.
    let out = folder.join("data/egress/test/out.jsonl");
    wait_for(|| lines(&out).contains(&"second 1".to_owned()).then_some(()));
    works(to, &folder, 5..40).await;
    // Nothing is left at work, or waits for what has stopped.
    for tries in 0.. {
        let metrics = request(to, "GET", "/_/metrics", &[], b"").await.body;
        if metrics.contains("statefun_inflight_addresses 0") && metrics.contains("statefun_egress_backlog 0") {
            break;
        }
        assert!(tries < 1_000, "{metrics}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    kill_by_pid(&folder, "TERM");
    assert_eq!(process.end(), Some(0));
}

#[tokio::test]
async fn a_host_whose_terminal_is_closed_stops_in_order() {
    let (_folder, folder) = folder();
    let mut process = start_in_terminal(&folder, words(INPUT), false);
    let to = process.address(&folder.join("data"));
    works(to, &folder, 0..5).await;
    fs::write(folder.join("close"), "").unwrap();
    assert_eq!(process.end(), Some(0));
    // It closed its folder: no crash is noted, and what was taken in is there.
    let host = open(&folder.join("data"));
    assert!(!host.store().follows_a_crash());
    host.shutdown().await.unwrap();
}

fn kill_by_pid(folder: &Path, signal: &str) {
    let pid = fs::read_to_string(folder.join("pid")).unwrap();
    assert!(std::process::Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
}
