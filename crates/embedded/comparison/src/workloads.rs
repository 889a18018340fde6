//! The measurements: small and group commits, a backlog and its drain, point reads, reopening, kill -9.

use crate::data::{self, HOT_RECORDS, LAG, MESSAGES, OVERWRITES};
use crate::engines::{Engine, Op, Table, open};
use crate::{child, damage};
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const BACKLOG: u64 = 1_000_000;
const DRAINED: u64 = 200_000;
const DRAINED_BY_CURSOR: u64 = 100_000;
const FLUSHES: u64 = 1_000;

/// The median of writing 4 KiB over an existing file and flushing, in µs.
pub fn fsync_baseline(folder: &Path) -> Result<f64> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join("baseline");
    let file = std::fs::File::create(&path)?;
    file.write_all_at(&vec![0; 1 << 20], 0)?;
    file.sync_all()?;
    let times = repeat(FLUSHES, |n| {
        file.write_all_at(&data::value(n, 4096), (n % 256) * 4096)?;
        Ok(file.sync_data()?)
    })?;
    std::fs::remove_file(path)?;
    Ok(percentile(&times, 50))
}

/// Runs `job` for 1..=count; the sorted times in µs.
fn repeat(count: u64, mut job: impl FnMut(u64) -> Result<()>) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for n in 1..=count {
        let start = Instant::now();
        job(n)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}

/// CPU of all threads of this process so far, in µs (the scheduler's own count, to the nanosecond).
fn cpu_us() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let spent = |path: &Path| -> Option<f64> {
        std::fs::read_to_string(path).ok()?.split(' ').next()?.parse::<f64>().ok()
    };
    threads.filter_map(|thread| spent(&thread.path().join("schedstat"))).sum::<f64>() / 1e3
}

/// CPU of the calling thread so far, in µs.
fn own_cpu_us() -> f64 {
    std::thread::yield_now(); // brings the scheduler's count up to date
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|spent| spent.parse::<f64>().ok()).unwrap_or_default() / 1e3
}

