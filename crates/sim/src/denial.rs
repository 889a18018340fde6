//! A permission of the egress that is missing for a while: some records meet it.

use std::collections::BTreeMap;

use statefun_core::{Address, EgressRecord, EnvelopeId, Timestamp};

use crate::workload::{FLOOD_PARTS, Payload};

/// Whom the missing permission met, and when.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    /// From when to when it is missing.
    pub(crate) within: Option<(u64, u64)>,
    /// The first and the last time, by record.
    records: BTreeMap<EnvelopeId, (u64, u64)>,
    /// The first time, by sender and time of the commit: an outbox.
    outboxes: BTreeMap<(Address, Timestamp), u64>,
}

impl Denials {
    /// Whether the record meets it now, which is noted.
    pub(crate) fn meets(&mut self, record: &EgressRecord, now: u64) -> bool {
        let missing = self.within.is_some_and(|(from, until)| (from..until).contains(&now));
        if !missing || !is_denied(record) {
            return false;
        }
        self.records.entry(record.id).or_insert((now, now)).1 = now;
        self.outboxes.entry((record.from.clone(), record.at)).or_insert(now);
        true
    }

    /// When the outbox of this record first met it.
    pub(crate) fn outbox_since(&self, record: &EgressRecord) -> Option<u64> {
        self.outboxes.get(&(record.from.clone(), record.at)).copied()
    }

    /// For how long each record met it, in milliseconds.
    pub(crate) fn waits(&self) -> impl Iterator<Item = (EnvelopeId, u64)> {
        self.records.iter().map(|(id, (first, last))| (*id, last - first))
    }
}

fn is_denied(record: &EgressRecord) -> bool {
    let payload = record.value.get::<Payload>().ok().flatten();
    payload.is_some_and(|payload| payload.number % 9 == 7 && payload.part < FLOOD_PARTS)
}
