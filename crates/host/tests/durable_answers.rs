//! What a host answers is still so after a crash: the store here writes nothing by itself, only what somebody waits for.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::{net::SocketAddr, time::Duration};

use common::*;
use statefun_host::{Host, HostOptions};
use tempfile::TempDir;

const SILENT: &str = "/test/silent/a";
const FAILS: &str = "/test/counter/a";
const GOOD: &str = r#"{"id":"a"}"#;
const BAD: &str = r#"{"id":"a","n":-1}"#;

/// A host that has handled one message, which nobody has waited for: without a request its effect is lost in a crash.
async fn handled(path: &str, body: &str) -> (TempDir, Host, SocketAddr) {
    let data = tempfile::tempdir().unwrap();
    let host = open_with(functions(), HostOptions { linger: Duration::from_secs(3_600), ..options(data.path()) });
    let to = serve(&host).await;
    // Durable before anything runs: no later change is written along with it.
    assert_eq!(post(to, path, "application/json", body).await.status, 202);
    host.start();
    host.idle().await.unwrap();
    (data, host, to)
}

async fn get(to: SocketAddr, path: &str) -> Reply {
    let reply = request(to, "GET", path, &[], b"").await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    reply
}

/// The folder after a crash, opened by a host that runs nothing.
fn after_a_crash(data: &TempDir, host: Host) -> Host {
    crash(host);
    open(data.path())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_asked_for_may_be_lost() {
    let (data, host, _) = handled(SILENT, GOOD).await;
    assert_eq!(seen(&host, "test/silent/a"), 1);
    assert_eq!(seen(&after_a_crash(&data, host), "test/silent/a"), 0, "else the other tests here show nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_that_is_shown_is_durable() {
    let (data, host, to) = handled(SILENT, GOOD).await;
    assert_eq!(get(to, "/_/state/test/silent/a").await.json()["state"]["seen"]["value"], 1);
    assert_eq!(seen(&after_a_crash(&data, host), "test/silent/a"), 1, "the state that was shown is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_that_are_shown_or_counted_are_durable() {
    for (path, said) in
        [("/_/dead-letters", "a bad order"), ("/_/health", "\"dead_letters\":1"), ("/_/metrics", "\nstatefun_dead_letters 1\n")]
    {
        let (data, host, to) = handled(FAILS, BAD).await;
        let body = get(to, path).await.body;
        assert!(body.contains(said), "{path}: {body}");
        let letters = after_a_crash(&data, host).store().letter_count();
        assert_eq!(letters, 1, "{path}: the dead letter that was shown is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_is_said_to_be_gone_stays_gone() {
    for all in [false, true] {
        let (data, host, to) = handled(FAILS, BAD).await;
        let id = get(to, "/_/dead-letters").await.json()["dead_letters"][0]["id"].as_str().unwrap().to_owned();
        host.store().durable(host.store().last_op()).await.unwrap();
        host.store().remove_letter(statefun_core::EnvelopeId::from_hex(&id).unwrap()).unwrap().unwrap();
        let path = if all { "/_/dead-letters/replay".to_owned() } else { format!("/_/dead-letters/{id}/replay") };
        let reply = request(to, "POST", &path, &[], b"").await;
        assert_eq!(reply.status, if all { 200 } else { 404 }, "{}", reply.body);
        let letters = after_a_crash(&data, host).store().letter_count();
        assert_eq!(letters, 0, "{path}: the dead letter that was gone is back");
    }
}
