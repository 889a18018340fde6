//! Files as inputs, seen from outside: each row counts once, or is refused with its place and the reason, whatever the file looks like
//! and whatever happens to it between two runs.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::Write,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use common::{
    folder, lines, malformed,
    process::{finish, finish_well, said, serve_if_asked, start, wait_for, words},
    seen,
};

#[test]
fn a_host_in_a_process_of_its_own() {
    serve_if_asked();
}

fn add(path: &Path, text: impl AsRef<[u8]>) {
    fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_ref()).unwrap();
}

/// The arguments that read this file in folder `d`.
fn reading(file: impl AsRef<OsStr>, rest: &str) -> Vec<OsString> {
    let mut arguments: Vec<_> = words("--data d --until-idle --id id --input").into_iter().map(OsString::from).collect();
    arguments.push(file.as_ref().into());
    arguments.extend(words(rest).into_iter().map(OsString::from));
    arguments
}

const TO_COUNTER: &str = "--to test/counter --type test/order";

/// What the egress `test/<name>` got, sorted.
fn sent(at: &Path, name: &str) -> Vec<String> {
    let mut sent = lines(&at.join(format!("d/egress/test/{name}.jsonl")));
    sent.sort();
    sent
}

/// The rows that were refused: place, reason and what stands there.
async fn refused(at: &Path) -> Vec<(String, String, String)> {
    let host = common::open(&at.join("d"));
    let mut refused: Vec<_> = malformed(&host).into_iter().map(|record| (record.position, record.reason, record.raw)).collect();
    refused.sort();
    host.shutdown().await.unwrap();
    refused
}

#[test]
fn rows_of_a_file_that_was_replaced_are_never_skipped() {
    let (_keep, at) = folder();
    let (input, long) = (at.join("rows.jsonl"), "x".repeat(100));
    let row = |id: usize| format!("{{\"id\":\"a{id}\",\"note\":\"{long}\"}}\n");
    let run = || finish(&at, reading("rows.jsonl", TO_COUNTER));
    let refused = || {
        let output = run();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("is not the file that was read before"), "{said}");
    };
    fs::write(&input, "").unwrap();
    assert!(run().status.success());
    fs::write(&input, row(0) + &row(1)).unwrap();
    assert!(run().status.success());
    assert_eq!(sent(&at, "out"), ["a0 1", "a1 1"]);
    fs::write(&input, row(2) + &row(3) + &row(4)).unwrap();
    refused();
    // Far behind its beginning, and near the place up to which it was read.
    fs::write(&input, row(0) + &row(1)).unwrap();
    add(&input, (100..200).map(row).collect::<String>());
    assert!(run().status.success());
    let text = fs::read_to_string(&input).unwrap();
    fs::write(&input, text.replace("\"a190\"", "\"b190\"") + &row(5)).unwrap();
    refused();
    assert_eq!(sent(&at, "out").len(), 102);
    // As it was, it goes on.
    fs::write(&input, text + &row(5)).unwrap();
    assert!(run().status.success());
    assert_eq!(sent(&at, "out").len(), 103);
}

#[test]
fn names_that_are_not_utf8_are_told_apart() {
    let (_keep, at) = folder();
    let names = [&b"caf\xe9.csv"[..], b"caf\xe8.csv", "caf\u{fffd}.csv".as_bytes()].map(|name| OsString::from_vec(name.to_vec()));
    for (number, name) in names.iter().enumerate() {
        // Not every file system takes such names.
        if fs::write(at.join(name), format!("id,n\na,{number}\nb,{number}\n")).is_err() {
            return;
        }
    }
    for _ in 0..2 {
        for name in &names {
            finish_well(&at, reading(name, TO_COUNTER));
        }
    }
    assert_eq!(sent(&at, "out"), ["a 1", "a 2", "a 3", "b 1", "b 2", "b 3"]);
    // The same beginning: what was added to one is not added to the other.
    for name in &names {
        fs::write(at.join(name), "id,n\nc,1\n").unwrap();
        let said = said(&finish(&at, reading(name, TO_COUNTER)));
        assert!(said.contains("is not the file that was read before"), "{said}");
    }
}

#[test]
fn a_file_that_was_renamed_goes_on_where_it_was() {
    let (_keep, at) = folder();
    let name = |name: &str| at.join(name);
    fs::write(name("rows.csv"), "id,n\na,1\nb,1\n").unwrap();
    finish_well(&at, reading("rows.csv", TO_COUNTER));
    fs::rename(name("rows.csv"), name("old.csv")).unwrap();
    add(&name("old.csv"), "c,1\n");
    finish_well(&at, reading("old.csv", TO_COUNTER));
    fs::hard_link(name("old.csv"), name("other.csv")).unwrap();
    finish_well(&at, reading("./other.csv", TO_COUNTER));
    assert_eq!(sent(&at, "out"), ["a 1", "b 1", "c 1"]);
    // A copy is another file.
    fs::copy(name("old.csv"), name("copy.csv")).unwrap();
    finish_well(&at, reading("copy.csv", TO_COUNTER));
    assert_eq!(sent(&at, "out"), ["a 1", "a 2", "b 1", "b 2", "c 1", "c 2"]);
}

