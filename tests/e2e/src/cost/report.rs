//! From counts to dollars.

use serde::Serialize;

use super::workload::Spent;

/// List prices in us-east-1 per million, checked in November 2026.
const WRITE_UNIT: f64 = 0.625;
const READ_UNIT: f64 = 0.125;
const FIFO_REQUEST: f64 = 0.50;
const INVOCATION: f64 = 0.20;

/// One line of the report. Everything is per message.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    name: &'static str,
    /// Requests to DynamoDB, to SQS, and invocations.
    calls: f64,
    dynamodb_writes: f64,
    dynamodb_write_units: f64,
    dynamodb_read_units: f64,
    sqs_requests: f64,
    invocations: f64,
    dollars_per_million: f64,
    operations: std::collections::BTreeMap<String, f64>,
    why: &'static str,
}

impl Line {
    pub(super) fn new(name: &'static str, why: &'static str, spent: &Spent) -> Self {
        let per = |count: f64| count / spent.messages.max(1) as f64;
        let of = |service: &str| {
            let calls = spent.calls.iter().filter(|(operation, _)| operation.starts_with(service));
            per(calls.map(|(_, count)| *count).sum::<u64>() as f64)
        };
        let (dynamodb, sqs, invocations) = (of("DynamoDB"), of("SQS"), per(spent.invocations as f64));
        let (units, reads) = (per(spent.written.units), per(spent.written.reads));
        Self {
            name,
            calls: dynamodb + sqs + invocations,
            dynamodb_writes: per(spent.written.items as f64),
            dynamodb_write_units: units,
            dynamodb_read_units: reads,
            sqs_requests: sqs,
            invocations,
            dollars_per_million: units * WRITE_UNIT + reads * READ_UNIT + sqs * FIFO_REQUEST + invocations * INVOCATION,
            operations: spent.calls.iter().map(|(operation, count)| (operation.clone(), per(*count as f64))).collect(),
            why,
        }
    }
}

/// A table for people.
pub(super) fn table(lines: &[Line]) -> String {
    let mut text = format!(
        "{:<36} {:>6} {:>7} {:>6} {:>6} {:>6} {:>7} {:>7}\n",
        "per message", "calls", "writes", "units", "reads", "sqs", "lambda", "$/M"
    );
    for line in lines {
        let Line { name, calls, dynamodb_writes, dynamodb_write_units, dynamodb_read_units, .. } = line;
        let Line { sqs_requests, invocations, dollars_per_million, .. } = line;
        text += &format!(
            "{name:<36} {calls:>6.2} {dynamodb_writes:>7.2} {dynamodb_write_units:>6.2} {dynamodb_read_units:>6.2} {sqs_requests:>6.2} {invocations:>7.2} {dollars_per_million:>7.3}\n"
        );
    }
    for line in lines {
        text += &format!("\n{}: {}", line.name, line.why);
    }
    text
}

/// The same for programs.
pub(super) fn json(lines: &[Line]) -> String {
    // Strings and numbers: this cannot fail.
    serde_json::to_string_pretty(lines).unwrap_or_default() + "\n"
}
