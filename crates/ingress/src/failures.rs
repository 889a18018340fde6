//! What a Lambda answers about a batch that was not done whole: pure functions, one per event source.

use statefun_core::protocol::behind_failures;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of its messages are in their queues.
    Done,
    /// It is malformed, and among the dead letters.
    Parked,
    /// Not all of it is done: it has to be delivered again.
    Failed,
}

impl Outcome {
    /// Whether it has to be delivered again.
    #[must_use]
    pub fn is_failed(self) -> bool {
        self == Self::Failed
    }
}

/// The lowest sequence number that failed: Kinesis delivers everything from there on again. Several results may have one number.
#[must_use]
pub fn kinesis_failures<'a>(results: impl IntoIterator<Item = (&'a str, Outcome)>) -> Option<&'a str> {
    let failed = results.into_iter().filter(|(_, outcome)| outcome.is_failed()).map(|(number, _)| number);
    // Up to 128 bits or more, as decimal text: numbers of more digits are greater.
    failed.min_by(|a, b| {
        let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
        a.len().cmp(&b.len()).then_with(|| a.cmp(b))
    })
}

/// The ids of messages that failed, and of all messages that come after one in its group, in the order of the batch: what is not
/// among them is deleted from the queue. `results` has each message's id, its group (of FIFO queues only) and what became of it,
/// as they came in the batch.
#[must_use]
pub fn sqs_failures<'a>(results: impl IntoIterator<Item = (&'a str, Option<&'a str>, Outcome)>) -> Vec<&'a str> {
    let (ids, results): (Vec<_>, Vec<_>) =
        results.into_iter().map(|(id, group, outcome)| (id, (group, outcome.is_failed().then_some(())))).unzip();
    ids.into_iter().zip(behind_failures(results)).filter_map(|(id, failed)| failed.map(|()| id)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Outcome::*, *};

    #[test]
    fn kinesis_starts_again_at_the_lowest() {
        assert_eq!(kinesis_failures([("1", Done), ("2", Parked)]), None);
        assert_eq!(kinesis_failures([]), None);
        let long = "49590338271490256608559692538361571095921575989136588898";
        let longer = "495903382714902566085596925383615710959215759891365888980";
        assert_eq!(kinesis_failures([("9", Done), (longer, Failed), (long, Failed), (long, Done)]), Some(long));
        assert_eq!(kinesis_failures([("10", Failed), ("9", Failed), ("0010", Failed)]), Some("9"));
    }

    #[test]
    fn sqs_keeps_what_comes_after_a_failure_in_its_group() {
        let group = |group| Some(group);
        let batch = [
            ("1", group("a"), Done),
            ("2", group("a"), Failed),
            ("3", group("b"), Done),
            ("4", group("a"), Done),
            ("5", group("a"), Parked),
        ];
        assert_eq!(sqs_failures(batch), ["2", "4", "5"]);
        assert_eq!(sqs_failures([("1", None, Failed), ("2", None, Done), ("3", None, Failed)]), ["1", "3"]);
        assert!(sqs_failures([("1", group("a"), Done)]).is_empty());
    }
}
