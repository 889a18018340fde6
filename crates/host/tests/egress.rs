//! The way out: exactly once into files, in order, and one failing sink in nobody's way.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use common::*;
use statefun_core::{Context, TypeName, TypedValue};
use statefun_host::{EgressRoutes, HostOptions, SinkSpec};
use tokio::sync::Mutex;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_has_every_record_once_after_any_crash() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut sent = 0;
    for round in 0..8_u64 {
        let host = open(&data);
        host.start();
        for _ in 0..200 {
            host.send(("test/counter", "a"), &order("a", 1)).await.unwrap();
            sent += 1;
            if sent % 97 == 0 {
                tokio::time::sleep(Duration::from_millis(round)).await;
            }
        }
        if round % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(3 * round)).await;
        }
        crash(host);
        // What a crash may leave behind the noted length.
        if round == 3 {
            use std::io::Write;
            let mut file = std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(out_file(&data))
                .unwrap_or_else(|error| panic!("{error}"));
            file.write_all(b"{\"id\":\"half a li").unwrap();
        }
    }
    let host = open(&data);
    host.start();
    host.idle().await.unwrap();
    host.shutdown().await.unwrap();
    let expected: Vec<_> = (1..=sent).map(|count| format!("a {count}")).collect();
    assert_eq!(lines(&out_file(&data)), expected);
}

type Got = Arc<Mutex<Vec<(String, String, Vec<u8>)>>>;

