//! The host itself: turns, order, and what it says about its folder.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::*;
use statefun_core::{Accepted, Address, Context, Rules, TypedValue};
use statefun_embedded::OpenError;
use statefun_host::{Host, HostError, Message, SendError};
use tokio::sync::{Notify, Semaphore};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_a_slow_handler_nor_a_hot_address_holds_others_up() {
    let data = tempfile::tempdir().unwrap();
    let (entered, gate) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let done: Arc<Mutex<Vec<Address>>> = Arc::default();
    let mut functions = functions();
    functions.add(spec("test/slow", vec![]), Arc::new(Gated { entered: entered.clone(), gate: gate.clone() }));
    let log = done.clone();
    functions.add(
        spec("test/logged", vec![]),
        Arc::new(Sync(move |context: &mut Context, _: &TypedValue| {
            log.lock().unwrap().push(context.address());
            Ok(())
        })),
    );
    let host = open_with(functions, options(data.path()));
    let message = |to: &str| Message::new(address(to), TypedValue::of(&"x".to_owned()).unwrap());
    // All is there before anything runs: one slow address, a hot one with many batches, then a hundred others.
    let mut messages = vec![message("test/slow/a")];
    messages.extend((0..20_000).map(|_| message("test/logged/hot")));
    messages.extend((0..100).map(|id| message(&format!("test/logged/{id}"))));
    let submitted = host.submit(messages).await.unwrap();
    host.durable(&submitted).await.unwrap();
    host.start();
    entered.notified().await;
    while done.lock().unwrap().len() < 20_100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let done = done.lock().unwrap().clone();
    let last_cold = done.iter().rposition(|address| address.id() != "hot").unwrap();
    // Lanes take turns: what came after 20,000 messages of another address waits for a few batches of it at most.
    assert!(last_cold < 20_000 / 2, "{last_cold}");
    assert_eq!(seen(&host, "test/slow/a"), 0);
    gate.add_permits(1);
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/slow/a"), 1);
    host.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_in_order_even_when_messages_fail() {
    let data = tempfile::tempdir().unwrap();
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let failed = Arc::new(Mutex::new(std::collections::HashSet::new()));
    let mut functions = functions();
    let handler = {
        let log = log.clone();
        Sync(move |_: &mut Context, message: &TypedValue| {
            let text: String = message.get()?.unwrap_or_default();
            // Every seventh fails the first time.
            if text.parse::<u32>()? % 7 == 0 && failed.lock().unwrap().insert(text.clone()) {
                return Err(std::io::Error::other("not yet").into());
            }
            log.lock().unwrap().push(text);
            Ok(())
        })
    };
    functions.add(spec("test/ordered", vec![]), Arc::new(handler));
    let host = open_with(functions, options(data.path()));
    host.start();
    for count in 0..100 {
        host.send(("test/ordered", "a"), &count.to_string()).await.unwrap();
    }
    host.idle().await.unwrap();
    let log = log.lock().unwrap();
    // A failed envelope is run again whole; nothing later comes before it.
    let mut seen: Vec<u32> = log.iter().map(|text| text.parse().unwrap()).collect();
    seen.dedup();
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!((seen.len(), host.store().letter_count()), (100, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_messages_come_when_they_are_due_and_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let mut functions = functions();
    let handler = Sync(|context: &mut Context, message: &TypedValue| {
        if message.get::<String>()?.as_deref() == Some("later") {
            let to = context.address();
            context.send_after(Duration::from_millis(20), to.clone(), &"now".to_owned(), None)?;
            return Ok(context.send_after(Duration::from_millis(400), to, &"now".to_owned(), None)?);
        }
        count(context)
    });
    functions.add(spec("test/delayed", vec![]), Arc::new(handler));
    let host = open_with(functions.clone(), options(data.path()));
    host.start();
    host.send(("test/delayed", "a"), &"later".to_owned()).await.unwrap();
    while seen(&host, "test/delayed/a") < 1 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    host.shutdown().await.unwrap();
    let host = open_with(functions, options(data.path()));
    host.start();
    while seen(&host, "test/delayed/a") < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    host.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_wait_for_a_function_that_is_missing_for_a_while() {
    let data = tempfile::tempdir().unwrap();
    let mut with = functions();
    with.add(
        spec("test/later", vec![Accepted::of::<Order>()]),
        Arc::new(Sync(|context: &mut Context, _: &TypedValue| count(context))),
    );
    let host = open_with(with.clone(), options(data.path()));
    host.send(("test/later", "a"), &order("a", 1)).await.unwrap();
    host.shutdown().await.unwrap();

    let host = open(data.path());
    host.start();
    assert!(matches!(host.send(("test/later", "a"), &order("a", 1)).await, Err(SendError::UnknownFunction(_))));
    host.send(("test/counter", "a"), &order("a", 1)).await.unwrap();
    while seen(&host, "test/counter/a") < 1 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    host.shutdown().await.unwrap();

    let host = open_with(with, options(data.path()));
    host.start();
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/later/a"), 1);
}

#[tokio::test]
async fn a_folder_has_one_host() {
    let data = tempfile::tempdir().unwrap();
    let host = open(data.path());
    let second = Host::open(functions(), Rules::default(), options(data.path()));
    match second {
        Err(HostError::Open(OpenError::Locked { pid, .. })) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    host.shutdown().await.unwrap();
    open(data.path());
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("notes.txt"), "mine").unwrap();
    assert!(matches!(
        Host::open(functions(), Rules::default(), options(other.path())),
        Err(HostError::Open(OpenError::NotAStateFolder { .. }))
    ));
}
