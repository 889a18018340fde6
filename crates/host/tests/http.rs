//! The HTTP ingress: what it takes, what it refuses and how it says so.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::{sync::Arc, time::Duration};

use common::*;
use statefun_core::{Accepted, Context, Timestamp, TypedValue};
use statefun_embedded::{Letter, MalformedRecord};
use statefun_engine::Functions;
use statefun_host::{Host, HostError, HostOptions};
use tokio::sync::{Notify, Semaphore};

const JSON: &str = "application/json";

async fn started() -> (tempfile::TempDir, Host, std::net::SocketAddr) {
    let data = tempfile::tempdir().unwrap();
    let mut functions = functions();
    let echo = |context: &mut Context, message: &TypedValue| Ok(context.egress_value(OUT, message.clone())?);
    for (name, accepts) in
        [("test/text", vec![Accepted::of::<String>()]), ("test/number", vec![Accepted::of::<i64>()]), ("test/anything", vec![])]
    {
        functions.add(spec(name, accepts), Arc::new(common::Sync(echo)));
    }
    let host = open_with(functions, options(data.path()));
    host.start();
    let to = serve(&host).await;
    (data, host, to)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_in_counts_once() {
    let (_data, host, to) = started().await;
    for (content_type, body) in [
        (JSON, r#"{"id":"x"}"#),
        ("application/json; charset=utf-8", r#"{"id":"x","n":3}"#),
        ("text/plain", "hello"),
        ("application/vnd.test/order", r#"{"id":"x"}"#),
        ("application/vnd.io.statefun.types/string", "\u{a}\u{1}b"),
        ("", r#"{"id":"x"}"#),
        ("application/x-www-form-urlencoded", r#"{"id":"x"}"#),
        // What no type reads is as it came: a number that none can hold, half of a surrogate pair.
        (JSON, r#"{"id":"x","other":[1e400,"\ud800"]}"#),
    ] {
        let reply = post(to, "/test/counter/a%2Fb/c", content_type, body).await;
        assert_eq!(reply.status, 202, "{content_type}: {}", reply.body);
        assert_eq!(reply.json()["id"].as_str().unwrap().len(), 32);
    }
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/counter/a/b/c"), 8);
}

/// What `curl -d` sends, and a client that says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_a_type_is_what_the_function_takes() {
    let (data, host, to) = started().await;
    for headers in [&[][..], &[("Content-Type", "application/x-www-form-urlencoded")]] {
        for function in ["test/text", "test/anything"] {
            let reply = request(to, "POST", &format!("/{function}/a"), headers, b"a%20b & c").await;
            assert_eq!(reply.status, 202, "{function}: {}", reply.body);
        }
    }
    let coded = [("Content-Type", "text/plain"), ("Content-Encoding", "gzip")];
    assert_eq!(request(to, "POST", "/test/text/a", &coded, b"hi").await.status, 415);
    host.idle().await.unwrap();
    assert_eq!(lines(&out_file(data.path())), vec!["a%20b & c"; 4], "text is taken as it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn misuse() {
    let (_data, host, to) = started().await;
    let long_id = format!("/test/counter/{}", "x".repeat(2_000));
    let big = "x".repeat(800 * 1_024);
    for (method, path, content_type, body, status, said) in [
        ("POST", "/", JSON, "{}", 404, "POST /<namespace>/<name>/<id>"),
        ("POST", "/test/counter", JSON, "{}", 404, "POST /<namespace>/<name>/<id>"),
        ("POST", "/test/countr/a", JSON, "{}", 404, "did you mean `test/counter`?"),
        (
            "POST",
            "/test/countr/a",
            JSON,
            "{}",
            404,
            "this application has test/anything, test/counter, test/number, test/silent, test/text",
        ),
        ("POST", "/x y/z/a", JSON, "{}", 400, ""),
        ("GET", "/test/counter/a", JSON, "", 405, "/_/state/test/counter/a"),
        ("PUT", "/test/counter/a", JSON, "{}", 405, "POST"),
        ("POST", &long_id, JSON, "{}", 400, "1 to 1024 bytes"),
        ("POST", "/test/counter/%ff", JSON, "{}", 400, "UTF-8"),
        ("POST", "/test/counter/a", "", "{}", 400, "read as JSON of `test/order`"),
        ("POST", "/test/counter/a", "application/xml", "<a/>", 415, "application/vnd.test/order, text/plain"),
        ("POST", "/test/counter/a", "application/x-www-form-urlencoded", "hi", 400, "read as JSON of `test/order`"),
        ("POST", "/test/number/a", "", "7", 415, "a body without Content-Type"),
        ("POST", "/test/number/a", "application/x-www-form-urlencoded", "7", 415, "application/vnd.io.statefun.types/long"),
        ("POST", "/test/number/a", "application/vnd.io.statefun.types/long", "7", 400, "io.statefun.types/long"),
        ("POST", "/test/counter/a", "application/vnd.io.statefun.types/string", "hi", 400, "`text/plain`"),
        ("POST", "/test/anything/a", "application/vnd.io.statefun.types/string", "hi", 400, "`text/plain`"),
        ("POST", "/test/counter/a", "application/vnd.test/other", "{}", 415, "`test/other`"),
        ("POST", "/test/counter/a", "application/vnd.nonsense", "{}", 415, "not a type name"),
        ("POST", "/test/silent/a", "text/plain", "hi", 415, "does not take plain text"),
        ("POST", "/test/counter/a", JSON, "{\"id\":", 400, "cannot be read as `test/order`"),
        ("POST", "/test/counter/a", JSON, "{\"n\":1}", 400, "missing field `id`"),
        ("POST", "/test/counter/a", JSON, &big, 413, "object store"),
        ("POST", "/_/nothing", JSON, "{}", 404, "GET /_/health"),
        ("POST", "/_/health", JSON, "{}", 405, "GET /_/health"),
        ("GET", "/_/state/test/counter", JSON, "", 400, "namespace/name/id"),
        ("GET", "/_/state/test/counter/nobody", JSON, "", 404, "never invoked"),
        ("GET", "/_/dead-letters?after=x", JSON, "", 400, "next"),
        ("GET", "/_/dead-letters?limit=abc", JSON, "", 400, "1 to 1000"),
        ("GET", "/_/dead-letters?limit=0", JSON, "", 400, "1 to 1000"),
        ("GET", "/_/dead-letters?limit=1&limit=2", JSON, "", 400, "twice"),
        ("GET", "/_/dead-letters?limt=1", JSON, "", 400, "did you mean `limit`?"),
        ("GET", "/_/state/a/b/%ff", JSON, "", 400, "UTF-8"),
        ("POST", "/_/dead-letters/replay?may_be_applied=1", JSON, "", 400, "true or false"),
        ("POST", "/_/dead-letters/replay?may_be_aplied=true", JSON, "", 400, "did you mean `may_be_applied`?"),
        ("POST", "/test/counter/what?", JSON, "{}", 400, "`%3F`"),
        ("POST", "/test/counter/what?now", JSON, "{}", 400, "`%3F`"),
        ("POST", "/_/dead-letters/xyz/replay", JSON, "", 400, "32 hexadecimal digits"),
        ("POST", "/_/dead-letters/00000000000000000000000000000000/replay", JSON, "", 404, "there is no dead letter"),
    ] {
        let reply = request(to, method, path, &[("Content-Type", content_type)], body.as_bytes()).await;
        assert_eq!(reply.status, status, "{method} {path} {content_type}: {}", reply.body);
        if path != "/x y/z/a" {
            let json = reply.json();
            assert!(json["error"].is_string(), "{}", reply.body);
            let text = format!("{} {}", json["error"].as_str().unwrap(), json["hint"].as_str().unwrap_or_default());
            assert!(text.contains(said), "{method} {path}: {text}");
        }
    }
    // A body that only says it is big is refused without being read.
    let headers = [("Content-Type", JSON), ("Content-Length", "99999999999")];
    assert_eq!(request(to, "POST", "/test/counter/a", &headers, b"{").await.status, 413);
    assert_eq!(post(to, "/test/counter/a", JSON, "{\"id\":\"a\"}").await.status, 202, "after all that it still works");
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/counter/a"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_waiting_is_refused_until_it_is_worked_off() {
    let data = tempfile::tempdir().unwrap();
    let (entered, gate) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let mut functions = Functions::default();
    functions
        .add(spec("test/slow", vec![Accepted::of::<Order>()]), Arc::new(Gated { entered: entered.clone(), gate: gate.clone() }));
    let host = open_with(functions, HostOptions { max_waiting: 3, ..options(data.path()) });
    host.start();
    let to = serve(&host).await;
    let send = || post(to, "/test/slow/a", JSON, "{\"id\":\"a\"}");
    for _ in 0..3 {
        assert_eq!(send().await.status, 202);
    }
    entered.notified().await;
    let refused = send().await;
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: 1") && refused.body.contains("3 messages wait"));
    let waits = tokio::spawn({
        let host = host.clone();
        async move { host.send(("test/slow", "a"), &order("a", 1)).await }
    });
    gate.add_permits(100);
    waits.await.unwrap().unwrap();
    host.idle().await.unwrap();
    assert_eq!(send().await.status, 202);
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/slow/a"), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_after_a_host() {
    let (_data, host, to) = started().await;
    post(to, "/test/counter/a", JSON, "{\"id\":\"a\"}").await;
    for _ in 0..3 {
        post(to, "/test/counter/a", JSON, "{\"id\":\"a\",\"n\":-1}").await;
    }
    host.idle().await.unwrap();
    let get = |path: &'static str| request(to, "GET", path, &[], b"");

    let health = get("/_/health").await.json();
    assert_eq!(
        (health["status"].as_str(), health["waiting"].as_u64(), health["dead_letters"].as_u64()),
        (Some("ok"), Some(0), Some(3))
    );
    let metrics = get("/_/metrics").await.body;
    for line in [
        "statefun_messages_in_total{function=\"test/counter\"} ",
        "statefun_http_requests_total{status=\"202\"} 4",
        "# TYPE statefun_backlog gauge\nstatefun_backlog 0",
        "statefun_dead_letters 3",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let state = get("/_/state/test/counter/a").await.json();
    assert_eq!(state["state"]["seen"]["value"], 1);
    assert_eq!(state["state"]["seen"]["type"], "io.statefun.types/long");

    let page = get("/_/dead-letters?limit=2").await.json();
    let letter = &page["dead_letters"][0];
    assert_eq!((letter["reason"].as_str(), letter["error"].as_str()), (Some("terminal"), Some("a bad order")));
    assert_eq!(letter["envelope"]["messages"][0]["value"], serde_json::json!({"id": "a", "n": -1}));
    let rest = request(to, "GET", &format!("/_/dead-letters?after={}", page["next"].as_str().unwrap()), &[], b"").await.json();
    assert_eq!((page["dead_letters"].as_array().unwrap().len(), rest["dead_letters"].as_array().unwrap().len()), (2, 1));
    assert!(rest["next"].is_null());

    let one = format!("/_/dead-letters/{}/replay", letter["id"].as_str().unwrap());
    assert_eq!(request(to, "POST", &one, &[], b"").await.json()["replayed"], 1);
    assert_eq!(request(to, "POST", &one, &[], b"").await.status, 404);
    host.idle().await.unwrap();
    assert_eq!(request(to, "POST", "/_/dead-letters/replay", &[], b"").await.json()["replayed"], 3);
    host.idle().await.unwrap();
    assert_eq!(host.store().letter_count(), 3, "they fail again and are kept again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_deleted_by_id_and_those_of_unreadable_records_all_at_once() {
    let (data, host, to) = started().await;
    for id in ["a", "b"] {
        post(to, &format!("/test/counter/{id}"), JSON, "{\"id\":\"a\",\"n\":-1}").await;
    }
    host.idle().await.unwrap();
    for place in ["1", "2"] {
        let record = MalformedRecord::new(Timestamp(1), "rows.csv", place, "no id", b"row", 100);
        host.store().park_malformed(&record).await.unwrap();
    }
    let delete = async |path: &str| request(to, "DELETE", &format!("/_/dead-letters{path}"), &[], b"").await;
    let letters = request(to, "GET", "/_/dead-letters", &[], b"").await.json()["dead_letters"].take();
    let id = letters[2]["id"].as_str().unwrap();
    assert_eq!(delete(&format!("/{id}")).await.json()["deleted"], 1);
    assert_eq!(delete(&format!("/{id}")).await.status, 404);
    assert_eq!(delete("/xyz").await.status, 400);
    assert_eq!(delete("").await.status, 400, "all messages are not deleted by an oversight");
    assert_eq!(delete("?malformed=true").await.json()["deleted"], 2);
    assert_eq!(delete("?malformed=true").await.json()["deleted"], 0);
    crash(host);
    let letters = open(data.path()).store().letters(None, 10).unwrap();
    assert_eq!(letters.len(), 1, "what was said to be deleted is back after a crash");
    assert!(matches!(&letters[0], Letter::Dead(letter) if letter.id.to_string() != *id));
}

/// A message that is older than the ledger's memory may have been applied: sent again, it would be applied twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_been_applied_is_sent_again_only_if_that_is_asked_for() {
    let (_data, host, to) = started().await;
    post(to, "/test/counter/a", JSON, "{\"id\":\"a\",\"n\":-1}").await;
    host.idle().await.unwrap();
    let old = park_too_old(host.store(), "test/counter/a").await;
    let letters = request(to, "GET", "/_/dead-letters", &[], b"").await.json()["dead_letters"].take();
    let letter = |id: &str| letters.as_array().unwrap().iter().find(|letter| letter["id"] == id);
    assert_eq!(letter(&old).unwrap()["may_be_applied"], true, "the letter does not say that its message may have been applied");
    let others = letters.as_array().unwrap().iter().filter(|letter| letter["id"] != *old);
    assert!(others.clone().count() == 1 && others.clone().all(|letter| letter.get("may_be_applied").is_none()));

    let replay = async |path: &str| request(to, "POST", &format!("/_/dead-letters/{path}"), &[], b"").await;
    let one = replay(&format!("{old}/replay")).await;
    assert_eq!(one.status, 409);
    assert!(one.body.contains("may_be_applied=true"), "{}", one.body);
    let all = replay("replay").await.json();
    assert_eq!((&all["replayed"], &all["may_be_applied"]), (&1.into(), &1.into()));
    assert!(all["hint"].as_str().unwrap().contains("may_be_applied=true"), "{all}");
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/counter/a"), 0);
    assert_eq!(replay(&format!("{old}/replay?may_be_applied=true")).await.json()["replayed"], 1);
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/counter/a"), 1);

    park_too_old(host.store(), "test/counter/b").await;
    let all = replay("replay?may_be_applied=true").await.json();
    assert_eq!((&all["replayed"], &all["may_be_applied"]), (&2.into(), &0.into()));
    assert!(all.get("hint").is_none());
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/counter/b"), 1);
}

#[tokio::test]
async fn a_port_in_use_is_said_with_a_way_out() {
    let taken = statefun_host::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let error = statefun_host::listen(taken.local_addr().unwrap()).await.unwrap_err();
    assert!(matches!(error, HostError::Listen { .. }) && error.to_string().contains("--listen"), "{error}");
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_host_finishes_what_runs_and_takes_no_more() {
    let data = tempfile::tempdir().unwrap();
    let (entered, gate) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let mut functions = functions();
    functions
        .add(spec("test/slow", vec![Accepted::of::<Order>()]), Arc::new(Gated { entered: entered.clone(), gate: gate.clone() }));
    let host = open_with(functions.clone(), options(data.path()));
    host.start();
    let to = serve(&host).await;
    host.send(("test/slow", "a"), &order("a", 1)).await.unwrap();
    entered.notified().await;
    let other = host.clone();
    let stopping = tokio::spawn(host.shutdown());
    while tokio::net::TcpStream::connect(to).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(other.send(("test/slow", "a"), &order("a", 1)).await.is_err());
    gate.add_permits(1);
    stopping.await.unwrap().unwrap();
    drop(other);
    let host = open_with(functions, options(data.path()));
    assert_eq!((seen(&host, "test/slow/a"), host.store().waiting().messages), (1, 0));
}