/// Takes POSTs; refuses the first `refuse` of them.
async fn sink(refuse: usize) -> (std::net::SocketAddr, Got) {
    let got = Got::default();
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(refuse));
    let take = move |State(got): State<Got>, headers: HeaderMap, body: axum::body::Bytes| async move {
        if left
            .fetch_update(std::sync::atomic::Ordering::SeqCst, std::sync::atomic::Ordering::SeqCst, |left| left.checked_sub(1))
            .is_ok()
        {
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        got.lock().await.push((header("content-type"), header("idempotency-key"), body.to_vec()));
        StatusCode::NO_CONTENT
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/in", post(take)).with_state(got.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, got)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_gets_records_in_order_and_holds_up_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (good, got) = sink(3).await;
    let (bad, _) = sink(usize::MAX).await;
    let mut functions = functions();
    let fan_out = Sync(|context: &mut Context, message: &TypedValue| {
        context.egress_value("test/bad", message.clone())?;
        context.egress_value("test/good", message.clone())?;
        Ok(context.egress_value("test/out", message.clone())?)
    });
    functions.add(spec("test/fan-out", vec![]), Arc::new(fan_out));
    let named = [("test/good", good), ("test/bad", bad)]
        .map(|(name, to)| (TypeName::from_static(name), SinkSpec::parse(&format!("http://{to}/in")).unwrap()));
    let host = open_with(functions, HostOptions { egress: EgressRoutes { named: BTreeMap::from(named) }, ..options(&data) });
    host.start();
    for count in 0..50 {
        host.send(("test/fan-out", "a"), &format!("{count}")).await.unwrap();
    }
    while got.lock().await.len() < 50 || lines(&out_file(&data)).len() < 50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let got = got.lock().await.clone();
    let mut keys = std::collections::HashSet::new();
    for (count, (content_type, key, body)) in got.into_iter().enumerate() {
        let record: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((content_type.as_str(), record["id"].as_str()), ("application/json", Some(&*key)));
        assert_eq!(
            (record["type"].as_str(), record["value"].as_str()),
            (Some("io.statefun.types/string"), Some(&*count.to_string()))
        );
        assert!(keys.insert(key));
    }
    // What is left belongs to the bad one.
    while host.store().waiting().egress != 50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A sink that never answers well does not keep the host from stopping.
    host.shutdown().await.unwrap();
}

/// A receiver that answers with the status that a record's value says, until it is told to take everything. It keeps what it saw.
async fn picky() -> (std::net::SocketAddr, Arc<Mutex<Vec<(u16, String)>>>, Arc<std::sync::atomic::AtomicBool>) {
    let (got, done) = (Arc::new(Mutex::new(Vec::new())), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let (seen, over) = (got.clone(), done.clone());
    let take = move |body: axum::body::Bytes| async move {
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let value = body["value"].as_str().unwrap().to_owned();
        let said = if over.load(std::sync::atomic::Ordering::SeqCst) { 204 } else { value.parse().unwrap_or(204) };
        seen.lock().await.push((said, value));
        StatusCode::from_u16(said).unwrap()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/in", post(take))).await.unwrap() });
    (address, got, done)
}

fn sending() -> statefun_engine::Functions {
    let mut functions = functions();
    let send = Sync(|context: &mut Context, message: &TypedValue| Ok(context.egress_value("test/picky", message.clone())?));
    functions.add(spec("test/send", vec![statefun_core::Accepted::of::<String>()]), Arc::new(send));
    functions
}

fn to_picky(to: std::net::SocketAddr) -> EgressRoutes {
    let sink = SinkSpec::parse(&format!("http://{to}/in")).unwrap();
    EgressRoutes { named: BTreeMap::from([(TypeName::from_static("test/picky"), sink)]) }
}

async fn until(mut is: impl AsyncFnMut() -> bool) {
    for _ in 0..4_000 {
        if is().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_refused_becomes_a_dead_letter_that_can_be_listed_replayed_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (receiver, got, done) = picky().await;
    let host = open_with(sending(), HostOptions { egress: to_picky(receiver), ..options(folder.path()) });
    host.start();
    let to = serve(&host).await;
    for value in ["first", "400", "422", "last"] {
        host.send(("test/send", "a"), &value.to_owned()).await.unwrap();
    }
    until(async || got.lock().await.iter().any(|(_, value)| value == "last")).await;
    let tries = |got: &[(u16, String)], of: &str| got.iter().filter(|(_, value)| value == of).count();
    let seen = got.lock().await.clone();
    assert_eq!(["first", "400", "422", "last"].map(|value| tries(&seen, value)), [1, 5, 5, 1]);

    let letters = request(to, "GET", "/_/dead-letters", &[], b"").await.json();
    let letters = letters["dead_letters"].as_array().unwrap();
    let [one, other] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(
        (one["reason"].as_str(), one["egress"].as_str(), one["attempts"].as_u64()),
        (Some("refused"), Some("test/picky"), Some(5))
    );
    assert_eq!((one["error"].as_str(), one["record"]["value"].as_str()), (Some("answered with 400 Bad Request"), Some("400")));
    let metrics = request(to, "GET", "/_/metrics", &[], b"").await.body;
    assert!(metrics.contains("statefun_egress_failures_total{egress=\"test/picky\",kind=\"refusal\"} 10"), "{metrics}");

    let path = |letter: &serde_json::Value| format!("/_/dead-letters/{}", letter["id"].as_str().unwrap());
    assert_eq!(request(to, "DELETE", &path(other), &[], b"").await.json()["deleted"], 1);
    assert_eq!(request(to, "DELETE", &path(other), &[], b"").await.status, 404);
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(request(to, "POST", &(path(one) + "/replay"), &[], b"").await.json()["replayed"], 1);
    until(async || got.lock().await.contains(&(204, "400".to_owned()))).await;
    assert_eq!((host.store().letter_count(), tries(&got.lock().await, "422")), (0, 5));
    host.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_out_parks_nothing() {
    for status in ["503", "408", "425", "429", "302"] {
        let folder = tempfile::tempdir().unwrap();
        let (receiver, got, done) = picky().await;
        let host = open_with(sending(), HostOptions { egress: to_picky(receiver), ..options(folder.path()) });
        host.start();
        let to = serve(&host).await;
        host.send(("test/send", "a"), &status.to_owned()).await.unwrap();
        host.send(("test/send", "a"), &"behind".to_owned()).await.unwrap();
        until(async || got.lock().await.len() > 6).await;
        let metrics = request(to, "GET", "/_/metrics", &[], b"").await.body;
        assert!(metrics.contains("statefun_egress_failures_total{egress=\"test/picky\",kind=\"outage\"}"), "{metrics}");
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        until(async || got.lock().await.contains(&(204, "behind".to_owned()))).await;
        assert_eq!(host.store().letter_count(), 0, "{status}");
        host.shutdown().await.unwrap();
    }
}
