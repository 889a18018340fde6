//! `cargo xtask bench`: how fast the local host is, with durable settings on. Nothing here asserts a time; each figure stands
//! beside a floor measured in the same run: one durable append per message (write and fdatasync), one after the other.
#![expect(clippy::print_stdout, reason = "a command line tool")]

mod app;
mod http;
mod measure;
mod scenarios;

use std::path::PathBuf;

use clap::Parser;
use measure::Figures;

#[derive(Parser)]
struct Args {
    /// Writes the figures here too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only scenarios whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Where to put the data folders: the disk to measure
    #[arg(long)]
    folder: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let folder = args.folder.unwrap_or_else(|| PathBuf::from("target/bench"));
    std::fs::create_dir_all(&folder)?;
    let floor = measure::durable_appends(&folder)?;
    println!(
        "floor: one durable append of 300 bytes per message, one after the other: {:.0} messages/s, p50 {:.3} ms",
        floor.per_second(),
        floor.p50()
    );
    println!();
    println!("{}", Figures::header());
    let mut all = vec![floor.clone()];
    for (name, scenario) in scenarios::all() {
        if name.contains(&args.only) {
            let figures = scenario(folder.clone()).await?;
            println!("{}", figures.row(&floor));
            all.push(figures);
        }
    }
    println!();
    println!(
        "latency of a message: from the call until its handler runs (chain: per hop; egress: until the record is durable in its file)"
    );
    if let Some(path) = args.json {
        let json: Vec<_> = all.iter().map(|figures| figures.json(&floor)).collect();
        std::fs::write(&path, serde_json::to_string_pretty(&json)?)?;
    }
    Ok(())
}
