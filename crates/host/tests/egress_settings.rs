//! Where egresses go, as somebody writes it: what can never work is refused at the start, and what is written is done.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use axum::http::{Request, Response, header};
use common::{
    folder,
    process::{finish, finish_with, serve_if_asked, start_with, words},
    request,
};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

#[test]
fn a_host_in_a_process_of_its_own() {
    serve_if_asked();
}

/// Authorization and body of each request.
type Got = Arc<std::sync::Mutex<Vec<(Option<String>, serde_json::Value)>>>;

/// Takes POSTs, over TLS if asked; returns its port.
async fn receiver(tls: Option<TlsAcceptor>) -> (u16, Got) {
    let (got, listener) = (Got::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (port, kept) = (listener.local_addr().unwrap().port(), got.clone());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (kept, tls) = (kept.clone(), tls.clone());
            tokio::spawn(async move {
                let take = service_fn(move |request: Request<Incoming>| take(kept.clone(), request));
                let http = hyper::server::conn::http1::Builder::new();
                match tls {
                    Some(tls) => {
                        let Ok(stream) = tls.accept(stream).await else { return };
                        let _ = http.serve_connection(TokioIo::new(stream), take).await;
                    }
                    None => drop(http.serve_connection(TokioIo::new(stream), take).await),
                }
            });
        }
    });
    (port, got)
}

async fn take(got: Got, request: Request<Incoming>) -> Result<Response<Empty<&'static [u8]>>, Infallible> {
    let authorization = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    got.lock().unwrap().push((authorization, serde_json::from_slice(&body).unwrap()));
    Ok(Response::new(Empty::new()))
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

fn localhost() -> TlsAcceptor {
    let certificates = CertificateDer::pem_file_iter(fixture("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
    Arc::new(config.unwrap().with_no_client_auth().with_single_cert(certificates, key).unwrap()).into()
}

fn three_rows(at: &Path) {
    fs::write(at.join("rows.jsonl"), "{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id\":\"c\"}\n").unwrap();
}

fn arguments(more: &str) -> Vec<String> {
    words(&format!("--data d --input rows.jsonl --to test/counter --id id --type test/order {more}"))
}

#[test]
fn egresses_that_can_never_work_are_refused_at_the_start_all_at_once() {
    let (_keep, at) = folder();
    three_rows(&at);
    fs::create_dir(at.join("folder")).unwrap();
    assert!(Command::new("mkfifo").arg(at.join("pipe")).status().unwrap().success());
    std::os::unix::fs::symlink("folder", at.join("link")).unwrap();
    let bad = [
        ("http://127.0.0.1:99999/", "a port is a number from 1 to 65535"),
        ("https://ann:secret@127.0.0.1:99999/", "a port is"),
        ("http://ann:%zz@localhost/", "user and password"),
        ("file:/dev/null", "is a device"),
        ("file:pipe", "a pipe"),
        ("file:folder", "is a folder"),
        ("file:link", "is a folder"),
        ("file:rows.jsonl/out", "cannot be written"),
    ];
    let routes: Vec<_> = bad.iter().enumerate().map(|(number, (sink, _))| format!("--egress x/e{number}={sink}")).collect();
    let output = finish(&at, arguments(&format!("--until-idle {}", routes.join(" "))));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for (sink, problem) in bad {
        assert!(said.contains(problem), "{sink}: {said}");
    }
    assert_eq!(said.matches("error: ").count(), bad.len(), "{said}");
    assert!(!said.contains("secret") && !at.join("d").exists(), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_and_password_of_a_url_are_sent() {
    let (_keep, at) = folder();
    three_rows(&at);
    let (port, got) = receiver(None).await;
    let more = format!("--until-idle --egress test/out=http://ann:p%40ss@127.0.0.1:{port}/in");
    let output = finish(&at, arguments(&more));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let got = got.lock().unwrap().clone();
    assert_eq!(got.len(), 3);
    // `ann:p@ss`
    assert!(got.iter().all(|(authorization, _)| authorization.as_deref() == Some("Basic YW5uOnBAc3M=")), "{got:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_goes_to_whom_the_machine_trusts_and_to_nobody_else() {
    let (_keep, at) = folder();
    three_rows(&at);
    let (port, got) = receiver(Some(localhost())).await;
    let egress = format!("--egress test/out=https://localhost:{port}/in");
    let mut host =
        start_with(&at, arguments(&format!("{egress} --listen 127.0.0.1:0")), &[("SSL_CERT_FILE", &fixture("other.pem"))]);
    let to = host.address(&at.join("d"));
    let refused = async || {
        let metrics = request(to, "GET", "/_/metrics", &[], b"").await.body;
        metrics.contains("statefun_egress_failures_total{egress=\"test/out\",kind=\"outage\"}")
    };
    for _ in 0..4_000 {
        if refused().await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(refused().await && got.lock().unwrap().is_empty());
    host.kill();
    let output = finish_with(&at, arguments(&format!("{egress} --until-idle")), &[("SSL_CERT_FILE", &fixture("ca.pem"))]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut values: Vec<_> = got.lock().unwrap().iter().map(|(_, record)| record["value"].to_string()).collect();
    values.sort();
    assert_eq!(values, ["\"a 1\"", "\"b 1\"", "\"c 1\""]);
}
