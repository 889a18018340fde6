//! From counts to dollars, by the formula that docs/deploy.md shows.

use super::{bill::Bill, meter::Chain};

/// List prices in us-east-1 per million, checked in November 2026.
const WRITE_UNIT: f64 = 0.625;
const READ_UNIT: f64 = 0.125;
const FIFO_REQUEST: f64 = 0.50;
const INVOCATION: f64 = 0.20;
/// Of a GB-second on arm64, per million milliseconds: $0.0000133334 a second.
const GB_MS: f64 = 0.013_333_4;
/// CloudWatch Logs: $0.50 a GB, per million KB.
const LOG_KB: f64 = 0.50;

/// The Lambdas' memory in `template.yaml`, and what of a processor comes with it: 1,769 MB have a whole one. Source: "Configure Lambda function
/// memory".
const MEMORY_MB: f64 = 512.0;
const PROCESSOR: f64 = MEMORY_MB / 1_769.0;

/// What a call takes until its answer is there, in milliseconds. Assumed: DynamoDB's documentation says "single-digit milliseconds", SQS's
/// "tens of milliseconds"; the emulator's own times say nothing of AWS.
const READ_MS: f64 = 6.0;
const WRITE_MS: f64 = 6.0;
const SEND_MS: f64 = 20.0;
/// From the end of an invocation until its poller has the next batch. Assumed; it decides only how many batches share a line of metrics.
const POLL_MS: f64 = 60.0;

/// What a case took: its bill, and what it ran.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    pub(super) messages: u64,
    pub(super) batches: u64,
    pub(super) bill: Bill,
    /// Sums over all batches.
    pub(super) chain: Chain,
    pub(super) batch_chunks: u64,
    pub(super) cpu_ms: f64,
    pub(super) handler_runs: u64,
    pub(super) commits: u64,
    pub(super) proven: u64,
    pub(super) nudges: u64,
    /// Bytes of the lines of metrics that an environment writes in a minute.
    pub(super) log_bytes_a_minute: u64,
    pub(super) largest_record: usize,
}

/// Dollars per million messages, by what they are paid for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Price {
    pub(super) writes: f64,
    pub(super) reads: f64,
    pub(super) segments: f64,
    pub(super) sqs: f64,
    pub(super) invocations: f64,
    pub(super) wall: f64,
    pub(super) logs: f64,
}

impl Spent {
    /// Milliseconds of a batch: its share of a processor, and one after the other what it waits for.
    pub(super) fn wall_ms(&self) -> f64 {
        let Chain { reads, writes, sends } = self.chain;
        let waits = reads as f64 * READ_MS + writes as f64 * WRITE_MS + sends as f64 * SEND_MS;
        (waits + self.cpu_ms / PROCESSOR) / self.batches.max(1) as f64
    }

    pub(super) fn per_message(&self, count: u64) -> f64 {
        count as f64 / self.messages.max(1) as f64
    }

    pub(super) fn price(&self) -> Price {
        let per_message = |count| self.per_message(count);
        let batches = per_message(self.batches);
        let wall_ms = self.wall_ms();
        let log_kb = self.log_bytes_a_minute as f64 / 1_000.0 * (wall_ms + POLL_MS) / 60_000.0;
        Price {
            writes: WRITE_UNIT * per_message(self.bill.write_units),
            reads: READ_UNIT * per_message(self.bill.read_units),
            segments: WRITE_UNIT * per_message(self.bill.segment_units),
            // Each batch is received, by as many chunks as it has, and deleted.
            sqs: FIFO_REQUEST * per_message(self.bill.send_chunks + self.batch_chunks + self.batches),
            invocations: INVOCATION * batches,
            wall: GB_MS * wall_ms * MEMORY_MB / 1_024.0 * batches,
            logs: LOG_KB * log_kb * batches,
        }
    }
}

impl Price {
    pub(super) fn total(&self) -> f64 {
        self.writes + self.reads + self.segments + self.sqs + self.invocations + self.wall + self.logs
    }
}

/// A price at any number of messages a batch: what each message costs, and what a batch costs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    message: f64,
    batch: f64,
}

impl Line {
    /// The line through two prices.
    pub(super) fn through((few, at_few): (f64, f64), (many, at_many): (f64, f64)) -> Self {
        let batch = (at_few - at_many) / (1.0 / few - 1.0 / many);
        Self { message: at_few - batch / few, batch }
    }

    pub(super) fn at(&self, messages: f64) -> f64 {
        self.message + self.batch / messages
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} + {:.2}/b", self.message, self.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The terms of docs/deploy.md: one message a batch, a read, a write, a send, nothing else.
    #[test]
    fn the_price_is_the_formula() {
        let bill = Bill {
            reads: 10,
            read_units: 10,
            writes: 10,
            write_units: 10,
            send_requests: 10,
            send_chunks: 10,
            ..Bill::default()
        };
        let chain = Chain { reads: 10, writes: 10, sends: 0 };
        let spent = Spent { messages: 10, batches: 10, bill, chain, batch_chunks: 10, ..Spent::default() };
        let wall = 0.013_333_4 * 12.0 * 0.5;
        assert!((spent.price().total() - (0.625 + 0.125 + 3.0 * 0.50 + 0.20 + wall)).abs() < 1e-9, "{:?}", spent.price());
        let shared = Spent { messages: 100, ..spent };
        assert!((shared.price().total() - spent.price().total() / 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_refused_write_and_a_segment_cost_what_a_write_does() {
        let of = |bill| Spent { messages: 1, batches: 0, bill, ..Spent::default() }.price().total();
        assert!((of(Bill { write_units: 1, refused: 1, ..Bill::default() }) - 0.625).abs() < 1e-9);
        assert!((of(Bill { segment_units: 1, segments: 1, ..Bill::default() }) - 0.625).abs() < 1e-9);
    }

    #[test]
    fn half_a_gigabyte_has_less_than_a_third_of_a_processor() {
        let spent = Spent { messages: 1, batches: 1, cpu_ms: 1.0, ..Spent::default() };
        assert!((spent.wall_ms() - 1_769.0 / 512.0).abs() < 1e-9);
    }

    #[test]
    fn a_line_of_metrics_is_shared_by_the_batches_of_its_minute() {
        let spent = Spent { messages: 1, batches: 1, log_bytes_a_minute: 1_000, ..Spent::default() };
        assert!((spent.price().logs - 0.50 * 60.0 / 60_000.0).abs() < 1e-9);
    }

    #[test]
    fn a_line_goes_through_its_points() {
        let line = Line::through((1.0, 2.60), (10.0, 0.98));
        assert!((line.at(1.0) - 2.60).abs() < 1e-9 && (line.at(10.0) - 0.98).abs() < 1e-9);
        assert_eq!(Line { message: 0.8, batch: 1.8 }.to_string(), "0.80 + 1.80/b");
    }
}
