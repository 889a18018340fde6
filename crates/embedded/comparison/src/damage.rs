//! What an engine says of a file with flipped bytes, of a torn log, and of a second process.

use crate::child;
use crate::data;
use crate::engines::{Op, Table, open};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

const MESSAGES: u64 = 150_000;

pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// 150,000 messages in batches of 500; then waits to be killed if it is told to (`KEEP` is set).
pub fn fill(kind: &str, home: &Path) -> Result<()> {
    let mut engine = open(kind, home)?;
    for first in (0..MESSAGES).step_by(500) {
        let batch: Vec<Op> = (first..first + 500).map(|n| data::put_message("damage", n)).collect();
        engine.apply(&batch)?;
    }
    println!("filled");
    if std::env::var_os("KEEP").is_some() {
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
    Ok(())
}

/// Reads everything back and says what is missing or wrong, if nothing refused before.
pub fn verify(kind: &str, home: &Path) -> Result<()> {
    let engine = open(kind, home).context("open")?;
    let (mut from, mut found, mut wrong) = (vec![0], 0u64, 0u64); // LMDB has no empty keys
    let mut last = None;
    loop {
        let pairs = engine.scan(Table::Queue, &from, 1_000).context("scan")?;
        for (key, value) in &pairs {
            let number = data::number_of(value).unwrap_or_default();
            let right = *key == data::message_key("damage", number) && *value == data::value(number, data::MESSAGE_BYTES);
            wrong += u64::from(!right);
            found += 1;
            last = last.max(Some(number));
        }
        let Some((key, _)) = pairs.last() else { break };
        from = key.clone();
        from.push(0);
    }
    match (MESSAGES - found, wrong) {
        (0, 0) => println!("unnoticed, nothing lost"),
        (missing, wrong) => println!("SILENT: {missing} missing, {wrong} wrong, last {last:?}"),
    }
    Ok(())
}

/// Opens and writes, while another process has the same folder open.
pub fn second_opener(kind: &str, home: &Path) -> Result<()> {
    let mut engine = open(kind, home).context("open")?;
    engine.apply(&[data::put_record(1, 1)]).context("apply")?;
    println!("opened and wrote");
    Ok(())
}

/// The last words of a child, short.
fn verdict(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    if let Some(signal) = output.status.signal() {
        return format!("KILLED by signal {signal}");
    }
    if let Some(line) = errors.lines().find(|line| line.contains("panicked at")) {
        let what = errors.lines().skip_while(|other| *other != line).nth(1).unwrap_or_default();
        return format!("PANIC {} {what}", line.rsplit('/').next().unwrap_or_default());
    }
    if !output.status.success() {
        let lines: Vec<&str> = errors.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        return format!("error {}", lines.join(" ").replace("Error: ", "").replace("Caused by: ", ""));
    }
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(to);
    for path in files_below(from) {
        let target = to.join(path.strip_prefix(from)?);
        std::fs::create_dir_all(target.parent().context("a parent")?)?;
        std::fs::copy(&path, target)?;
    }
    Ok(())
}

/// Inverts `count` bytes at `at`.
fn flip(path: &Path, at: u64, count: usize) -> Result<()> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut bytes = vec![0; count];
    file.read_exact_at(&mut bytes, at)?;
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    Ok(file.write_all_at(&bytes, at)?)
}

pub fn experiment(kind: &str, folder: &Path) -> Result<()> {
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path in UTF-8");
    let (clean, killed, copy) = (folder.join("clean"), folder.join("killed"), folder.join("copy"));
    ensure!(child(&["--fill", kind, &text(&clean)?])?.status()?.success(), "no fill");
    let mut writer = child(&["--fill", kind, &text(&killed)?])?.env("KEEP", "1").spawn()?;
    let mut word = [0; 6];
    writer.stdout.take().context("piped")?.read_exact(&mut word)?;
    let second = child(&["--second", kind, &text(&killed)?])?.stderr(Stdio::piped()).output()?;
    println!("a second process: {}", verdict(&second));
    let again = child(&["--verify", kind, &text(&killed)?])?.stderr(Stdio::piped()).output()?;
    println!("a second reader: {}", verdict(&again));
    writer.kill()?;
    writer.wait()?;
    for (state, home) in [("clean", &clean), ("killed", &killed)] {
        for (name, at) in targets(home)? {
            let path = home.join(&name);
            let mut counts: BTreeMap<String, u32> = BTreeMap::new();
            for at in at {
                copy_folder(home, &copy)?;
                flip(&copy.join(path.strip_prefix(home)?), at, 16)?;
                let output = child(&["--verify", kind, &text(&copy)?])?.stderr(Stdio::piped()).output()?;
                let again = child(&["--verify", kind, &text(&copy)?])?.stderr(Stdio::piped()).output()?;
                let (first, then) = (verdict(&output), verdict(&again));
                let all = if first == then { first } else { format!("{first}; opened again: {then}") };
                *counts.entry(all).or_default() += 1;
            }
            for (verdict, times) in counts {
                println!("16 bytes flipped, {state}, {name}: {times}x {verdict}");
            }
        }
    }
    Ok(())
}

/// Where to flip: spread over the largest file, and in the log (a `.jnl` or `-wal`) its middle and its tail.
fn targets(home: &Path) -> Result<Vec<(String, Vec<u64>)>> {
    let mut files: Vec<(u64, PathBuf)> =
        files_below(home).into_iter().filter_map(|path| Some((path.metadata().ok()?.len(), path))).collect();
    files.sort();
    let is_log = |path: &Path| path.to_str().is_some_and(|text| text.ends_with(".jnl") || text.ends_with("-wal"));
    let mut targets = Vec::new();
    if let Some((bytes, path)) = files.iter().rev().find(|(_, path)| !is_log(path)) {
        let spread = (1..=8).map(|part| bytes * part / 9 + 1_000).collect();
        targets.push((path.strip_prefix(home)?.display().to_string(), spread));
    }
    for (_, path) in files.iter().filter(|(_, path)| is_log(path)) {
        let content = std::fs::read(path)?;
        let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        if used > 100_000 {
            let name = path.strip_prefix(home)?.display().to_string();
            targets.push((name.clone(), vec![used / 4, used / 3, used / 2, used * 3 / 4]));
            targets.push((name, vec![used - 5_000, used - 2_000, used - 700]));
        }
    }
    Ok(targets)
}
