//! Runs every candidate engine through the same workloads, each in a process of its own, and prints one
//! table. `storage-comparison FOLDER [ENGINE...]`; the folder should be on the disk that matters.

mod damage;
mod data;
mod engines;
mod workloads;

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        // Children: one engine, one job, one process.
        ["--run", kind, folder] => workloads::run(kind, Path::new(folder)),
        ["--check", kind, folder] => workloads::check(kind, Path::new(folder)),
        ["--crash", kind, folder] => workloads::write_until_killed(kind, Path::new(folder)),
        ["--fill", kind, folder] => damage::fill(kind, Path::new(folder)),
        ["--verify", kind, folder] => damage::verify(kind, Path::new(folder)),
        ["--second", kind, folder] => damage::second_opener(kind, Path::new(folder)),
        ["--damage", kind, folder] => damage::experiment(kind, Path::new(folder)),
        [folder, ref kinds @ ..] if !folder.starts_with("--") => compare(Path::new(folder), kinds),
        _ => bail!("usage: storage-comparison FOLDER [ENGINE...]"),
    }
}

/// Starts this program again with other arguments.
fn child(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).stdout(Stdio::piped()).env("RUST_BACKTRACE", "0");
    Ok(command)
}

/// Every engine in turn; rows are the figures the children print as `name = value`.
fn compare(folder: &Path, kinds: &[&str]) -> Result<()> {
    let kinds = if kinds.is_empty() { engines::KINDS } else { kinds };
    println!("4 KiB write + fdatasync on this disk, p50: {:.0} µs", workloads::fsync_baseline(folder)?);
    let mut rows: Vec<String> = Vec::new();
    let mut figures: BTreeMap<(String, String), String> = BTreeMap::new();
    for kind in kinds {
        let home: PathBuf = folder.join(kind);
        let _ = std::fs::remove_dir_all(&home);
        let mut output = String::new();
        for job in ["--run", "--damage"] {
            let path = home.to_str().context("a path in UTF-8")?;
            let done = child(&[job, kind, path])?.stderr(Stdio::inherit()).output()?;
            output += &String::from_utf8_lossy(&done.stdout);
            if !done.status.success() {
                output += &format!("{job} ended with = {}\n", done.status);
            }
        }
        for line in output.lines() {
            eprintln!("{kind}: {line}");
            let Some((name, value)) = line.split_once(" = ") else { continue };
            if !rows.iter().any(|row| row == name) {
                rows.push(name.to_owned());
            }
            figures.insert((name.to_owned(), (*kind).to_owned()), value.to_owned());
        }
    }
    print!("\n{:<44}", "");
    kinds.iter().for_each(|kind| print!("{kind:>14}"));
    println!();
    for row in &rows {
        print!("{row:<44}");
        for kind in kinds {
            let value = figures.get(&(row.clone(), (*kind).to_owned())).map_or("-", String::as_str);
            print!(" {value:>13}");
        }
        println!();
    }
    Ok(())
}
