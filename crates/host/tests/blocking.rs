//! Handlers that hold their threads: what else runs, what becomes of them, and how a host ends in spite of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::{
    fs,
    path::Path,
    sync::{Arc, Condvar, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use common::{process::*, *};
use statefun_core::{Context, FunctionError, OnFailure, TypedValue};
use statefun_engine::{Functions, Invoke};
use statefun_host::{FileIngress, Host, HostError, Mapping, SendError};
use tokio::net::TcpListener;

/// What a loaded machine needs for what takes no time.
const GENEROUS: Duration = Duration::from_secs(60);

#[test]
fn a_host_in_a_process_of_its_own() {
    serve_if_asked();
}

/// Holds threads until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<(bool, usize)>, Condvar)>);

impl Gate {
    fn hold(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.1 += 1;
        while !state.0 {
            state = self.0.1.wait(state).unwrap();
        }
    }

    fn open(&self) {
        self.0.0.lock().unwrap().0 = true;
        self.0.1.notify_all();
    }

    fn held(&self) -> usize {
        self.0.0.lock().unwrap().1
    }
}

/// Holds its thread at its first try of a message (at every one of the text `always`), then counts. At `waits once` it waits a moment before.
struct Holding(Gate);

#[async_trait]
impl Invoke for Holding {
    async fn invoke(&self, context: &mut Context, message: &TypedValue) -> Result<(), FunctionError> {
        let text = message.get::<String>()?.unwrap_or_default();
        if text.starts_with("waits") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if text == "always" || context.message().attempt == 1 && text.ends_with("once") {
            count(context)?;
            context.egress(OUT, &"from a handler that was given up".to_owned())?;
            self.0.hold();
        }
        count(context)
    }
}

/// With `test/gated`, which holds threads.
fn gated(gate: &Gate) -> Functions {
    let mut functions = functions();
    let mut spec = spec("test/gated", vec![]);
    spec.on_failure = OnFailure::DeadLetter { max_attempts: 3 };
    functions.add(spec, Arc::new(Holding(gate.clone())));
    functions
}

async fn send(host: &Host, id: &str, text: &str) {
    host.send(("test/gated", id), &text.to_owned()).await.unwrap();
}

/// Stops a host of which threads are held. On a slow disk the last changes may miss the end of its time.
async fn stop(host: Host) {
    let stopped = host.shutdown().await;
    assert!(matches!(stopped, Ok(()) | Err(HostError::Stopped(_))), "{stopped:?}");
}

async fn wait_until(mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < GENEROUS, "waited for too long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// On the smallest runtime there is: the host brings its own.
#[tokio::test]
async fn handlers_that_hold_their_threads_hold_up_neither_http_nor_other_handlers() {
    let (data, gate) = (tempfile::tempdir().unwrap(), Gate::default());
    let host = open_with(gated(&gate), options(data.path()));
    host.start();
    let to = serve(&host).await;
    // Many more than there are cores.
    let held = 4 * thread::available_parallelism().unwrap().get() + 1;
    for id in 0..held {
        send(&host, &id.to_string(), "once").await;
    }
    wait_until(|| gate.held() == held).await;
    assert_eq!(request(to, "GET", "/_/health", &[], b"").await.status, 200);
    assert_eq!(post(to, "/test/counter/free", "application/json", r#"{"id":"free"}"#).await.status, 202);
    wait_until(|| seen(&host, "test/counter/free") == 1).await;
    assert_eq!(seen(&host, "test/gated/0"), 0);
    gate.open();
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/gated/0"), 2, "what yields in time is not given up");
    host.shutdown().await.unwrap();
}

/// Else each would be so slow that it would be given up.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn handlers_that_compute_share_the_cores() {
    let (data, at_once) = (tempfile::tempdir().unwrap(), Arc::new(Mutex::new((0, 0))));
    let mut functions = functions();
    let counted = at_once.clone();
    let computes = Sync(move |context: &mut Context, _: &TypedValue| {
        let step = |by: i32| {
            let mut at_once = counted.lock().unwrap();
            at_once.0 += by;
            at_once.1 = at_once.1.max(at_once.0);
        };
        step(1);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(100) {
            std::hint::spin_loop();
        }
        step(-1);
        count(context)
    });
    functions.add(spec("test/computes", vec![]), Arc::new(computes));
    let host = open_with(functions, options(data.path()));
    for id in 0..40 {
        host.send(("test/computes", id.to_string()), &"x".to_owned()).await.unwrap();
    }
    host.start();
    host.idle().await.unwrap();
    let cores = thread::available_parallelism().unwrap().get();
    let (_, most) = *at_once.lock().unwrap();
    // A loaded machine may hold one up for a second.
    assert!(most as usize <= 2 * cores + 2, "{most}");
    host.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_handler_that_holds_its_thread_for_too_long_is_given_up_and_commits_nothing() {
    let (data, gate) = (tempfile::tempdir().unwrap(), Gate::default());
    let host = open_with(
        gated(&gate),
        statefun_host::HostOptions { handler_timeout: Duration::from_millis(200), ..options(data.path()) },
    );
    host.start();
    for text in ["before", "once", "behind"] {
        send(&host, "a", text).await;
    }
    for text in ["before", "always", "behind"] {
        send(&host, "b", text).await;
    }
    // While the threads are still held, everything else is dealt with: the second try counts, the poison is parked.
    host.idle().await.unwrap();
    assert_eq!((seen(&host, "test/gated/a"), seen(&host, "test/gated/b")), (3, 2));
    assert_eq!((host.store().letter_count(), gate.held()), (1, 4));
    let letter = format!("{:?}", host.store().letters(None, 10).unwrap());
    assert!(letter.contains("did not return or yield within its time") && letter.contains("attempts: 3"), "{letter}");
    gate.open();
    // They return now, and change nothing: neither at once nor later.
    for _ in 0..20 {
        send(&host, "a", "more").await;
    }
    host.idle().await.unwrap();
    assert_eq!((seen(&host, "test/gated/a"), seen(&host, "test/gated/b")), (23, 2));
    assert!(lines(&out_file(data.path())).is_empty());
    host.shutdown().await.unwrap();
}

/// Its deadline is long over when its handler returns. That may not wake the run again.
#[tokio::test]
async fn a_handler_that_waited_before_it_held_its_thread_changes_nothing_when_it_returns() {
    let (data, gate) = (tempfile::tempdir().unwrap(), Gate::default());
    let options = statefun_host::HostOptions { handler_timeout: Duration::from_millis(200), ..options(data.path()) };
    let host = open_with(gated(&gate), options);
    host.start();
    for text in ["waits once", "behind"] {
        send(&host, "a", text).await;
    }
    host.idle().await.unwrap();
    assert_eq!((seen(&host, "test/gated/a"), gate.held()), (2, 1));
    tokio::time::sleep(Duration::from_millis(500)).await;
    gate.open();
    for _ in 0..20 {
        send(&host, "a", "more").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    host.idle().await.unwrap();
    assert_eq!((seen(&host, "test/gated/a"), host.store().letter_count()), (22, 0));
    // Given up, it failed once; whoever goes on with it would count the deadline as another failure.
    assert_eq!(host.metrics().total(|counters| &counters.failures), 1);
    assert!(lines(&out_file(data.path())).is_empty());
    host.shutdown().await.unwrap();
}

/// However few may run at a time, one that is given up lets the next one in.
#[tokio::test]
async fn a_handler_that_was_given_up_keeps_no_place_among_those_that_may_run() {
    let (data, gate) = (tempfile::tempdir().unwrap(), Gate::default());
    let timeout = Duration::from_millis(200);
    let host = open_with(
        gated(&gate),
        statefun_host::HostOptions { handler_timeout: timeout, max_concurrent: 1, ..options(data.path()) },
    );
    host.start();
    for id in ["a", "b", "c"] {
        send(&host, id, "once").await;
    }
    host.idle().await.unwrap();
    assert_eq!(gate.held(), 3);
    gate.open();
    host.shutdown().await.unwrap();
}

/// Also the one that is suspected of ending the process, and runs alone: nobody may be kept waiting by it for ever.
#[tokio::test]
async fn a_handler_that_holds_its_thread_while_it_runs_alone_holds_up_others_until_it_is_given_up() {
    let (data, gate) = (tempfile::tempdir().unwrap(), Gate::default());
    let options = || statefun_host::HostOptions { handler_timeout: Duration::from_millis(200), ..options(data.path()) };
    // Each process dies while it runs the message.
    for _ in 0..8 {
        let gate = Gate::default();
        let host = open_with(gated(&gate), options());
        if host.store().letter_count() > 0 {
            break;
        }
        if host.store().waiting().messages == 0 {
            send(&host, "a", "always").await;
        }
        host.start();
        wait_until(|| gate.held() > 0 || host.store().letter_count() > 0).await;
        crash(host);
        gate.open();
    }
    let host = open_with(gated(&gate), options());
    host.start();
    send(&host, "b", "free").await;
    host.idle().await.unwrap();
    assert_eq!((seen(&host, "test/gated/b"), host.store().letter_count()), (1, 1));
    gate.open();
    host.shutdown().await.unwrap();
}

#[test]
fn a_program_that_embeds_a_host_ends_though_a_handler_holds_its_thread() {
    let (data, gate) = (tempfile::tempdir().unwrap(), Gate::default());
    let (sender, ended) = mpsc::channel();
    let mut options = options(data.path());
    options.stop_timeout = Duration::from_millis(300);
    let (path, holding) = (data.path().to_owned(), gate.clone());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let host = open_with(gated(&holding), options);
            host.start();
            send(&host, "a", "always").await;
            wait_until(|| holding.held() == 1).await;
            stop(host).await;
        });
        drop(runtime);
        sender.send(()).unwrap();
    });
    ended.recv_timeout(GENEROUS).unwrap();
    // Another host has the folder now; what was given up must not touch it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let host = open(&path);
        gate.open();
        assert_eq!((seen(&host, "test/gated/a"), host.store().waiting().messages), (0, 1));
        host.shutdown().await.unwrap();
    });
}

