//! The cost report: real batches through engines over the AWS adapters, dealt out to environments at random, with every request metered at the
//! services' clients.
//!
//! Not counted: what brings records to the router, and what does not depend on messages (docs/deploy.md has both).

mod bill;
mod case;
mod environment;
mod meter;
mod price;
mod report;
mod run;
mod workload;

use std::{collections::HashMap, path::Path, time::Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::problem::{Problem, Result};
use case::{Case, Kilobytes};
use price::Spent;
use run::Run;

/// On a terminal, how many cases are left, and which one is measured.
fn progress(cases: usize) -> ProgressBar {
    let bar = ProgressBar::new(cases as u64);
    match ProgressStyle::with_template("{bar:30} {pos} of {len} cases, {eta} left: {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Measures everything against an endpoint, prints the table, and writes it as JSON if asked to. Fails if a target is missed.
pub(crate) async fn run(endpoint: &str, json: Option<&Path>) -> Result<()> {
    let (cases, start) = (case::all(), Instant::now());
    let (shown, mut rooms, mut rows) = (progress(cases.len()), HashMap::new(), Vec::new());
    for case in cases {
        shown.set_message(case.name());
        let spent = measured(endpoint, case, &mut rooms).await.map_err(|problem| problem.during(case.name()))?;
        rows.push((case, spent));
        shown.inc(1);
        if shown.is_hidden() && rows.len() % 20 == 0 {
            println!("{} of {} cases, {:.0} s", rows.len(), shown.length().unwrap_or_default(), start.elapsed().as_secs_f64());
        }
    }
    shown.finish_and_clear();
    let (targets, missed) = report::targets(&rows);
    println!("{}\n{}\n{targets}", report::table(&rows), report::rates(&rows));
    println!("{} cases, {:.0} s", rows.len(), start.elapsed().as_secs_f64());
    if let Some(path) = json {
        std::fs::write(path, report::json(&rows)).map_err(|error| Problem::from(error).during(path.display()))?;
    }
    if missed == 0 { Ok(()) } else { Err(Problem::new(format!("{missed} targets are missed"))) }
}

/// How many ids a ledger has room for depends on these.
type Form = (Kilobytes, bool, bool, usize);

async fn measured(endpoint: &str, case: Case, rooms: &mut HashMap<Form, usize>) -> Result<Spent> {
    let form = (case.record, case.sends, case.marks, case.folded);
    let room = match rooms.get(&form) {
        Some(room) => *room,
        None => Run::new(endpoint, case).await?.room().await?,
    };
    rooms.insert(form, room);
    let spent = Run::new(endpoint, case).await?.spent(room).await?;
    if spent.nudges > 0 {
        return Err(Problem::new("outboxes need nudges, which this price leaves out"));
    }
    Ok(spent)
}
