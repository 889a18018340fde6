//! What is measured.

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::atomic::Ordering,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use statefun_core::{ToAddress, TypedValue};
use statefun_host::{Host, HostOptions, Message};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};

use crate::{
    app::{HANDLED, Order, application, take_latencies},
    http::Client,
    measure::{Figures, Meter},
};

type Problem = Box<dyn std::error::Error>;
type Measured = Pin<Box<dyn Future<Output = Result<Figures, Problem>>>>;
type Scenario = fn(PathBuf) -> Measured;

pub(crate) fn all() -> Vec<(&'static str, Scenario)> {
    vec![
        ("one-way, 1,000 addresses", |folder| Box::pin(one_way(folder, "one-way, 1,000 addresses", 1_000))),
        ("one-way, one hot address", |folder| Box::pin(one_way(folder, "one-way, one hot address", 1))),
        ("one-way, hot and slow beside it", |folder| Box::pin(beside(folder))),
        ("chain of 500 addresses, per hop", |folder| Box::pin(chain(folder))),
        ("egress, 1,000 addresses", |folder| Box::pin(egress(folder))),
        ("open loop, 200 messages/s", |folder| Box::pin(open_loop(folder))),
        ("HTTP, 64 connections", |folder| Box::pin(http(folder))),
    ]
}

fn open(folder: &Path) -> Result<Host, Problem> {
    let data = folder.join("data");
    if data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    let built = application().build()?;
    let host = Host::open(built.functions, built.rules, HostOptions::new(data))?;
    host.start();
    take_latencies();
    Ok(host)
}

async fn close(host: Host) -> Result<(), Problem> {
    host.idle().await?;
    Ok(host.shutdown().await?)
}

fn message(function: &str, id: &str, order: &Order) -> Result<Message, Problem> {
    Ok(Message::new((function, id).to_address()?, TypedValue::of(order)?))
}

/// Sends one message after the other without waiting for each, at most this many not yet durable.
async fn pipelined(
    host: &Host,
    messages: u64,
    window: usize,
    make: impl Fn(u64) -> Result<Message, Problem>,
) -> Result<(), Problem> {
    let mut waiting = FuturesUnordered::new();
    for number in 0..messages {
        while waiting.len() >= window {
            waiting.next().await.transpose()?;
        }
        let submitted = host.submit(vec![make(number)?]).await?;
        waiting.push(async move { host.durable(&submitted).await });
    }
    while waiting.next().await.transpose()?.is_some() {}
    Ok(())
}

async fn one_way(folder: PathBuf, name: &str, addresses: u64) -> Result<Figures, Problem> {
    const MESSAGES: u64 = 300_000;
    let host = open(&folder)?;
    let meter = Meter::start();
    pipelined(&host, MESSAGES, 1_024, |number| message("bench/sink", &(number % addresses).to_string(), &Order::new(number)))
        .await?;
    handled(MESSAGES).await;
    host.idle().await?;
    let figures = Figures::new(name, MESSAGES, meter, take_latencies());
    close(host).await?;
    Ok(figures)
}

/// One message at a time to cold addresses, while one address is flooded and 100 handlers sleep: how long do others wait?
async fn beside(folder: PathBuf) -> Result<Figures, Problem> {
    const MESSAGES: u64 = 2_000;
    let host = open(&folder)?;
    let flood = tokio::spawn({
        let host = host.clone();
        async move {
            let mut number = 0;
            loop {
                let slow = host
                    .submit(vec![Message::new(
                        ("bench/slow", (number % 100).to_string()).to_address().ok()?,
                        TypedValue::of(&Order::new(number)).ok()?,
                    )])
                    .await
                    .ok()?;
                for _ in 0..20 {
                    let mut order = Order::new(number);
                    order.hops_left = 0;
                    host.submit(vec![Message::new(("bench/emit", "hot").to_address().ok()?, TypedValue::of(&order).ok()?)])
                        .await
                        .ok()?;
                }
                host.durable(&slow).await.ok()?;
                number += 1;
            }
            #[expect(unreachable_code, reason = "gives the loop's `?` a type")]
            Some(())
        }
    });
    let meter = Meter::start();
    let mut latencies = Vec::new();
    for number in 0..MESSAGES {
        let before = Instant::now();
        let sent = host.submit(vec![message("bench/hop", &format!("quiet-{number}"), &Order::new(number))?]).await?;
        host.durable(&sent).await?;
        latencies.push(before.elapsed());
    }
    flood.abort();
    let figures = Figures::new("one-way, hot and slow beside it", MESSAGES, meter, latencies);
    take_latencies();
    close(host).await?;
    Ok(figures)
}

