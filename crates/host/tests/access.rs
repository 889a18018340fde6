//! Whom a host answers: names, pages of a browser, tokens.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::ffi::OsString;

use common::*;
use statefun_host::{Access, App, HostError, Token, run_cli};
use tokio::net::TcpListener;

const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const SECRET: &str = "0123456789abcdef";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_not_of_the_loopback_reads_and_sends_nothing() {
    let (_data, host, to) = started(|_| {}).await;
    for (method, path) in ROUTES.into_iter().chain([("OPTIONS", "/nothing")]) {
        for name in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "10.0.0.1"] {
            let reply = request(to, method, path, &[TEXT, ("Host", name)], b"hi").await;
            assert_eq!(reply.status, 403, "{method} {path} for {name}: {}", reply.body);
            assert!(reply.json()["hint"].as_str().unwrap().contains("--allow-host"), "{}", reply.body);
        }
        let whole = request(to, method, &format!("http://evil.example{path}"), &[TEXT], b"hi").await;
        assert_eq!(whole.status, 403, "the name may stand in the request's line: {}", whole.body);
        for name in ["", "a@localhost", "local host"] {
            assert_eq!(
                request(to, method, path, &[TEXT, ("Host", name)], b"hi").await.status,
                400,
                "{method} {path} for `{name}`"
            );
        }
        let two = request(to, method, path, &[TEXT, ("Host", "localhost"), ("Host", "evil.example")], b"hi").await;
        assert_eq!(two.status, 400, "{method} {path}: {}", two.body);
    }
    for name in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "[::1]:8080"] {
        assert_eq!(request(to, "POST", "/test/counter/a", &[TEXT, ("Host", name)], b"hi").await.status, 202, "{name}");
    }
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/counter/a"), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_another_origin_sends_and_replays_nothing() {
    let (_data, host, to) = started(|_| {}).await;
    for (method, path) in ROUTES.into_iter().chain([("OPTIONS", "/nothing")]) {
        for origin in ["http://evil.example", "https://localhost.evil.example", "http://localhost:3000", "null", ""] {
            let reply = request(to, method, path, &[TEXT, ("Origin", origin)], b"hi").await;
            assert_eq!(reply.status, 403, "{method} {path} from `{origin}`: {}", reply.body);
            assert!(reply.json()["hint"].as_str().unwrap().contains("--allow-origin"), "{}", reply.body);
            assert!(!reply.head.contains("access-control"));
        }
    }
    let own = [TEXT, ("Host", "localhost:8080"), ("Origin", "http://localhost:8080")];
    assert_eq!(request(to, "POST", "/test/counter/a", &own, b"hi").await.status, 202, "a page of the host's own");
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/counter/a"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_origins_that_are_allowed_are_answered() {
    let mut access = Access::default();
    access.allow_host("app.example").unwrap();
    access.allow_origin("https://shop.example").unwrap();
    access.token = Some(Token::new(SECRET).unwrap());
    let (_data, _host, to) = started(|options| options.access = access).await;
    let bearer = format!("Bearer {SECRET}");
    let (name, page, known) = (("Host", "app.example"), ("Origin", "https://shop.example"), ("Authorization", bearer.as_str()));
    let sent = request(to, "POST", "/test/counter/a", &[TEXT, name, page, known], b"hi").await;
    assert_eq!(sent.status, 202, "{}", sent.body);
    assert!(sent.head.contains("access-control-allow-origin: https://shop.example"), "{}", sent.head);
    assert!(sent.head.contains("vary: origin"));
    // A browser asks before it sends what a form cannot: without the token.
    let asked = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "authorization,content-type")];
    let preflight = request(to, "OPTIONS", "/test/counter/a", &[asked[0], asked[1], page], b"").await;
    assert_eq!(preflight.status, 204);
    for header in ["allow-origin: https://shop.example", "allow-methods: get, post", "allow-headers: authorization,content-type"]
    {
        assert!(preflight.head.contains(&format!("access-control-{header}")), "{header} in {}", preflight.head);
    }
    let untold = request(to, "POST", "/test/counter/a", &[TEXT, page], b"hi").await;
    assert_eq!((untold.status, untold.head.contains("access-control-allow-origin")), (401, true), "its page may read why");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_token_nothing_is_answered_without_it() {
    let mut access = Access::default();
    access.token = Some(Token::new(SECRET).unwrap());
    let (data, _host, to) = started(|options| options.access = access).await;
    for (method, path) in ROUTES.into_iter().chain([("OPTIONS", "/nothing")]) {
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer 0123456789abcdeX", "Bearer 0123456789abcdef0", "Basic 0123456789abcdef", SECRET]
        {
            let reply = request(to, method, path, &[TEXT, ("Authorization", wrong)], b"hi").await;
            assert_eq!(reply.status, 401, "{method} {path} with `{wrong}`: {}", reply.body);
            assert!(reply.head.contains("www-authenticate: bearer") && reply.json()["hint"].is_string(), "{}", reply.head);
        }
    }
    for right in [format!("Bearer {SECRET}"), format!("bearer {SECRET}")] {
        assert_eq!(request(to, "GET", "/_/health", &[("Authorization", &right)], b"").await.status, 200);
    }
    let error = run(data.path(), &["state", "test/counter/a"]).await.unwrap_err();
    assert!(error.to_string().contains("-H \"Authorization: Bearer $STATEFUN_TOKEN\" http://127."), "{error}");
}

