//! A wall clock that somebody sets while the host runs: what is about time that passes goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests, too")]

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use common::*;
use statefun_core::{Context, FunctionError, OnFailure, Rules, Timestamp, TypedValue};
use statefun_engine::{
    Functions,
    ports::{Clock, Moment},
};
use statefun_host::{Host, HostOptions, Message, store::SystemClock};
use tokio::time::timeout;

const HOUR: i64 = 3_600_000;

/// Generous: a pause of an hour shows all the same.
const PATIENCE: Duration = Duration::from_secs(60);

/// The machine's clocks, with a wall clock that can be set.
#[derive(Default)]
struct Settable(AtomicI64);

impl Settable {
    /// Sets the wall clock by so many milliseconds.
    fn set(&self, by: i64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for Settable {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0.saturating_add_signed(self.0.load(Ordering::SeqCst)))
    }

    fn moment(&self) -> Moment {
        SystemClock.moment()
    }

    async fn sleep_until(&self, moment: Moment) {
        SystemClock.sleep_until(moment).await;
    }
}

fn open(functions: Functions, options: HostOptions, clock: &Arc<Settable>) -> Host {
    Host::open_with_clock(functions, Rules::default(), options, clock.clone()).unwrap()
}

fn text(to: &str) -> Message {
    Message::new(address(to), TypedValue::of(&"x".to_owned()).unwrap())
}

/// Waits until it has run so often.
async fn ran(runs: &AtomicUsize, times: usize) {
    let enough = async {
        while runs.load(Ordering::SeqCst) < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, enough).await.expect("an address stands");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_comes_again_after_its_pause_however_the_wall_clock_is_set() {
    let data = tempfile::tempdir().unwrap();
    let (clock, runs) = (Arc::<Settable>::default(), Arc::<AtomicUsize>::default());
    let mut functions = Functions::default();
    let (setter, count_runs) = (clock.clone(), runs.clone());
    let handler = Sync(move |context: &mut Context, _: &TypedValue| {
        match count_runs.fetch_add(1, Ordering::SeqCst) {
            // Set back, then forwards, as it fails: the pause begins after it.
            0 => setter.set(HOUR),
            1 => setter.set(-2 * HOUR),
            2 => setter.set(HOUR / 2),
            _ => return count(context),
        }
        Err(FunctionError::retryable("not yet"))
    });
    functions.add(spec("test/failing", vec![]), Arc::new(handler));
    let mut options = options(data.path());
    (options.backoff.first, options.backoff.longest) = (Duration::from_millis(200), Duration::from_millis(400));
    let host = open(functions, options, &clock);
    host.start();
    host.submit(vec![text("test/failing/a")]).await.unwrap();
    ran(&runs, 2).await;
    // In the middle of a pause.
    tokio::time::sleep(Duration::from_millis(50)).await;
    clock.set(-HOUR);
    ran(&runs, 4).await;
    timeout(PATIENCE, host.idle()).await.expect("an address stands").unwrap();
    assert_eq!(seen(&host, "test/failing/a"), 1);
    host.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_has_its_time_however_the_wall_clock_is_set() {
    let data = tempfile::tempdir().unwrap();
    let clock = Arc::<Settable>::default();
    let mut functions = Functions::default();
    struct Naps(Arc<Settable>, i64, Duration);
    #[async_trait]
    impl statefun_engine::Invoke for Naps {
        async fn invoke(&self, context: &mut Context, _: &TypedValue) -> Result<(), FunctionError> {
            self.0.set(self.1);
            tokio::time::sleep(self.2).await;
            count(context)
        }
    }
    let once = |name| statefun_core::FunctionSpec { on_failure: OnFailure::DeadLetter { max_attempts: 1 }, ..spec(name, vec![]) };
    let brief = Duration::from_millis(50);
    functions.add(once("test/forwards"), Arc::new(Naps(clock.clone(), 3 * HOUR, brief)));
    functions.add(once("test/hangs"), Arc::new(Naps(clock.clone(), -HOUR, Duration::from_secs(86_400))));
    let mut options = options(data.path());
    options.handler_timeout = Duration::from_secs(3);
    let host = open(functions, options, &clock);
    host.start();
    host.submit(vec![text("test/forwards/a")]).await.unwrap();
    timeout(PATIENCE, host.idle()).await.expect("the handler is stuck").unwrap();
    assert_eq!((seen(&host, "test/forwards/a"), host.store().letter_count()), (1, 0), "it had time enough");
    host.submit(vec![text("test/hangs/a")]).await.unwrap();
    timeout(PATIENCE, host.idle()).await.expect("a handler that hangs is not given up").unwrap();
    assert_eq!(host.store().letter_count(), 1);
    host.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_message_comes_soon_after_the_wall_clock_reaches_its_time() {
    let data = tempfile::tempdir().unwrap();
    let (clock, runs) = (Arc::<Settable>::default(), Arc::<AtomicUsize>::default());
    let mut functions = Functions::default();
    let count_runs = runs.clone();
    let handler = Sync(move |context: &mut Context, _: &TypedValue| {
        if count_runs.fetch_add(1, Ordering::SeqCst) == 0 {
            let to = context.address();
            context.send_after(Duration::from_secs(3_600), to, &"later".to_owned(), "later")?;
        }
        Ok(())
    });
    functions.add(spec("test/delays", vec![]), Arc::new(handler));
    let host = open(functions, options(data.path()), &clock);
    host.start();
    host.submit(vec![text("test/delays/a")]).await.unwrap();
    ran(&runs, 1).await;
    host.idle().await.unwrap();
    clock.set(HOUR + 1_000);
    // Nothing wakes the host: it looks again by itself.
    ran(&runs, 2).await;
    host.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_dead_letters_are_sent_again_once_however_the_wall_clock_is_set() {
    let data = tempfile::tempdir().unwrap();
    let clock = Arc::<Settable>::default();
    let runs: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut functions = Functions::default();
    let log = runs.clone();
    let handler = Sync(move |context: &mut Context, _: &TypedValue| {
        log.lock().unwrap().push(context.address().id().to_owned());
        Err(FunctionError::terminal("a bad message"))
    });
    functions.add(spec("test/bad", vec![]), Arc::new(handler));
    let host = open(functions, options(data.path()), &clock);
    host.start();
    let to = serve(&host).await;
    let messages: Vec<_> = (0..250).map(|id| text(&format!("test/bad/{id}"))).collect();
    host.submit(messages).await.unwrap();
    host.idle().await.unwrap();
    // Their letters are of the future now, and those of messages that fail again come before them.
    clock.set(-HOUR);
    let reply = request(to, "POST", "/_/dead-letters/replay", &[], b"").await;
    assert_eq!((reply.status, reply.json()["replayed"].as_u64()), (200, Some(250)), "{}", reply.body);
    timeout(PATIENCE, host.idle()).await.unwrap().unwrap();
    assert_eq!((runs.lock().unwrap().len(), host.store().letter_count()), (500, 250));
    host.shutdown().await.unwrap();
}