async fn chain(folder: PathBuf) -> Result<Figures, Problem> {
    const HOPS: u32 = 500;
    const CHAINS: u64 = 40;
    let host = open(&folder)?;
    let meter = Meter::start();
    let mut per_hop = Vec::new();
    for number in 0..CHAINS {
        let start = Instant::now();
        let order = Order { hops_left: HOPS - 1, ..Order::new(number) };
        let submitted = host.submit(vec![message("bench/hop", "start", &order)?]).await?;
        host.durable(&submitted).await?;
        handled((number + 1) * u64::from(HOPS)).await;
        per_hop.push(start.elapsed() / HOPS);
    }
    host.idle().await?;
    take_latencies();
    let figures = Figures::new("chain of 500 addresses, per hop", CHAINS * u64::from(HOPS), meter, per_hop);
    close(host).await?;
    Ok(figures)
}

async fn egress(folder: PathBuf) -> Result<Figures, Problem> {
    const MESSAGES: u64 = 200_000;
    let host = open(&folder)?;
    let meter = Meter::start();
    pipelined(&host, MESSAGES, 1_024, |number| message("bench/emit", &(number % 1_000).to_string(), &Order::new(number))).await?;
    host.idle().await?;
    let figures = Figures::new("egress, 1,000 addresses", MESSAGES, meter, take_latencies());
    close(host).await?;
    Ok(figures)
}

/// 200 messages a second, each through a handler to the egress file; latency until its record is durable there.
async fn open_loop(folder: PathBuf) -> Result<Figures, Problem> {
    const MESSAGES: u64 = 2_000;
    let host = open(&folder)?;
    let meter = Meter::start();
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let mut waiting = JoinSet::new();
    for number in 0..MESSAGES {
        ticks.tick().await;
        let message = message("bench/emit", &(number % 100).to_string(), &Order::new(number))?;
        let host = host.clone();
        waiting.spawn(async move {
            let start = Instant::now();
            let submitted = host.submit(vec![message]).await?;
            host.durable(&submitted).await?;
            host.idle().await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(start.elapsed())
        });
    }
    let mut latencies = Vec::new();
    while let Some(latency) = waiting.join_next().await {
        latencies.push(latency?.map_err(|error| error.to_string())?);
    }
    let figures = Figures::new("open loop, 200 messages/s", MESSAGES, meter, latencies);
    take_latencies();
    close(host).await?;
    Ok(figures)
}

/// Each of 64 clients posts one message after the other and waits for its acknowledgement, which comes when it is durable.
async fn http(folder: PathBuf) -> Result<Figures, Problem> {
    const CLIENTS: u64 = 64;
    const EACH: u64 = 1_500;
    let host = open(&folder)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let server = tokio::spawn({
        let host = host.clone();
        async move { host.serve(listener).await }
    });
    let meter = Meter::start();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let address = address.clone();
        clients.spawn(async move {
            let mut connection = Client::connect(&address).await?;
            let mut latencies = Vec::new();
            for number in 0..EACH {
                let path = format!("/bench/sink/{}", (client * EACH + number) % 1_000);
                let body = serde_json::to_vec(&Order::new(number))?;
                let start = Instant::now();
                let status = connection.post(&path, &body).await?;
                latencies.push(start.elapsed());
                if status != 202 {
                    return Err(std::io::Error::other(format!("the ingress answered {status}")));
                }
            }
            Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(client) = clients.join_next().await {
        latencies.extend(client??);
    }
    handled(CLIENTS * EACH).await;
    let figures = Figures::new("HTTP, 64 connections", CLIENTS * EACH, meter, latencies);
    take_latencies();
    close(host).await?;
    server.await??;
    Ok(figures)
}

/// Returns once this many messages were handled since the host was opened.
async fn handled(messages: u64) {
    while HANDLED.load(Ordering::SeqCst) < messages {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}