/// A line of /proc/self/status, in MiB.
fn status_mib(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// Blocks held by all files below, in MiB (a sparse or preallocated file counts what it takes).
fn disk_mib(folder: &Path) -> f64 {
    use std::os::unix::fs::MetadataExt;
    damage::files_below(folder).iter().filter_map(|path| path.metadata().ok()).map(|file| file.blocks() as f64).sum::<f64>()
        / 2048.0
}

pub fn run(kind: &str, folder: &Path) -> Result<()> {
    let home = folder.join("main");
    let mut engine = open(kind, &home)?;
    small_commits(&mut *engine)?;
    group_commits(&mut *engine)?;
    backlog(&mut *engine, &home)?;
    point_reads(&*engine)?;
    let start = Instant::now();
    drop(engine);
    println!("5 close ms = {:.1}", start.elapsed().as_secs_f64() * 1e3);
    println!("5 size after close MiB = {:.0}", disk_mib(&home));
    let base = last_marker(kind, &home, "clean")?;
    kill_and_check(kind, &home, "700k messages", 2, base)?;
    kill_and_check(kind, &folder.join("small"), "small", 5, 0)
}

fn small_commits(engine: &mut dyn Engine) -> Result<()> {
    let before = cpu_us();
    let start = Instant::now();
    let count = 4_000;
    let times = repeat(count, |n| {
        engine.apply(&[
            data::put_record(5_000 + n % 1_000, n),
            data::put_record(5_000 + mix_below(n, 1_000), n),
            data::delete_message("small", n.saturating_sub(8)),
            data::put_message("small", n),
        ])
    })?;
    println!("1 small: commits/s = {:.0}", count as f64 / start.elapsed().as_secs_f64());
    println!("1 small: p50 µs = {:.0}", percentile(&times, 50));
    println!("1 small: p99 µs = {:.0}", percentile(&times, 99));
    println!("1 small: CPU µs/commit = {:.0}", (cpu_us() - before) / count as f64);
    Ok(())
}

fn mix_below(number: u64, limit: u64) -> u64 {
    data::mix(number) % limit
}

fn group_commits(engine: &mut dyn Engine) -> Result<()> {
    let count = 1_000;
    let operations = count as f64 * data::group_batch(1).len() as f64;
    let before = cpu_us();
    let (mut times, mut preparing) = (Vec::new(), 0f64);
    for n in 1..=count {
        let prepare = own_cpu_us();
        let batch = data::group_batch(n);
        preparing += own_cpu_us() - prepare;
        let start = Instant::now();
        engine.apply(&batch)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let cpu = cpu_us() - before - preparing;
    println!("2 group: operations/s = {:.0}", operations / times.iter().sum::<f64>() * 1e6);
    times.sort_by(f64::total_cmp);
    println!("2 group: p50 ms/batch = {:.2}", percentile(&times, 50) / 1e3);
    println!("2 group: p99 ms/batch = {:.2}", percentile(&times, 99) / 1e3);
    println!("2 group: CPU µs/operation = {:.2}", cpu / operations);
    Ok(())
}

fn backlog(engine: &mut dyn Engine, home: &Path) -> Result<()> {
    let (resident, mut anonymous) = (status_mib("VmRSS"), 0f64);
    let before = cpu_us();
    let (mut slowest, mut applying, mut preparing) = (0f64, 0f64, 0f64);
    for first in (0..BACKLOG).step_by(2_000) {
        let prepare = own_cpu_us();
        let batch: Vec<Op> = (first..first + 2_000).map(|n| data::put_message("backlog", n)).collect();
        preparing += own_cpu_us() - prepare;
        let applied = Instant::now();
        engine.apply(&batch)?;
        slowest = slowest.max(applied.elapsed().as_secs_f64());
        applying += applied.elapsed().as_secs_f64();
        anonymous = anonymous.max(status_mib("RssAnon"));
    }
    println!("3 backlog: insert 1M s = {applying:.1}");
    println!("3 backlog: slowest batch ms = {:.0}", slowest * 1e3);
    println!("3 backlog: insert CPU s = {:.1}", (cpu_us() - before - preparing) / 1e6);
    println!("3 backlog: size MiB (data 305) = {:.0}", disk_mib(home));
    let (start, before) = (Instant::now(), cpu_us());
    let prefix = b"example/backlog/";
    for _ in 0..DRAINED / 200 {
        let head = engine.scan(Table::Queue, prefix, 200)?;
        ensure!(head.len() == 200, "a short scan: {}", head.len());
        let batch: Vec<Op> =
            head.into_iter().map(|(key, _)| Op { table: Table::Queue, key, value: None }).collect();
        engine.apply(&batch)?;
    }
    println!("3 backlog: drain 200k s = {:.1}", start.elapsed().as_secs_f64());
    println!("3 backlog: drain CPU s = {:.1}", (cpu_us() - before) / 1e6);
    // The same with the head remembered, so that no scan starts among what was deleted.
    let (start, mut cursor) = (Instant::now(), data::message_key("backlog", DRAINED));
    for _ in 0..DRAINED_BY_CURSOR / 200 {
        let head = engine.scan(Table::Queue, &cursor, 200)?;
        cursor = head.last().context("an empty scan")?.0.clone();
        cursor.push(0);
        let batch: Vec<Op> =
            head.into_iter().map(|(key, _)| Op { table: Table::Queue, key, value: None }).collect();
        engine.apply(&batch)?;
    }
    println!("3 backlog: next 100k, by cursor s = {:.1}", start.elapsed().as_secs_f64());
    println!("3 backlog: size after drain MiB = {:.0}", disk_mib(home));
    println!("3 backlog: peak RSS growth MiB = {:.0}", status_mib("VmHWM") - resident);
    println!("3 backlog: peak anonymous RSS MiB = {:.0}", anonymous);
    Ok(())
}

fn point_reads(engine: &dyn Engine) -> Result<()> {
    const GONE: u64 = DRAINED + DRAINED_BY_CURSOR;
    let key = |n: u64| data::message_key("backlog", GONE + mix_below(n, BACKLOG - GONE));
    let keys: Vec<Vec<u8>> = (0..100_000).map(key).collect();
    engine.get_many(Table::Queue, &keys)?; // the same for all: warmed once
    let start = Instant::now();
    for key in &keys {
        ensure!(engine.get(Table::Queue, key)?.is_some(), "a lost message");
    }
    println!("4 get, own snapshot, µs = {:.2}", start.elapsed().as_secs_f64() * 10.0);
    let start = Instant::now();
    for some in keys.chunks(100) {
        ensure!(engine.get_many(Table::Queue, some)? == some.len(), "a lost message");
    }
    println!("4 get, 100 a snapshot, µs = {:.2}", start.elapsed().as_secs_f64() * 10.0);
    let start = Instant::now();
    for key in &keys[..10_000] {
        ensure!(!engine.scan(Table::Queue, key, 20)?.is_empty(), "an empty scan");
    }
    println!("4 scan of 20, µs = {:.1}", start.elapsed().as_secs_f64() * 100.0);
    let (keys, half) = (&keys, keys.len() / 2);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let reads = [&keys[..half], &keys[half..]].map(|keys| scope.spawn(move || {
            keys.iter().try_for_each(|key| engine.get(Table::Queue, key).map(drop))
        }));
        reads.into_iter().try_for_each(|read| read.join().unwrap_or_else(|_| anyhow::bail!("a reader panicked")))
    })?;
    println!("4 get, 2 threads, µs of wall time = {:.2}", start.elapsed().as_secs_f64() * 10.0);
    Ok(())
}

