//! The cost report: a table for people, JSON for programs, and whether the targets are met.

use serde_json::{Value, json};

use super::{
    case::Case,
    price::{Line, Price, Spent},
};

/// Handler runs, and writes, per message at most, where a target is set.
const AT_MOST: f64 = 1.02;

/// Batches that [`rates`] come to. Modelled, not measured: see docs/deploy.md.
const RATES: [(&str, f64, f64); 4] = [("10/s", 1.0, 1.0), ("100/s", 1.2, 3.0), ("1,000/s", 2.0, 8.0), ("10,000/s", 6.0, 8.0)];

/// A measured case.
pub(super) type Row = (Case, Spent);

/// A table for people.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "per message: units of writes and reads, sends; refused writes; handler runs. Dollars per million messages\n\n",
    );
    text += &format!(
        "{:>4} {:>5} {:>6} {:>5} {:>7} {:>5} {:>6} | {:>5} {:>5} {:>5} {:>5} {:>5} | {:>5} {:>5} {:>5} {:>5} {:>5} {:>6} {:>6} {:>6}\n",
        "envs",
        "batch",
        "folded",
        "sends",
        "seconds",
        "bytes",
        "shards",
        "write",
        "read",
        "send",
        "refus",
        "runs",
        "write",
        "read",
        "segm.",
        "SQS",
        "invoc",
        "wall",
        "logs",
        "total"
    );
    for (case, spent) in rows {
        let Case { environments, batch, folded, sends, interval, record, shards, marks } = case;
        let sends = match (sends, marks) {
            (true, false) => "clear",
            (true, true) => "yes",
            (false, _) => "no",
        };
        let per = |count| spent.per_message(count);
        let (seconds, bytes, bill, price) = (interval.as_secs(), record.bytes(), spent.bill, spent.price());
        text += &format!("{environments:>4} {batch:>5} {folded:>6} {sends:>5} {seconds:>7} {bytes:>5} {shards:>6} | ");
        let counts = [bill.write_units, bill.read_units, bill.send_requests, bill.refused, spent.handler_runs];
        text += &counts.map(|count| format!("{:>5.2}", per(count))).join(" ");
        let Price { writes, reads, segments, sqs, invocations, wall, logs } = price;
        text += &format!(" | {writes:>5.3} {reads:>5.3} {segments:>5.3} {sqs:>5.3} {invocations:>5.3} {wall:>6.4} {logs:>6.4} ");
        text += &format!("{:>6.3}\n", price.total());
    }
    text
}

/// What a message costs at the batches that rates come to: 10 environments, 1 KB, one queue.
pub(super) fn rates(rows: &[Row]) -> String {
    let (Some(without), Some(with)) = (line(rows, false), line(rows, true)) else { return String::new() };
    let mut text = format!("b messages a batch: {without} without sends, {with} with\n");
    text += &format!("{:>9} | {:>12} {:>11} | {:>6} {:>11}\n", "rate", "as it comes", "no / with", "formed", "no / with");
    for (rate, comes, formed) in RATES {
        let at = |messages| format!("{:.2} / {:.2}", without.at(messages), with.at(messages));
        text += &format!(
            "{rate:>9} | {:>12} {:>11} | {:>6} {:>11}\n",
            format!("b = {comes}"),
            at(comes),
            format!("b = {formed}"),
            at(formed)
        );
    }
    text
}

fn line(rows: &[Row], sends: bool) -> Option<Line> {
    let at = |batch: usize| {
        let wanted = |(case, _): &&Row| {
            let Case { environments, interval, folded, .. } = *case;
            let base = (environments, interval.as_secs(), folded) == (10, 100, 1) && case.target().is_some();
            base && case.sends == sends && case.batch == batch
        };
        rows.iter().find(wanted).map(|(_, spent)| (batch as f64, spent.price().total()))
    };
    Some(Line::through(at(1)?, at(10)?))
}

/// The targets, and which are missed.
pub(super) fn targets(rows: &[Row]) -> (String, usize) {
    let (mut text, mut missed) = (String::new(), 0);
    for (case, spent) in rows {
        let Some(target) = case.target() else { continue };
        let total = spent.price().total();
        let (runs, writes) = (spent.per_message(spent.handler_runs), spent.per_message(spent.bill.writes + spent.bill.refused));
        let bytes = spent.largest_record;
        let met = total <= target && runs <= AT_MOST && writes <= AT_MOST && bytes <= case.record.bytes();
        missed += usize::from(!met);
        let met = if met { "met" } else { "MISSED" };
        text += &format!(
            "{met:<6} ${total:.3} of ${target:.2}, {runs:.3} runs and {writes:.3} writes of {AT_MOST}, {bytes} bytes: {}\n",
            case.name()
        );
    }
    (text, missed)
}

/// The same for programs: a row a case. Counts are per message.
pub(super) fn json(rows: &[Row]) -> String {
    let rows: Vec<Value> = rows.iter().map(row).collect();
    // Strings and numbers: this cannot fail.
    serde_json::to_string_pretty(&rows).unwrap_or_default() + "\n"
}

fn row((case, spent): &Row) -> Value {
    let Case { environments, batch, folded, sends, interval, record, shards, marks } = case;
    let (per, bill, price) = (|count| spent.per_message(count), spent.bill, spent.price());
    json!({
        "environments": environments,
        "batch": batch,
        "folded": folded,
        "sends": sends,
        "interval_s": interval.as_secs(),
        "record_bytes": record.bytes(),
        "largest_record_bytes": spent.largest_record,
        "shards": shards,
        "marks": marks,
        "messages": spent.messages,
        "reads": per(bill.reads),
        "read_units": per(bill.read_units),
        "writes": per(bill.writes + bill.refused),
        "refused_writes": per(bill.refused),
        "write_units": per(bill.write_units),
        "segments": per(bill.segments),
        "segment_units": per(bill.segment_units),
        "send_requests": per(bill.send_requests),
        "receive_requests": per(spent.batches),
        "delete_requests": per(spent.batches),
        "invocations": per(spent.batches),
        "handler_runs": per(spent.handler_runs),
        "commits": per(spent.commits),
        "proven_outboxes": per(spent.proven),
        "nudges": per(spent.nudges),
        "cpu_ms_a_batch": spent.cpu_ms / spent.batches.max(1) as f64,
        "wall_ms_a_batch": spent.wall_ms(),
        "dollars": {
            "writes": price.writes, "reads": price.reads, "segments": price.segments, "sqs": price.sqs,
            "invocations": price.invocations, "wall": price.wall, "logs": price.logs,
        },
        "total": price.total(),
    })
}
