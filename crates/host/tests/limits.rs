//! Clients that are slow, send too much or ask for what is not there: each gets an answer in JSON, and holds nothing for long.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests, too")]

mod common;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use common::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Every route, so that none forgets to refuse what it does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_path_or_a_query_gets_wrong_is_told_in_json() {
    let (_data, host, to) = started(|_| {}).await;
    for (method, path) in ROUTES {
        for (suffix, said) in
            [("?nonsense=1", "`nonsense`"), ("%", "%25"), ("%zz", "%25"), ("%ff", "UTF-8"), ("%zz?limit=1", "%25")]
        {
            let reply = request(to, method, &format!("{path}{suffix}"), &[JSON], b"{\"id\":\"a\"}").await;
            assert_eq!(reply.status, 400, "{method} {path}{suffix}: {}", reply.body);
            assert!(reply.head.contains("content-type: application/json"), "{}", reply.head);
            assert!(reply.json()["error"].is_string() && reply.body.contains(said), "{method} {path}{suffix}: {}", reply.body);
        }
    }
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/counter/a"), 0);
}

/// What one reader takes for one thing and another for another thing is refused while its sender can still learn of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_mean_two_things_is_refused_at_the_door() {
    let (_data, host, to) = started(|_| {}).await;
    let json = "application/json";
    for (path, content_type, body, status, said) in [
        ("a", "text/plain; charset=utf-16", "h\0i\0", 415, "UTF-8"),
        ("a", "application/json; charset=\"latin1\"", "{\"id\":\"a\"}", 415, "UTF-8"),
        ("a", "application/vnd.test/order; charset=utf-16", "{\"id\":\"a\"}", 415, "UTF-8"),
        ("a", json, "{\"id\":\"a\",\"n\":1e400}", 400, "out of range"),
        ("a", json, "{\"id\":\"\\ud800\"}", 400, "hex escape"),
        ("a", json, "{\"id\":\"\\udc00\"}", 400, "surrogate"),
        ("100%", json, "{\"id\":\"a\"}", 400, "`%25`"),
        ("%zz", json, "{\"id\":\"a\"}", 400, "`%25`"),
    ] {
        let reply =
            request(to, "POST", &format!("/test/counter/{path}"), &[("Content-Type", content_type)], body.as_bytes()).await;
        assert_eq!(reply.status, status, "{path} {content_type} {body}: {}", reply.body);
        assert!(reply.body.contains(said), "{said} in {}", reply.body);
    }
    assert_eq!(request(to, "POST", "/test/counter/100%25", &[JSON], b"{\"id\":\"a\"}").await.status, 202);
    host.idle().await.unwrap();
    assert_eq!((seen(&host, "test/counter/100%"), seen(&host, "test/counter/a")), (1, 0));
}

/// As a client sends that writes all before it reads anything.
async fn write_then_read(to: SocketAddr, head: &str, body: usize) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
    let chunk = vec![b'x'; 1_024 * 1_024];
    for _ in 0..body {
        stream.write_all(&chunk).await.expect("the connection was reset before the answer could be read");
    }
    let mut answer = vec![0; 4_096];
    let read = stream.read(&mut answer).await.expect("the answer was lost");
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_sends_far_too_much_reads_why_it_is_refused() {
    let (_data, _host, to) = started(|_| {}).await;
    const LENGTH: usize = 64 * 1_024 * 1_024;
    for (path, headers, status) in [
        ("/test/counter/a", "Content-Type: application/json", 413),
        ("/test/counter/a", "Content-Type: application/xml", 415),
        ("/test/none/a", "Content-Type: application/json", 404),
        ("/_/ingress/a/b", "Content-Type: application/json", 404),
        ("/_/dead-letters/replay", "Origin: http://evil.example", 403),
        ("/_/nothing", "X: x", 404),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\nContent-Length: {LENGTH}");
        let answer = write_then_read(to, &head, 64).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
    let chunked = "POST /test/counter/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked";
    let answer = write_then_read(to, &format!("{chunked}\r\n\r\n{:x}", 16 * 1_024 * 1_024), 16).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_before_sending_is_answered_without_sending() {
    let (_data, _host, to) = started(|_| {}).await;
    let headers = "Host: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 9999999";
    let start = Instant::now();
    let answer = write_then_read(to, &format!("POST /test/counter/a HTTP/1.1\r\n{headers}"), 0).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.to_lowercase().contains("connection: close"), "{answer}");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_stop_halfway_hold_nothing_for_long() {
    let short = Duration::from_millis(300);
    let (_data, _host, to) = started(|options| (options.header_timeout, options.body_timeout) = (short, short)).await;
    let post = "POST /test/counter/a HTTP/1.1\r\nHost: localhost\r\n";
    let body = format!("{post}Content-Type: text/plain\r\nContent-Length: 100\r\n\r\nhalf");
    let unread = format!("{post}Content-Type: a/b\r\nContent-Length: 100\r\n\r\nhalf");
    let mut open = Vec::new();
    for (half, answer) in [("", ""), ("POST /te", ""), (post, ""), (&body, "HTTP/1.1 408 "), (&unread, "HTTP/1.1 415 ")] {
        for _ in 0..100 {
            let mut stream = TcpStream::connect(to).await.unwrap();
            stream.write_all(half.as_bytes()).await.unwrap();
            open.push((stream, half, answer));
        }
    }
    for (mut stream, half, answer) in open {
        let mut said = String::new();
        // The end may be a reset: what counts is that it comes.
        let ended = timeout(Duration::from_secs(10), stream.read_to_string(&mut said)).await;
        assert!(ended.is_ok(), "a connection is held that said {half:?}");
        assert!(said.starts_with(answer), "{half:?}: {said}");
    }
    assert_eq!(request(to, "GET", "/_/health", &[], b"").await.status, 200);
}