#[tokio::test]
async fn too_many_threads_that_are_held_for_ever_end_the_host() {
    let (data, gate) = (tempfile::tempdir().unwrap(), Gate::default());
    let mut options = options(data.path());
    (options.handler_timeout, options.max_stuck_threads) = (Duration::from_millis(100), 3);
    options.stop_timeout = Duration::from_millis(300);
    let host = open_with(gated(&gate), options);
    host.start();
    for id in 0..3 {
        send(&host, &id.to_string(), "always").await;
    }
    match tokio::time::timeout(GENEROUS, host.failed()).await.unwrap() {
        HostError::Stopped(reason) => assert!(reason.contains(" threads are held by handlers"), "{reason}"),
        other => panic!("{other:?}"),
    }
    stop(host).await;
    gate.open();
}

/// Whatever a program that embeds a host waits for, it learns that this will not come.
#[tokio::test]
async fn whoever_waits_for_a_host_that_cannot_go_on_learns_of_it() {
    let (data, gate) = (tempfile::tempdir().unwrap(), Gate::default());
    let mut options = options(data.path());
    (options.handler_timeout, options.max_stuck_threads) = (Duration::from_millis(100), 0);
    (options.stop_timeout, options.max_waiting) = (Duration::from_millis(300), 1);
    let host = open_with(gated(&gate), options);
    let (reader, _writer) = std::io::pipe().unwrap();
    let input = FileIngress::stream("pipe", reader, Mapping::rows(|_| Ok(Vec::new())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    send(&host, "a", "always").await;
    host.start();
    let waits = async {
        let (idle, served) = (host.idle(), host.serve(listener));
        let message = "b".to_owned();
        let (sent, read) = (host.send(("test/gated", "b"), &message), host.run_file(input));
        let (idle, served, sent, read) = tokio::join!(idle, served, sent, read);
        assert!(
            matches!(idle, Err(HostError::Stopped(_))) && matches!(served, Err(HostError::Stopped(_))),
            "{idle:?} {served:?}"
        );
        assert!(matches!(sent, Err(SendError::Stopping)) && read.as_ref().unwrap().interrupted, "{sent:?} {read:?}");
    };
    tokio::time::timeout(GENEROUS, waits).await.unwrap();
    stop(host).await;
    gate.open();
}

/// Starts a process of which one handler holds its thread.
async fn held(folder: &Path, more: &str, stop: Duration) -> Process {
    let mut process = start_saying(folder, words(&format!("--data data --listen 0 {more}")), stop, &folder.join("said"));
    let to = process.address(&folder.join("data"));
    assert_eq!(post(to, "/test/holds/secret-id", "application/json", "{}").await.status, 202);
    wait_for(|| fs::read_to_string(folder.join("said")).unwrap().contains("test/holds").then_some(()));
    process
}

#[tokio::test]
async fn a_handler_that_does_not_yield_is_named_and_a_stop_ends_in_time_all_the_same() {
    let (_folder, folder) = folder();
    let mut process = held(&folder, "", Duration::from_millis(500)).await;
    let said = fs::read_to_string(folder.join("said")).unwrap();
    assert!(said.contains("test/holds") && !said.contains("secret-id"), "{said}");
    let start = Instant::now();
    process.signal("TERM");
    // 1 where the disk takes longer than the time that is left.
    assert!(matches!(process.end(), Some(0 | 1)));
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let said = fs::read_to_string(folder.join("said")).unwrap();
    assert!(said.contains("given up"), "{said}");
}

#[tokio::test]
async fn a_second_signal_ends_a_process_at_once_whatever_holds_its_threads() {
    let (_folder, folder) = folder();
    let mut process = held(&folder, "", Duration::from_secs(3_600)).await;
    process.signal("TERM");
    wait_for(|| fs::read_to_string(folder.join("said")).unwrap().contains("once more").then_some(()));
    process.signal("INT");
    assert_eq!(process.end(), Some(130));
}

#[tokio::test]
async fn a_process_with_too_many_held_threads_ends_with_the_reason() {
    let (_folder, folder) = folder();
    let mut process = held(&folder, "--handler-timeout 100ms", Duration::from_millis(300)).await;
    // Each of its message's tries holds one more.
    assert_eq!(process.end(), Some(1));
    let said = fs::read_to_string(folder.join("said")).unwrap();
    assert!(said.contains("threads are held by handlers") && said.contains("test/holds"), "{said}");
}
