//! What is shown in the end.

use std::fmt::{self, Write};

use flights::{
    AirportReport,
    local::{Job, Outcome, Start, alerts_file},
};
use serde_json::json;

/// Airports in the table: those with the most departures, then arrivals.
const TOP_AIRPORTS: usize = 8;

/// The summary as a short table.
pub(crate) fn text(job: &Job, outcome: &Outcome) -> String {
    let mut text = String::new();
    let _ = write(&mut text, job, outcome); // a string takes everything
    text
}

fn write(out: &mut impl Write, job: &Job, outcome: &Outcome) -> fmt::Result {
    let (input, data) = (job.input.display(), job.data.display());
    match outcome.start {
        Start::Finished => writeln!(out, "{input} was read before; start anew with --fresh")?,
        Start::Resumed { line } => writeln!(out, "{input}: went on at line {line}")?,
        Start::New => writeln!(out, "{input}")?,
    }
    if outcome.start != Start::Finished {
        let Outcome { rows, messages, invocations, commits, took, .. } = outcome;
        writeln!(out, "\n  rows {rows:>18}\n  messages {messages:>14}\n  invocations {invocations:>11}")?;
        writeln!(out, "  commits {commits:>15}\n  messages per second {:>3.0}", per_second(outcome))?;
        writeln!(out, "  seconds {:>15.2}", took.as_secs_f64())?;
    }
    airports(out, outcome)?;
    let report = &outcome.report;
    writeln!(out, "\n{} aircraft, {} routes", report.aircraft.len(), report.routes.len())?;
    writeln!(out, "{:>6} alerts        {}", report.alerts, alerts_file(&job.data).display())?;
    writeln!(out, "{:>6} dead letters", report.dead_letters)?;
    writeln!(out, "everything is in {data}")
}

fn airports(out: &mut impl Write, outcome: &Outcome) -> fmt::Result {
    let mut airports: Vec<_> = outcome.report.airports.iter().collect();
    airports.sort_by_key(|(_, airport)| std::cmp::Reverse((airport.departures, airport.arrivals)));
    writeln!(out, "\n  airport  departures  cancelled  arrivals  mean delay  worst delay")?;
    for (code, airport) in airports.into_iter().take(TOP_AIRPORTS) {
        let AirportReport { departures, cancelled, arrivals, mean_departure_delay, worst_departure_delay } = airport;
        let mean = mean_departure_delay.map_or("-".to_owned(), |mean| format!("{mean:.1}"));
        let worst = worst_departure_delay.map_or("-".to_owned(), |worst| worst.to_string());
        writeln!(out, "  {code:<7}  {departures:>10}  {cancelled:>9}  {arrivals:>8}  {mean:>10}  {worst:>11}")?;
    }
    Ok(())
}

fn per_second(outcome: &Outcome) -> f64 {
    outcome.messages as f64 / outcome.took.as_secs_f64().max(0.001)
}

/// The summary as JSON, for programs.
pub(crate) fn json(job: &Job, outcome: &Outcome) -> Result<String, serde_json::Error> {
    let (start, line) = match outcome.start {
        Start::New => ("new", None),
        Start::Resumed { line } => ("resumed", Some(line)),
        Start::Finished => ("finished before", None),
    };
    let summary = json!({
        "input": job.input,
        "data": job.data,
        "start": start,
        "resumed_at_line": line,
        "rows": outcome.rows,
        "messages": outcome.messages,
        "invocations": outcome.invocations,
        "commits": outcome.commits,
        "seconds": outcome.took.as_secs_f64(),
        "messages_per_second": per_second(outcome).round(),
        "peak_memory_bytes": peak_memory_bytes(),
        "alerts": outcome.report.alerts,
        "dead_letters": outcome.report.dead_letters,
    });
    serde_json::to_string_pretty(&summary).map(|text| text + "\n")
}

/// The most memory this process has had, if the system says (Linux does).
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}
