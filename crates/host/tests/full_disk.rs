//! A host whose data folder cannot be written any more: it ends, and says why.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::{fs, path::Path};

use common::{process::*, *};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[test]
fn a_host_in_a_process_of_its_own() {
    serve_if_asked();
}

/// More than fits.
const KIB: u32 = 4 << 10;

/// It has ended by itself, with the reason.
fn ended(process: &mut Process, folder: &Path) {
    let code = process.end();
    let said = fs::read_to_string(folder.join("said")).unwrap();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("state folder") && said.contains("too large"), "{said}");
}

#[tokio::test]
async fn a_host_whose_disk_is_full_ends_with_code_1_whatever_still_waits() {
    let (_folder, folder) = folder();
    // The standard input stays open, a connection stays open and says nothing, another stops halfway.
    let args = words("--data data --listen 0 --input - --to test/counter --id id --type test/order");
    let mut process = start_on_full_disk(&folder, args, KIB, &folder.join("said"));
    let to = process.address(&folder.join("data"));
    let (idle, mut half) = (TcpStream::connect(to).await.unwrap(), TcpStream::connect(to).await.unwrap());
    half.write_all(b"POST /test/echo/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{").await.unwrap();
    // A handler waits for what never comes.
    assert_eq!(post(to, "/test/waits/a", "application/json", "{}").await.status, 202);
    let body = format!("\"{}\"", "x".repeat(100_000));
    for number in 0..200 {
        let Ok(mut stream) = TcpStream::connect(to).await else { break };
        let head = format!(
            "POST /test/echo/{number} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        );
        let _ = stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        if !answer.starts_with(b"HTTP/1.1 202") {
            break;
        }
    }
    ended(&mut process, &folder);
    drop((idle, half));
    // Nothing that was acknowledged is lost, once there is room: the message of the handler that waits is there.
    let host = open(&folder.join("data"));
    assert_ne!(host.store().waiting().messages, 0);
    host.shutdown().await.unwrap();
}

#[test]
fn a_host_that_reads_a_file_onto_a_full_disk_ends_with_code_1_and_goes_on_later() {
    let (_folder, folder) = folder();
    let rows: String = (0..200).map(|number| format!("{{\"id\":\"{number}\",\"text\":\"{}\"}}\n", "x".repeat(50_000))).collect();
    fs::write(folder.join("rows.jsonl"), rows).unwrap();
    let args = || words("--data data --input rows.jsonl --to test/echo --id id --until-idle");
    ended(&mut start_on_full_disk(&folder, args(), KIB, &folder.join("said")), &folder);
    finish_well(&folder, args());
    assert_eq!(fs::read_to_string(folder.join("data/egress/test/echoes.jsonl")).unwrap().lines().count(), 200);
}
