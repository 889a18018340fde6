//! What has to come out of the egress, or be among the dead letters instead.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use statefun_core::{
    EnvelopeId, NotTaken, RefusedRecord,
    limits::{MAX_REFUSALS, UNDELIVERABLE_AFTER},
};

use super::{Judge, Message};
use crate::{
    ports::is_refused,
    workload::{FLOOD, FLOOD_PARTS, Kind, Payload},
};

/// How long a missing permission is waited for, in milliseconds.
const ENOUGH: u64 = UNDELIVERABLE_AFTER.as_secs() * 1_000;

impl Judge<'_> {
    /// One record id per message that C applied, however often it was emitted, in their order; and the floods that some cause.
    pub(super) fn egress(&mut self, applied: &[Message]) {
        let (mut ids, mut order): (BTreeMap<Message, HashSet<EnvelopeId>>, Vec<Message>) = Default::default();
        for record in &self.world.stored.egress {
            if let Ok(Some(payload)) = record.value.get::<Payload>() {
                let message = (payload.number, payload.part);
                // What was given up may come out all the same, where a process died between its letter and its outbox, and the permission
                // was given then. It has lost its place.
                let given_up = self.world.stored.refused.contains_key(&record.id);
                if payload.part < FLOOD_PARTS && !given_up && !ids.contains_key(&message) {
                    order.push(message);
                }
                ids.entry(message).or_default().insert(record.id);
            }
        }
        self.refused(&mut ids);
        let mut expected: BTreeSet<_> = applied.iter().copied().collect();
        let floods = self.trial.entries.iter().flat_map(|entry| &entry.payloads).filter(|payload| payload.kind == Kind::Floods);
        for flood in floods.filter(|flood| applied.contains(&(flood.number, flood.part))) {
            expected.extend((0..FLOOD).map(|number| (flood.number, FLOOD_PARTS + number)));
        }
        for message in expected.iter().filter(|message| !ids.contains_key(*message)) {
            self.problems.push(format!("egress: {message:?} is lost"));
        }
        for (message, ids) in ids {
            if ids.len() != 1 || !expected.contains(&message) {
                self.problems.push(format!("egress: {message:?} has {} ids", ids.len()));
            }
        }
        let place: BTreeMap<_, _> = applied.iter().enumerate().map(|(place, message)| (message, place)).collect();
        if !order.iter().filter_map(|message| place.get(message)).is_sorted() {
            self.problems.push("egress: out of order".to_owned());
        }
    }

    /// A record that its receiver refuses is a dead letter, after the tries that it is allowed; so is one whose permission is missing, after
    /// the time that it is allowed; and no other record is one.
    fn refused(&mut self, ids: &mut BTreeMap<Message, HashSet<EnvelopeId>>) {
        let denials = &self.world.denials;
        for refused in self.world.stored.refused.values() {
            let RefusedRecord { reason, at, attempts, record, .. } = refused;
            let right = match reason {
                NotTaken::Refused => is_refused(record) && *attempts == MAX_REFUSALS,
                NotTaken::Undeliverable => {
                    let waited = denials.outbox_since(record).map(|since| (at.0 + self.world.skew).saturating_sub(since));
                    waited.is_some_and(|waited| waited >= ENOUGH)
                }
            };
            if !right {
                self.problems.push(format!("egress: {} given up as {} after {attempts} tries", record.id, reason.name()));
            }
            if let Ok(Some(payload)) = record.value.get::<Payload>() {
                ids.entry((payload.number, payload.part)).or_default().insert(record.id);
            }
        }
        // Its first note may get lost, and each delivery may be late.
        for (id, _) in denials.waits().filter(|(_, waited)| *waited > 5 * ENOUGH / 2) {
            if !self.world.stored.refused.contains_key(&id) {
                self.problems.push(format!("egress: {id} held up its sender"));
            }
        }
    }
}