#[test]
fn a_new_file_where_one_was_deleted_is_not_taken_for_that() {
    let (_keep, at) = folder();
    for number in 0..5 {
        let path = at.join(format!("{number}.csv"));
        fs::write(&path, "id,n\na,1\n").unwrap();
        finish_well(&at, reading(&path, TO_COUNTER));
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(sent(&at, "out").len(), 5);
}

/// What version 1 of this program stored of a file that it had read up to byte 13. Never change it.
const OLD_CURSOR: &str = r#"{"v":1,"offset":13,"line":4,"rows":2,"rejected":0,"beginning":{"bytes":13,"sha256":"45deb14fd7f98a3b4a8e0357a88ccf31c983c2a2c3042e9d17106cfb63361506"}}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_places_that_older_versions_noted_are_gone_on_from() {
    let (_keep, at) = folder();
    let (read, added) = ("id,n\na,1\nb,1\n", "c,1\n");
    let names = [&b"rows.csv"[..], b"caf\xe9.csv"].map(|name| PathBuf::from(OsStr::from_bytes(name)));
    for name in &names {
        let path = at.join(name);
        if fs::write(&path, format!("{read}{added}")).is_err() {
            continue;
        }
        let host = common::open(&at.join("d"));
        host.store().set_cursor(&format!("input:{}", path.display()), OLD_CURSOR.into()).unwrap();
        host.shutdown().await.unwrap();
        finish_well(&at, reading(name, TO_COUNTER));
        finish_well(&at, reading(name, TO_COUNTER));
    }
    let sent = sent(&at, "out");
    assert!(sent == ["c 1", "c 2"] || sent == ["c 1"], "{sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn csv_is_read_right_or_refused_with_line_and_reason() {
    for (text, rows, reasons) in [
        // Line ends of old programs.
        (&b"id,n\ra,1\rb,2\r"[..], &["a 1", "b 1"][..], &[][..]),
        (b"id,n\ra,1\r\"b\",2\rbad\rc,1", &["a 1", "b 1", "c 1"], &[("line 4", "the row has 1 fields")]),
        (b"id,n\r\na,1\r\nb,2\r\n", &["a 1", "b 1"], &[]),
        (b"id,n\ra,1\nb,2\n", &["a 1", "b 1"], &[]),
        // A carriage return within a line that a line feed ends is text.
        (b"id,n\na\rx,1\n", &["a\rx 1"], &[]),
        // A mark before a header in quotes.
        (b"\xef\xbb\xbf\"id\",\"the\nnumber\"\na,1\n", &["a 1"], &[]),
        (b"\xef\xbb\xbf\"id\"\n\"a\"\n", &["a 1"], &[]),
        // Quotes that nobody closed.
        (b"id,n\na,1\nb,\"2\nc,3\nd,4\n", &["a 1"], &[("line 3", "a quote in this row is not closed")]),
        (b"id,n\na,1\nb,\"2\nc,\"3\"\nd,4\n", &["a 1", "d 1"], &[("line 3", "quotes in this row hold a line end")]),
        (b"id,n\na,1\n\"b\n", &["a 1"], &[("line 3", "a quote in this row is not closed")]),
    ] {
        let (_keep, at) = folder();
        let shown = String::from_utf8_lossy(text);
        fs::write(at.join("rows.csv"), text).unwrap();
        finish_well(&at, reading("rows.csv", TO_COUNTER));
        assert_eq!(sent(&at, "out"), rows, "{shown:?}");
        let refused = refused(&at).await;
        assert_eq!(refused.len(), reasons.len(), "{shown:?}: {refused:?}");
        for ((line, reason, _), (expected_line, expected)) in refused.iter().zip(reasons) {
            assert!(line == expected_line && reason.starts_with(expected), "{shown:?}: {refused:?}");
        }
    }
}

#[test]
fn a_header_that_is_not_clear_is_refused() {
    for (text, reason) in [
        ("id,id\na,b\n", "has the field `id` twice"),
        ("id,n,x,n\na,1,2,3\n", "has the field `n` twice"),
        ("id,\"n\na,1\n", "line 1: its header cannot be read: a quote in this row is not closed"),
    ] {
        let (_keep, at) = folder();
        fs::write(at.join("rows.csv"), text).unwrap();
        let output = finish(&at, reading("rows.csv", TO_COUNTER));
        assert!(output.status.code() == Some(2) && said(&output).contains(reason), "{text:?}: {}", said(&output));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_added_to_a_row_that_was_taken_is_refused_as_that() {
    let (_keep, at) = folder();
    let csv = at.join("rows.csv");
    let run = |name: &str, rest: &str| finish_well(&at, reading(name, rest));
    fs::write(&csv, "id,code\nann,x12").unwrap();
    run("rows.csv", "--to test/labels");
    add(&csv, "34\nbob,x5");
    run("rows.csv", "--to test/labels");
    add(&csv, "6");
    run("rows.csv", "--to test/labels");
    add(&csv, "7\ncat,x8");
    run("rows.csv", "--to test/labels");
    // The line end alone is fine.
    add(&csv, "\ndan,x9\n");
    run("rows.csv", "--to test/labels");
    assert_eq!(sent(&at, "codes"), ["x12", "x5", "x8", "x9"]);
    // Neither part of a torn line of JSON is lost.
    let json = at.join("rows.jsonl");
    fs::write(&json, "{\"id\":\"a\",\"co").unwrap();
    run("rows.jsonl", "--to test/labels");
    add(&json, "de\":\"x\"}\n{\"id\":\"b\",\"code\":\"y\"}\n  ");
    run("rows.jsonl", "--to test/labels");
    add(&json, "  {\"id\":\"c\",\"code\":\"z\"}\n");
    run("rows.jsonl", "--to test/labels");
    assert_eq!(sent(&at, "codes"), ["x12", "x5", "x8", "x9", "y", "z"]);
    let refused = refused(&at).await;
    let parts: Vec<_> = refused.iter().map(|(position, _, raw)| (position.as_str(), raw.as_str())).collect();
    assert_eq!(
        parts,
        [
            ("line 1", "{\"id\":\"a\",\"co"),
            ("line 1, from byte 13", "de\":\"x\"}"),
            ("line 2, from byte 15", "34"),
            ("line 3, from byte 24", "6"),
            ("line 3, from byte 25", "7"),
        ]
    );
    assert!(refused[1..].iter().all(|(_, reason, _)| reason.contains("--follow")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_a_file_that_is_followed_waits_for_its_end() {
    let (_keep, at) = folder();
    let input = at.join("rows.csv");
    fs::write(&input, "id,code\nann,x12").unwrap();
    let follow = words("--data d --listen 127.0.0.1:0 --input rows.csv --id id --to test/labels --follow");
    let mut host = start(&at, &follow);
    host.address(&at.join("d"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    add(&input, "34\nbob,\"a");
    let wait = |expected: &[&str]| wait_for(|| (sent(&at, "codes") == expected).then_some(()));
    wait(&["x1234"]);
    add(&input, "\nb\"\n");
    wait(&["a\nb", "x1234"]);
    host.kill();
    add(&input, "cat,1\ndan,y");
    let host = start(&at, words(&format!("{} --text code", follow.join(" "))));
    wait(&["1", "a\nb", "x1234"]);
    host.kill();
    assert!(refused(&at).await.is_empty());
    let output = finish(&at, words("--data d --input rows.csv --id id --to test/labels --follow --until-idle"));
    assert!(said(&output).contains("--follow is for a file"), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_is_a_number_only_if_it_is_one_and_may_be_text() {
    let (_keep, at) = folder();
    fs::write(at.join("rows.csv"), "id,code\nann,12E4567\nbob,7\ncat,007\ndan,12345678901234567890.10\neva,-1e999\nfay,\n")
        .unwrap();
    finish_well(&at, reading("rows.csv", "--to test/echo"));
    assert_eq!(
        sent(&at, "echoes"),
        [
            r#"{"id":"ann","code":"12E4567"}"#,
            r#"{"id":"bob","code":7}"#,
            r#"{"id":"cat","code":"007"}"#,
            r#"{"id":"dan","code":12345678901234567890.10}"#,
            r#"{"id":"eva","code":"-1e999"}"#,
            r#"{"id":"fay","code":null}"#,
        ]
    );
    assert!(refused(&at).await.is_empty());
    fs::copy(at.join("rows.csv"), at.join("text.csv")).unwrap();
    finish_well(&at, reading("text.csv", "--to test/labels --text code --text id"));
    assert_eq!(sent(&at, "codes"), ["", "-1e999", "007", "12345678901234567890.10", "12E4567", "7"]);
    let output = finish(&at, reading("rows.csv", "--to test/labels --text cod"));
    assert!(said(&output).contains("no field `cod`; did you mean `code`?"), "{}", said(&output));
    fs::write(at.join("rows.jsonl"), "").unwrap();
    let output = finish(&at, reading("rows.jsonl", "--to test/labels --text code"));
    assert!(said(&output).contains("text columns are for CSV"), "{}", said(&output));
    let host = common::open(&at.join("d"));
    assert_eq!(seen(&host, "test/labels/ann"), 0);
    host.shutdown().await.unwrap();
}

#[test]
fn a_module_declares_columns_as_text() {
    let (_keep, at) = folder();
    let stream = "{stream: s, valueType: test/label, targets: [test/labels], id: {jsonPointer: /id}, textColumns: [code]}";
    let module = format!("kind: io.statefun.kinesis.v1/ingress\nspec: {{id: test/in, streams: [{stream}]}}\n");
    fs::write(at.join("module.yaml"), module).unwrap();
    fs::write(at.join("rows.csv"), "id,code\nann,7\nbob,true\n").unwrap();
    finish_well(
        &at,
        words(
            "--data d --until-idle --module module.yaml --input rows.csv --ingress test/in --egress test/codes=file:d/egress/test/codes.jsonl",
        ),
    );
    assert_eq!(sent(&at, "codes"), ["7", "true"]);
}
