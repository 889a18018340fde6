//! Measures the store: `cargo run --release -p statefun-embedded --example commits [folder]`.
#![expect(clippy::print_stdout, reason = "a measurement")]

use std::{
    error::Error,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use statefun_core::*;
use statefun_embedded::{Embedded, Options, SystemClock};
use statefun_engine::ports::{Committed, InstanceStore};

type Failure = Box<dyn Error + Send + Sync>;

const MESSAGE: TypeName = TypeName::from_static("bench/message");

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("statefun-commits"), PathBuf::from);
    let _ = std::fs::remove_dir_all(&folder);
    let store = Embedded::open(&folder, Options::default(), Arc::new(SystemClock))?;
    for workers in [1, 16, 256] {
        commits(&store, workers, true).await?;
    }
    commits(&store, 1, false).await?;
    let taken = start();
    let drained = drain(&store)?;
    report("ready + receive + settle of one", drained, taken);
    messages(&store, 1_000_000, 200_000).await?;
    println!("{:?}", store.waiting());
    store.close().await?;
    let opened = Instant::now();
    let store = Embedded::open(&folder, Options::default(), Arc::new(SystemClock))?;
    println!("opened in {:?}: {:?}", opened.elapsed(), store.waiting());
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Commits with one send each, by so many workers on an address each.
async fn commits(store: &Embedded, workers: u64, durable: bool) -> Result<(), Failure> {
    let time = Duration::from_secs(3);
    let begin = start();
    let tasks: Vec<_> =
        (0..workers).map(|worker| tokio::spawn(worker_commits(store.clone(), worker, begin.0 + time, durable))).collect();
    let mut done = 0;
    for task in tasks {
        done += task.await??;
    }
    report(&format!("commits by {workers} workers{}", if durable { ", each durable" } else { "" }), done, begin);
    Ok(())
}

async fn worker_commits(store: Embedded, worker: u64, until: Instant, durable: bool) -> Result<u64, Failure> {
    let address = Address::new(TypeName::from_static("bench/worker"), worker.to_string())?;
    let (mut record, mut done) = (store.record(&address)?.unwrap_or_default(), 0);
    while Instant::now() < until {
        let commit = next(&address, record, done)?;
        if store.commit(&commit).await? != Committed::Settled {
            return Err("fenced".into());
        }
        record = Record { outbox: Outbox::default(), ..commit.record };
        done += 1;
        if durable {
            store.durable(store.last_op()).await?;
        }
    }
    Ok(done)
}

/// A small record and one message.
fn next(address: &Address, mut record: Record, number: u64) -> Result<Commit, Failure> {
    let expect = record.version;
    record.version = record.next_version();
    let value = TypedValue::of(&record.version)?;
    record.state.insert("seen".into(), StoredValue { value, written_at: Timestamp(1) });
    let id = EnvelopeId::of_commit(IdKind::Sent, address, record.born, record.version, 0);
    let segment = record.ledger.accept(vec![id], Timestamp(number), LedgerShape::default().most, Duration::from_secs(86_400));
    record.outbox.entries = vec![Effect::Send(envelope(id, &format!("to-{}", number % 1_000), Some(address))?)];
    Ok(Commit { address: address.clone(), expect, record, changed: Vec::new(), segment })
}

fn envelope(id: EnvelopeId, to: &str, from: Option<&Address>) -> Result<Envelope, Failure> {
    Ok(Envelope {
        id,
        to: Address::new(TypeName::from_static("bench/inbox"), to)?,
        from: from.cloned(),
        sent_at: Timestamp(1_700_000_000_000),
        keyed: false,
        hops: 1,
        trace: None,
        messages: vec![TypedValue::present(
            MESSAGE,
            r#"{"name":"somebody","amount":17,"note":"a message of a hundred bytes or so"}"#,
        )],
    })
}

fn drain(store: &Embedded) -> Result<u64, Failure> {
    let mut done = 0;
    while let Some(lane) = store.try_ready()? {
        let received = store.receive(&lane, 1, usize::MAX)?;
        let seqs: Vec<_> = received.iter().map(|delivered| delivered.seq.seq).collect();
        done += seqs.len() as u64;
        store.settle(&lane, &seqs, None)?;
    }
    Ok(done)
}

/// A backlog: so many messages over so many addresses.
async fn messages(store: &Embedded, count: u64, addresses: u64) -> Result<(), Failure> {
    let begin = start();
    for first in (0..count).step_by(1_000) {
        let batch = (first..first + 1_000).map(|number| {
            envelope(EnvelopeId(u128::from(number).to_be_bytes()), &format!("backlog-{}", number % addresses), None)
        });
        store.ingest(batch.collect::<Result<_, _>>()?, None, false).await?;
    }
    store.durable(store.last_op()).await?;
    report(&format!("ingest over {addresses} addresses"), count, begin);
    let begin = start();
    let done = drain(store)?;
    store.durable(store.last_op()).await?;
    report("drained, one at a time", done, begin);
    Ok(())
}

/// Processor time is what counts on a busy machine; it includes the flusher's.
fn report(what: &str, count: u64, (begin, used): (Instant, f64)) {
    let (time, used) = (begin.elapsed().as_secs_f64(), processor() - used);
    let per = |seconds: f64| seconds * 1e6 / count.max(1) as f64;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default().trim();
    let rate = count as f64 / time;
    println!(
        "{what}: {count} in {time:.1} s, {rate:.0}/s, {:.2} µs each, {:.2} µs processor; resident {memory}",
        per(time),
        per(used)
    );
}

fn start() -> (Instant, f64) {
    (Instant::now(), processor())
}

/// Seconds of processor time of this process (Linux; hundredths).
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.split_whitespace().skip(13).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}