async fn run(data: &std::path::Path, args: &[&str]) -> Result<(), HostError> {
    let args: Vec<_> = ["app", "--data", data.to_str().unwrap()].iter().chain(args).map(OsString::from).collect();
    run_cli(App::new(functions()), args).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_listens_where_other_machines_reach_it_needs_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        match run(&data, &["--listen", address]).await {
            Err(error @ HostError::Config(_)) => {
                let text = error.to_string();
                assert!(text.contains("STATEFUN_TOKEN") && text.contains("--token-file") && error.exit_code() == 2, "{text}")
            }
            other => panic!("{address}: {other:?}"),
        }
    }
    let short = folder.path().join("short");
    std::fs::write(&short, "secret\n").unwrap();
    for (file, said) in [(folder.path().join("none"), "none: "), (short, "at least 16 visible ASCII characters")] {
        match run(&data, &["--listen", "0.0.0.0:0", "--token-file", file.to_str().unwrap(), "--allow-host", "a/b"]).await {
            Err(HostError::Config(problems)) => {
                assert!(problems.len() == 2 && problems[1].contains(said) && !problems[1].contains("secret"), "{problems:?}")
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(!data.exists());
    // So does who serves from code.
    let host = open(&data);
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    assert!(matches!(host.serve(listener).await, Err(HostError::Config(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_token_from_a_file_other_machines_may_ask_by_any_name() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("token"));
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let args = ["--listen", "0.0.0.0:0", "--token-file", file.to_str().unwrap()];
    tokio::select! {
        ended = run(&data, &args) => panic!("{ended:?}"),
        () = ask(&data) => {}
    }
}

async fn ask(data: &std::path::Path) {
    let port = loop {
        let noted = std::fs::read_to_string(data.join("address")).unwrap_or_default();
        if let Some(Ok(address)) = noted.lines().next().map(str::parse::<std::net::SocketAddr>) {
            break address.port();
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    let to = ([127, 0, 0, 1], port).into();
    let bearer = format!("Bearer {SECRET}");
    for name in ["localhost", "some.example"] {
        let reply = request(to, "GET", "/_/health", &[("Host", name), ("Authorization", &bearer)], b"").await;
        assert_eq!(reply.status, 200, "{name}: {}", reply.body);
        assert_eq!(request(to, "GET", "/_/health", &[("Host", name)], b"").await.status, 401);
    }
}
