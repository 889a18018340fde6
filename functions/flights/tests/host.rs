//! The week of departures through the whole host: every number agrees with figures worked out without it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should panic")]

mod common;

use std::{fs, future::pending, path::Path, time::Duration};

use flights::local::{self, Job, JobError, Start};
use lambda_statefun::local::{FileIngress, Format, Host, HostError, store::OpenError};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{runtime::Runtime, time::sleep};

fn job(input: &Path, folder: &TempDir) -> Job {
    Job { input: input.to_owned(), data: folder.path().join("data") }
}

async fn run(job: &Job) -> Result<local::Outcome, JobError> {
    local::run(job, |_| {}, pending()).await
}

fn expected() -> Value {
    common::reference::report(&fs::read_to_string(common::week()).unwrap())
}

fn assert_expected(outcome: &local::Outcome) {
    common::assert_same(&serde_json::to_value(&outcome.report).unwrap(), &expected());
}

/// Reads until `rows` were taken in, and then stops in the middle of everything, as a crash would.
fn run_partly(job: &Job, rows: u64) {
    let runtime = Runtime::new().unwrap();
    let host = runtime.block_on(read_partly(job, rows));
    drop(host);
    drop(runtime);
}

/// A host that was dropped lets go of its folder once what it was running has ended.
async fn once_free<T>(mut open: impl AsyncFnMut() -> Result<T, JobError>) -> T {
    for _ in 0..1_000 {
        match open().await {
            Err(JobError::Host(HostError::Open(OpenError::Locked { .. }))) => sleep(Duration::from_millis(20)).await,
            opened => return opened.unwrap(),
        }
    }
    panic!("the folder is never free again")
}

async fn read_partly(job: &Job, rows: u64) -> Host {
    let host = once_free(async || local::open(&job.data)).await;
    host.start();
    let (stop, mut stopped) = tokio::sync::mpsc::unbounded_channel();
    let file = FileIngress::path(&job.input, local::mapping()).with_format(Format::Csv);
    let file = file.on_progress(move |file| {
        if file.rows >= rows {
            let _ = stop.send(());
        }
    });
    tokio::select! {
        _ = host.run_file(file) => panic!("it was to be stopped before the end"),
        _ = stopped.recv() => host.clone(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_number_of_the_week_agrees() {
    let folder = TempDir::new().unwrap();
    let job = job(&common::week(), &folder);
    let outcome = run(&job).await.unwrap();
    assert_eq!((outcome.start, outcome.rows), (Start::New, 6_099));
    assert_expected(&outcome);
    // A row, and what it causes: every flight informs two airports and a route, a cancelled one an airport and a route.
    assert!(outcome.messages > 4 * 6_000, "{} messages", outcome.messages);

    let again = run(&job).await.unwrap();
    assert_eq!((again.start, again.rows, again.messages), (Start::Finished, 0, 0));
    assert_expected(&again);
}

#[test]
fn every_number_agrees_after_stops_on_the_way() {
    let folder = TempDir::new().unwrap();
    let job = job(&common::week(), &folder);
    for rows in [1_500, 3_000, 4_500] {
        run_partly(&job, rows);
    }
    let outcome = Runtime::new().unwrap().block_on(once_free(async || run(&job).await));
    assert!(matches!(outcome.start, Start::Resumed { .. }), "{:?}", outcome.start);
    assert!(outcome.rows < 6_099);
    assert_expected(&outcome);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_interrupted_goes_on() {
    let folder = TempDir::new().unwrap();
    let job = job(&common::week(), &folder);
    let interrupted = local::run(&job, |_| {}, sleep(Duration::from_millis(100))).await.unwrap_err();
    assert_eq!(interrupted.exit_code(), 130);
    assert_expected(&run(&job).await.unwrap());
}

#[tokio::test]
async fn a_folder_is_of_one_file() {
    let folder = TempDir::new().unwrap();
    let week = fs::read_to_string(common::week()).unwrap();
    let two_rows: String = week.lines().take(3).flat_map(|line| [line, "\n"]).collect();
    let (one, other) = (folder.path().join("one.csv"), folder.path().join("other.csv"));
    fs::write(&one, &two_rows).unwrap();
    fs::write(&other, &two_rows).unwrap();
    run(&job(&one, &folder)).await.unwrap();
    let error = run(&job(&other, &folder)).await.unwrap_err();
    assert!(matches!(&error, JobError::OtherInput { .. }), "{error}");
    assert!(error.to_string().contains("--fresh") && error.exit_code() == 2);

    let fresh = job(&other, &folder);
    lambda_statefun::local::erase(&fresh.data).unwrap();
    let outcome = run(&fresh).await.unwrap();
    assert_eq!((outcome.start, outcome.rows), (Start::New, 2));
}

#[tokio::test]
async fn what_is_no_file_of_departures_is_refused_at_once() {
    let folder = TempDir::new().unwrap();
    let error = run(&job(Path::new("nowhere.csv"), &folder)).await.unwrap_err();
    assert_eq!((error.to_string(), error.exit_code()), ("cannot open the input `nowhere.csv`".to_owned(), 2));
    let other = folder.path().join("other.csv");
    fs::write(&other, "name,age\nbob,4\n").unwrap();
    let error = run(&job(&other, &folder)).await.unwrap_err();
    assert!(error.to_string().contains("has no column year, month, day"), "{error}");
    assert!(!folder.path().join("data").exists());
}