/// Opens in a process of its own and prints what `check` found; the last batch that is in.
fn last_marker(kind: &str, home: &Path, what: &str) -> Result<u64> {
    let home = home.to_str().context("a path in UTF-8")?;
    let output = child(&["--check", kind, home])?.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let find = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    ensure!(output.status.success(), "{what}: did not open or not atomic: {text}");
    println!("5 reopen ms: {what} = {}", find("open ").unwrap_or_default());
    if what == "clean" {
        println!("5 idle CPU ms/s = {}", find("idle ").unwrap_or_default());
        println!("5 threads = {}", find("threads ").unwrap_or_default());
    }
    Ok(find("marker ").context("no marker")?.parse()?)
}

/// Group commits in a child, killed in the middle of one, `times` over; then: does it open, is the state
/// exactly that of one batch, and was nothing lost that the child had reported?
fn kill_and_check(kind: &str, home: &Path, what: &str, times: u64, base: u64) -> Result<()> {
    let (mut slowest, mut last) = (0f64, base);
    for round in 0..times {
        let path = home.to_str().context("a path in UTF-8")?;
        let mut writer = child(&["--crash", kind, path])?.spawn()?;
        let output = writer.stdout.take().context("piped")?;
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(std::io::Result::ok);
            lines.filter_map(|line| line.parse::<u64>().ok()).max().unwrap_or_default()
        });
        std::thread::sleep(Duration::from_micros(1_200_000 + mix_below(round, 100_000)));
        writer.kill()?;
        writer.wait()?;
        let reported = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        ensure!(reported > last, "the child did not write");
        let output = child(&["--check", kind, path])?.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "after kill -9: {text}");
        let find = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let marker: u64 = find("marker ").context("no marker")?.parse()?;
        ensure!(marker == reported || marker == reported + 1, "reported {reported}, found {marker}");
        slowest = slowest.max(find("open ").context("no time")?.parse()?);
        last = marker;
    }
    println!("5 reopen ms: kill -9, {what} = {slowest:.1}");
    println!("5 kill -9 x{times}, {what} = atomic");
    Ok(())
}

/// The child that is killed: goes on after the last batch, reports each one when it is durable.
pub fn write_until_killed(kind: &str, home: &Path) -> Result<()> {
    let mut engine = open(kind, home)?;
    let marker = engine.get(Table::Records, b"marker")?.and_then(|value| data::number_of(&value));
    let mut output = std::io::stdout();
    for n in marker.unwrap_or_default() + 1.. {
        engine.apply(&data::group_batch(n))?;
        writeln!(output, "{n}")?;
        output.flush()?;
    }
    Ok(())
}

/// Opens, times it, and compares every hot record and message with what the marker says they must be.
pub fn check(kind: &str, home: &Path) -> Result<()> {
    let start = Instant::now();
    let engine = open(kind, home)?;
    let marker = engine.get(Table::Records, b"marker")?.and_then(|value| data::number_of(&value)).context("no marker")?;
    println!("open {:.1}", start.elapsed().as_secs_f64() * 1e3);
    println!("marker {marker}");
    for index in 0..HOT_RECORDS {
        // The last batch that wrote this record: batch n writes the quarter (n mod 4).
        let quarter = index / OVERWRITES;
        let written = marker.saturating_sub((marker % 4 + 4 - quarter) % 4);
        let found = engine.get(Table::Records, &data::record_key(index))?;
        let expected = (written > 0).then(|| data::value(written, data::RECORD_BYTES));
        ensure!(found == expected, "record {index} is not of batch {written}");
    }
    let mut pairs = engine.scan(Table::Queue, b"example/hot/", 2_000)?;
    pairs.retain(|(key, _)| key.starts_with(b"example/hot/"));
    let expected = (marker * MESSAGES + MESSAGES).saturating_sub(LAG).max(MESSAGES)..(marker + 1) * MESSAGES;
    ensure!(pairs.len() as u64 == expected.end - expected.start, "{} messages, not {expected:?}", pairs.len());
    for ((key, value), sequence) in pairs.iter().zip(expected) {
        let right = *key == data::message_key("hot", sequence) && *value == data::value(sequence, data::MESSAGE_BYTES);
        ensure!(right, "message {sequence} is wrong");
    }
    std::thread::sleep(Duration::from_millis(5)); // a sleep brings the scheduler's count up to date
    let before = cpu_us();
    std::thread::sleep(Duration::from_secs(2));
    println!("idle {:.2}", (cpu_us() - before) / 2e3);
    println!("threads {}", status_mib("Threads") * 1024.0);
    Ok(())
}
