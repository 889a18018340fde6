//! A key stands for one message.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use common::*;

const JSON: &str = "application/json";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_counts_once_even_after_a_crash() {
    let data = tempfile::tempdir().unwrap();
    let mut ids = std::collections::HashSet::new();
    for run in 0..2 {
        let host = open(data.path());
        host.start();
        let to = serve(&host).await;
        for repeat in 0..3 {
            let headers = [("Content-Type", JSON), ("Idempotency-Key", "order-1")];
            let reply = request(to, "POST", "/test/counter/a", &headers, b"{\"id\":\"a\"}").await;
            assert_eq!((reply.status, reply.json()["duplicate"] == true), (202, run + repeat > 0));
            ids.insert(reply.json()["id"].as_str().unwrap().to_owned());
            // The same key for another instance is another message.
            assert_eq!(request(to, "POST", "/test/counter/b", &headers, b"{\"id\":\"b\"}").await.status, 202);
        }
        let empty = [("Content-Type", JSON), ("Idempotency-Key", "")];
        assert_eq!(request(to, "POST", "/test/counter/a", &empty, b"{\"id\":\"a\"}").await.status, 400);
        if run == 0 {
            crash(host);
        } else {
            host.idle().await.unwrap();
            assert_eq!((seen(&host, "test/counter/a"), seen(&host, "test/counter/b"), ids.len()), (1, 1, 1));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_with_another_body_is_refused_even_after_a_crash() {
    let data = tempfile::tempdir().unwrap();
    for run in 0..2 {
        let host = open(data.path());
        host.start();
        let to = serve(&host).await;
        let send = async |id: &str, content_type: &str, body: &str| {
            let headers = [("Content-Type", content_type), ("Idempotency-Key", "order-1")];
            request(to, "POST", &format!("/test/counter/{id}"), &headers, body.as_bytes()).await
        };
        assert_eq!(send("a", JSON, "{\"id\":\"a\"}").await.status, 202);
        for (content_type, body) in [(JSON, "{\"id\":\"b\"}"), (JSON, "{\"id\":\"a\",\"n\":1}"), ("text/plain", "{\"id\":\"a\"}")]
        {
            let reply = send("a", content_type, body).await;
            assert_eq!(reply.status, 409, "{run} {body}: {}", reply.body);
            assert!(reply.json()["hint"].as_str().unwrap().contains("new key"), "{}", reply.body);
        }
        assert_eq!(send("b", JSON, "{\"id\":\"b\"}").await.status, 202, "the same key for another instance is another message");
        assert_eq!(send("a", JSON, "{\"id\":\"a\"}").await.json()["duplicate"], true);
        if run == 0 {
            crash(host);
        } else {
            host.idle().await.unwrap();
            assert_eq!((seen(&host, "test/counter/a"), seen(&host, "test/counter/b")), (1, 1));
        }
    }
}
