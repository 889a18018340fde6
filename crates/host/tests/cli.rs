//! The command line, within this process.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::{ffi::OsString, path::Path};

use common::*;
use statefun_embedded::Letter;
use statefun_host::{App, HostError, HostOptions, run_cli};

async fn run(data: &Path, args: &str) -> Result<(), HostError> {
    let options = HostOptions { backoff: options(data).backoff, ..HostOptions::new("") };
    let args = ["app", "--data", data.to_str().unwrap()].into_iter().chain(args.split_whitespace()).map(OsString::from);
    run_cli(App { options, ..App::new(functions()) }, args).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_worked_off_once_and_can_be_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("out.jsonl"));
    let input = folder.path().join("orders.csv");
    std::fs::write(&input, "id,n\na,1\nb,-1\na,2\nbad\n").unwrap();
    let args = format!(
        "--input {} --to test/counter --id id --type test/order --egress test/out=file:{} --until-idle",
        input.display(),
        out.display()
    );
    for _ in 0..2 {
        run(&data, &args).await.unwrap();
        assert_eq!(lines(&out), ["a 1", "a 2"], "the second run finds nothing new");
    }
    run(&data, "state test/counter/a").await.unwrap();
    run(&data, "state test/counter/a --json").await.unwrap();
    assert!(matches!(run(&data, "state test/counter/nobody").await, Err(HostError::Missing(_))));
    assert!(matches!(run(&data, "state nonsense").await, Err(HostError::Config(_))));
    run(&data, "dead-letters list").await.unwrap();
    run(&data, "dead-letters list --json").await.unwrap();
    run(&data, "dead-letters replay --all").await.unwrap();
    assert!(matches!(run(&data, "dead-letters replay xyz").await, Err(HostError::Config(_))));
    assert!(matches!(run(&data, "dead-letters replay").await, Err(HostError::Usage(_))));
    assert!(matches!(run(&data, "dead-letters delete").await, Err(HostError::Usage(_))));

    let host = open(&data);
    assert_eq!((host.store().waiting().messages, host.store().letter_count()), (1, 1));
    match run(&data, "dead-letters list").await {
        Err(error @ HostError::InUse { .. }) => assert!(error.to_string().contains("does not listen"), "{error}"),
        other => panic!("{other:?}"),
    }
    let listening = serve(&host).await;
    request(listening, "GET", "/_/health", &[], b"").await;
    for command in ["dead-letters list", "dead-letters replay --all", "dead-letters delete --malformed", "state test/counter/a"] {
        match run(&data, command).await {
            Err(error @ HostError::InUse { .. }) => {
                let text = error.to_string();
                assert!(
                    text.contains(&format!("process {}", std::process::id())) && text.contains(&format!("http://{listening}/_/")),
                    "{text}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(run(&data, "--fresh --until-idle").await, Err(HostError::Open(_))), "a folder in use is not deleted");
    host.shutdown().await.unwrap();

    run(&data, &format!("{args} --fresh")).await.unwrap();
    assert_eq!(lines(&out).len(), 4, "what was sent to a file outside stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_deletes_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let (data, input) = (folder.path().join("data"), folder.path().join("orders.csv"));
    std::fs::write(&input, "id,n\na,-1\nb,-1\nbad\nworse\n").unwrap();
    run(&data, &format!("--input {} --to test/counter --id id --type test/order --until-idle", input.display())).await.unwrap();
    let left = async || {
        let host = open(&data);
        let letters = host.store().letters(None, 10).unwrap();
        host.shutdown().await.unwrap();
        letters.into_iter().filter(|letter| matches!(letter, Letter::Dead(_))).map(|letter| letter.id()).collect::<Vec<_>>()
    };
    let [first, second] = left().await[..] else { panic!("two messages were given up") };
    run(&data, &format!("dead-letters delete {first}")).await.unwrap();
    assert_eq!(left().await, [second]);
    match run(&data, &format!("dead-letters delete {first}")).await {
        Err(HostError::Config(problems)) => assert!(problems[0].contains("no dead letter"), "{problems:?}"),
        other => panic!("{other:?}"),
    }
    run(&data, "dead-letters delete --malformed").await.unwrap();
    let host = open(&data);
    assert_eq!(host.store().letter_count(), 1);
    host.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_been_applied_is_kept_unless_that_is_asked_for() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let left = async || {
        let host = open(data);
        let left = (host.store().letter_count(), host.store().waiting().messages);
        host.shutdown().await.unwrap();
        left
    };
    let host = open(data);
    let old = park_too_old(host.store(), "test/counter/a").await;
    host.shutdown().await.unwrap();
    run(data, "dead-letters list").await.unwrap();
    run(data, "dead-letters replay --all").await.unwrap();
    assert_eq!(left().await, (1, 0), "what may have been applied was sent again");
    match run(data, &format!("dead-letters replay {old}")).await {
        Err(HostError::Config(problems)) => assert!(problems[0].contains("--may-be-applied"), "{problems:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(left().await, (1, 0));
    run(data, &format!("dead-letters replay --may-be-applied {old}")).await.unwrap();
    assert_eq!(left().await, (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fresh_deletes_what_the_host_made() {
    let folder = tempfile::tempdir().unwrap();
    let (data, input) = (folder.path().join("data"), folder.path().join("orders.csv"));
    std::fs::write(&input, "id,n\na,1\n").unwrap();
    let args = format!("--input {} --to test/counter --id id --type test/order --until-idle", input.display());
    let fresh = format!("{args} --fresh");
    run(&data, &args).await.unwrap();
    std::fs::write(data.join("address"), "127.0.0.1:1").unwrap();
    run(&data, &fresh).await.unwrap();
    assert_eq!(lines(&data.join("egress/test/out.jsonl")), ["a 1"], "the first run's are gone");

    // Another program's folder inside of this one, as `.statefun/other` is inside of `.statefun`, is in use.
    let inner = data.join("other");
    let host = open(&inner);
    let error = run(&data, &fresh).await.unwrap_err();
    assert!(matches!(&error, HostError::Open(cause) if cause.to_string().contains("also holds `other`")), "{error:?}");
    host.shutdown().await.unwrap();
    assert!(run(&data, &fresh).await.is_err(), "nor is it deleted when nobody uses it");
    assert!(inner.join("data.redb").exists());
    assert_eq!(lines(&data.join("egress/test/out.jsonl")), ["a 1"]);
    std::fs::remove_dir_all(&inner).unwrap();
    std::fs::write(data.join("egress/test/notes.txt"), "mine").unwrap();
    assert!(run(&data, &fresh).await.is_err());
    assert!(data.join("egress/test/notes.txt").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_come_together_and_touch_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    match run(&data, "--listen x --egress y --input none.csv --until-idle").await {
        Err(error @ HostError::Config(_)) => {
            assert_eq!((error.exit_code(), error.to_string().lines().count()), (2, 4), "{error}")
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(run(&data, "--nonsense").await, Err(HostError::Usage(text)) if text.contains("--nonsense")));
    assert!(matches!(run(&data, "dead-letters list").await, Err(HostError::Missing(_))));
    run(&data, "--help").await.unwrap();
    assert!(!data.exists());
    let taken = statefun_host::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let error = run(&data, &format!("--listen {}", taken.local_addr().unwrap())).await.unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("another program has this port"));
    std::fs::write(folder.path().join("mine.txt"), "mine").unwrap();
    assert!(run(folder.path(), "--fresh --until-idle").await.is_err());
    assert!(folder.path().join("mine.txt").exists(), "a folder that is not ours is not deleted");
    let no_id = folder.path().join("x.csv");
    std::fs::write(&no_id, "ident\n1\n").unwrap();
    let error = run(&data, &format!("--input {} --to test/counter --id id --until-idle", no_id.display())).await.unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
}
