//! Inputs: every row exactly once, whatever happens, and bad rows in nobody's way.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use common::*;
use statefun_core::{TypeName, TypedValue};
use statefun_host::{FileIngress, Format, HostOptions, InputError, Mapping};

fn to_counter() -> Mapping {
    Mapping::field(TypeName::from_static("test/counter"), "id")
}

fn to_silent() -> Mapping {
    Mapping::field(TypeName::from_static("test/silent"), "id")
}

fn file(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_killed_goes_on_exactly_where_it_was() {
    const ROWS: u64 = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from("id,n,note\r\n");
    for row in 0..ROWS {
        text += &format!("a{},{row},\"row\n{row}\"\r\n", row % 10);
    }
    let path = file(folder.path(), "rows.csv", text);
    let data = folder.path().join("data");
    let mut resumed = Vec::new();
    for kill_at in [1, 3_000, 9_000, 9_001, 16_000, u64::MAX] {
        let host = open_with(functions(), HostOptions { max_waiting_for_input: 1_000, ..options(&data) });
        host.start();
        let (tell, mut told) = tokio::sync::watch::channel(0);
        let input = FileIngress::path(&path, to_silent()).on_progress(move |progress| {
            tell.send_replace(progress.rows);
        });
        tokio::select! {
            report = host.run_file(input) => {
                resumed.extend(report.unwrap().resumed_at);
                host.idle().await.unwrap();
                let counts: Vec<_> = (0..10).map(|id| seen(&host, &format!("test/silent/a{id}"))).collect();
                assert_eq!(counts, [ROWS / 10; 10], "{:?}", host.store().letters(None, 9));
                assert_eq!(kill_at, u64::MAX);
            }
            _ = told.wait_for(|rows| *rows >= kill_at) => {}
        }
        crash(host);
    }
    let host = open(&data);
    host.start();
    let again = host.run_file(FileIngress::path(&path, to_silent())).await.unwrap();
    assert_eq!((again.rows, again.resumed_at), (0, Some(1 + 2 * ROWS + 1)));
    // What is added later is read later.
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"a0,1,new\n").unwrap();
    assert_eq!(host.run_file(FileIngress::path(&path, to_silent())).await.unwrap().rows, 1);
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/silent/a0"), ROWS / 10 + 1);
    assert_eq!(resumed.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_rows_are_kept_with_their_place_and_hold_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = b"id,n\r\n\r\na,1\n\"a\",\"2\"\nb\nc,1,2\nd\xff,1\na,x\n,7\n\"long".to_vec();
    text.extend(vec![b'x'; 2 << 20]);
    text.extend(b"\nnext\",1\na,-1\na,5");
    let path = file(folder.path(), "rows.csv", text);
    let host = open(&folder.path().join("data"));
    host.start();
    let report = host.run_file(FileIngress::path(&path, to_silent())).await.unwrap();
    assert_eq!((report.rows, report.rejected), (10, 6));
    let records = malformed(&host);
    let said: Vec<_> = records.iter().map(|record| (record.position.as_str(), record.reason.as_str())).collect();
    for (index, (position, reason)) in [
        ("line 5", "the row has 1 fields, the header has 2"),
        ("line 6", "the row has 3 fields, the header has 2"),
        ("line 7", "not UTF-8"),
        ("line 8", "these bytes cannot be read as `test/order`"),
        ("line 9", "the field `id`: an id has 1 to 1024 bytes"),
        ("line 10", "the row has more than"),
    ]
    .into_iter()
    .enumerate()
    {
        let found = said.iter().find(|(line, _)| *line == position).unwrap_or_else(|| panic!("{position} in {said:?}"));
        assert!(found.1.starts_with(reason), "{index}: {found:?}");
    }
    let raw = |line: &str| records.iter().find(|record| record.position == line).map(|record| record.raw.as_str());
    assert_eq!((raw("line 6"), raw("line 7")), (Some("c,1,2"), Some("base64:ZP8sMQ==")));
    assert!(records[0].source.ends_with("rows.csv"));
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/silent/a"), 4, "\"2\" in quotes is a number, too; the last row has no line end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_json() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "{\"id\":\"a\"}\r\n\n  \n{\"id\":7}\n[1]\n{\"id\":null}\n{\"id\":\"a\"\n{\"id\":\"a\",\"n\":\"x\"}\n{\"id\":\"a\"}";
    let path = file(folder.path(), "rows.jsonl", text);
    let host = open(&folder.path().join("data"));
    host.start();
    let report = host.run_file(FileIngress::path(&path, to_counter())).await.unwrap();
    assert_eq!((report.rows, report.rejected), (7, 5));
    let lines: std::collections::BTreeSet<_> = malformed(&host).into_iter().map(|record| record.position).collect();
    assert_eq!(lines.into_iter().collect::<Vec<_>>(), ["line 4", "line 5", "line 6", "line 7", "line 8"]);
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/counter/a"), 2);
}

/// As a float, both would be the same instance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_would_lose_digits_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = "{\"id\":12345678901234567890123}\n{\"id\":\"12345678901234567890123\"}\n{\"id\":1.5}\n";
    let path = file(folder.path(), "rows.jsonl", text);
    let host = open(&folder.path().join("data"));
    host.start();
    let report = host.run_file(FileIngress::path(&path, to_silent())).await.unwrap();
    assert_eq!((report.rows, report.rejected), (3, 2));
    assert!(malformed(&host).iter().all(|record| record.reason.contains("write it as a string")), "{:?}", malformed(&host));
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/silent/12345678901234567890123"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_said_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let host = open(&folder.path().join("data"));
    host.start();
    let error =
        async |path: PathBuf, mapping: Mapping| host.run_file(FileIngress::path(path, mapping)).await.unwrap_err().to_string();
    assert!(error(folder.path().join("none.csv"), to_counter()).await.contains("cannot read the input"));
    assert!(error(folder.path().into(), to_counter()).await.contains("--format"));
    assert!(error(file(folder.path(), "x.txt", "a"), to_counter()).await.contains("--format"));
    assert!(error(file(folder.path(), "empty.csv", "\n\n"), to_counter()).await.contains("begins with a header"));
    let text = error(file(folder.path(), "no-id.csv", "ident,id2,n\n1,2,3\n"), to_counter()).await;
    assert!(text.contains("no field `id`; did you mean `id2`?") && text.contains("ident, id2, n"), "{text}");
    let nobody = Mapping::field(TypeName::from_static("test/countr"), "id");
    assert!(error(file(folder.path(), "y.csv", "id\n"), nobody).await.contains("did you mean `test/counter`?"));
    let path = file(folder.path(), "z.csv", "id,n\na,1\n");
    host.run_file(FileIngress::path(&path, to_counter())).await.unwrap();
    std::fs::write(&path, "id,n\nb,1\n").unwrap();
    let changed = host.run_file(FileIngress::path(&path, to_counter())).await.unwrap_err();
    assert!(matches!(changed, InputError::Changed { .. }) && changed.is_mistake(), "{changed}");
    assert_eq!(host.store().letter_count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapping_in_rust_sees_typed_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "rows.csv", "who,n\na,1\nb,x\nc,2\npanic,3\nnobody,4\n");
    let mapping = Mapping::rows(|row| {
        #[derive(serde::Deserialize)]
        struct Typed {
            who: String,
            n: i64,
        }
        let Typed { who, n } = row.deserialize()?;
        assert_ne!(who, "panic");
        let function = if who == "nobody" { "test/nobody" } else { "test/silent" };
        let message = || TypedValue::of(&order(&who, n)).unwrap();
        Ok((0..n)
            .map(|_| (address(&format!("{function}/{who}")), message()))
            .chain([(address("test/silent/all"), message())])
            .collect())
    });
    let host = open(&folder.path().join("data"));
    host.start();
    let report = host.run_file(FileIngress::path(&path, mapping)).await.unwrap();
    assert_eq!((report.rows, report.rejected), (5, 3));
    let mut reasons: Vec<_> = malformed(&host).into_iter().map(|record| record.reason).collect();
    reasons.sort();
    assert_eq!(reasons[0], "no function `test/nobody` is known here");
    assert_eq!(reasons[1], "the field `n`: invalid digit found in string");
    assert_eq!(reasons[2], "the mapping panicked");
    host.idle().await.unwrap();
    assert_eq!(["a", "b", "c", "all"].map(|id| seen(&host, &format!("test/silent/{id}"))), [1, 0, 2, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_typed_is_taken_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let host = open(&folder.path().join("data"));
    host.start();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let running = tokio::spawn({
        let host = host.clone();
        async move { host.run_file(FileIngress::stream("typed", reader, to_counter()).with_format(Format::Csv)).await }
    });
    for line in ["id,n\n", "a,1\n", "a,2\n"] {
        writer.write_all(line.as_bytes()).unwrap();
    }
    while seen(&host, "test/counter/a") < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // It does not end by itself, and does not keep the host from stopping.
    let store = host.store().clone();
    host.shutdown().await.unwrap();
    assert!(running.await.unwrap().unwrap().interrupted);
    drop((store, writer));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_pauses_while_too_much_waits() {
    let folder = tempfile::tempdir().unwrap();
    let mut functions = functions();
    let (entered, gate) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Semaphore::new(0)));
    let slow = Gated { entered, gate: gate.clone() };
    functions.add(spec("test/slow", vec![statefun_core::Accepted::of::<Order>()]), Arc::new(slow));
    let rows: String = (0..10_000).map(|_| "{\"id\":\"a\"}\n").collect();
    let path = file(folder.path(), "rows.jsonl", rows);
    let host = open_with(functions, HostOptions { max_waiting_for_input: 100, ..options(&folder.path().join("data")) });
    host.start();
    let input = FileIngress::path(&path, Mapping::field(TypeName::from_static("test/slow"), "id"));
    let running = tokio::spawn({
        let host = host.clone();
        async move { host.run_file(input).await }
    });
    while host.store().waiting().messages < 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let waiting = host.store().waiting().messages;
    assert!((1..=600).contains(&waiting), "{waiting}");
    gate.add_permits(10_000);
    assert_eq!(running.await.unwrap().unwrap().rows, 10_000);
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/slow/a"), 10_000);
}
