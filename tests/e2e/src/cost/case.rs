//! What is measured.

use std::time::Duration;

/// A case: how its batches look, and who works on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    /// Environments that a batch may come to, each as likely as the others.
    pub(super) environments: usize,
    /// Messages of a batch.
    pub(super) batch: usize,
    /// Messages of one address among them, which share a commit.
    pub(super) folded: usize,
    /// Whether each message sends one, which is a message of the next round. Else a router sends all.
    pub(super) sends: bool,
    /// After how long an address gets its next message.
    pub(super) interval: Duration,
    pub(super) record: Kilobytes,
    /// Queues of the function.
    pub(super) shards: usize,
    /// Whether a later message proves that an outbox was sent.
    pub(super) marks: bool,
}

/// What a record takes at most, with ledger and outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kilobytes {
    One,
    Two,
}

impl Kilobytes {
    /// Bytes of the instance's own state.
    pub(super) const fn state(self) -> usize {
        match self {
            Self::One => 300,
            Self::Two => 1_200,
        }
    }

    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::One => 1_024,
            Self::Two => 2_048,
        }
    }
}

/// Addresses at least, so that environments and ledgers differ, and messages that are measured at least.
const ADDRESSES: usize = 20;
const MESSAGES: usize = 200;

const BASE: Case = Case {
    environments: 10,
    batch: 10,
    folded: 1,
    sends: false,
    interval: Duration::from_secs(100),
    record: Kilobytes::One,
    shards: 1,
    marks: true,
};
const ENVIRONMENTS: [usize; 3] = [1, 2, 10];
pub(super) const BATCHES: [usize; 4] = [1, 2, 5, 10];
const INTERVALS: [u64; 3] = [1, 100, 3_600];
const RECORDS: [Kilobytes; 2] = [Kilobytes::One, Kilobytes::Two];
const SHARDS: [usize; 3] = [1, 2, 8];
const SENDS: [bool; 2] = [false, true];

impl Case {
    /// Addresses: each has one message in a round (or as many as are folded), and each queue full batches.
    pub(super) fn addresses(&self) -> usize {
        let full = self.batch.div_ceil(self.folded) * self.shards;
        ADDRESSES.next_multiple_of(full)
    }

    /// Rounds that are measured.
    pub(super) fn rounds(&self) -> usize {
        MESSAGES.div_ceil(self.addresses() * self.folded).max(3)
    }

    /// A name for those who wait.
    pub(super) fn name(&self) -> String {
        let Self { environments, batch, folded, sends, interval, record, shards, marks } = self;
        let folded = if *folded > 1 { format!(" ({folded} of an address)") } else { String::new() };
        let (sends, marks) = (if *sends { ", sends" } else { "" }, if *marks { "" } else { ", no marks" });
        let (seconds, record) = (interval.as_secs(), record.bytes());
        format!(
            "{environments} environments, {batch} a batch{folded}{sends}{marks}, {seconds} s, {record} bytes, {shards} shards"
        )
    }

    /// Whether the issue of the price sets a target for it: in dollars per million messages.
    pub(super) fn target(&self) -> Option<f64> {
        let Self { environments: 10, folded: 1, record: Kilobytes::One, shards: 1, marks: true, .. } = self else { return None };
        match (self.batch, self.sends) {
            (10, false) => Some(1.00),
            (10, true) => Some(1.05),
            (1, false) => Some(2.65),
            (1, true) => Some(2.75),
            _ => None,
        }
    }
}

/// All cases: the whole product over one queue (but for large records and two environments), and what shards, folding and marks change, by themselves.
pub(super) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for environments in ENVIRONMENTS {
        // Two environments differ from ten in nothing that depends on the size: the small record alone shows it.
        for record in RECORDS.into_iter().filter(|record| environments != 2 || *record == Kilobytes::One) {
            for interval in INTERVALS.map(Duration::from_secs) {
                for (sends, batch) in both(SENDS, BATCHES) {
                    cases.push(Case { environments, batch, sends, interval, record, ..BASE });
                }
            }
        }
    }
    for shards in SHARDS.into_iter().filter(|shards| *shards > 1) {
        cases.extend(both(SENDS, BATCHES).map(|(sends, batch)| Case { shards, sends, batch, ..BASE }));
    }
    cases.extend([5, 10].map(|folded| Case { folded, ..BASE }));
    cases.extend([1, 10].map(|batch| Case { batch, sends: true, marks: false, ..BASE }));
    cases
}

fn both(sends: [bool; 2], batches: [usize; 4]) -> impl Iterator<Item = (bool, usize)> {
    sends.into_iter().flat_map(move |sends| batches.into_iter().map(move |batch| (sends, batch)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_there_and_every_target_for_each_interval() {
        let cases = all();
        let has = |wanted: &dyn Fn(&Case) -> bool| cases.iter().any(wanted);
        assert!(ENVIRONMENTS.iter().all(|value| has(&|case| case.environments == *value)));
        assert!(BATCHES.iter().all(|value| has(&|case| case.batch == *value)));
        assert!(SHARDS.iter().all(|value| has(&|case| case.shards == *value && case.batch == 10 && case.environments == 10)));
        assert!(RECORDS.iter().all(|value| has(&|case| case.record == *value)));
        assert_eq!(cases.iter().filter(|case| case.target().is_some()).count(), 4 * INTERVALS.len());
        let twice = cases.iter().enumerate().find(|(index, case)| cases[..*index].contains(case));
        assert_eq!(twice, None);
    }

    #[test]
    fn batches_are_full() {
        for case in all() {
            let messages = case.addresses() * case.folded / case.shards;
            assert_eq!((case.addresses() % case.shards, messages % case.batch), (0, 0), "{case:?}");
            assert!(case.rounds() * case.addresses() * case.folded >= MESSAGES);
        }
    }
}
