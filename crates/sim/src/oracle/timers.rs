//! Delayed messages: once, and none that was cancelled in time.

use std::collections::BTreeSet;

use crate::{
    dials::SECOND,
    workload::{Kind, address},
};

use super::{Judge, Message};

/// A cancellation gets from its commit to its timer within this time, outages apart: the environment may end in between, and what it worked
/// on comes again, several times if others end too.
const AT_ITS_TIMER: u64 = 600 * SECOND;

impl Judge<'_> {
    pub(super) fn timers(&mut self, applied_by_a: &[Vec<Message>]) {
        let stored = &self.world.stored;
        let all: BTreeSet<Message> = stored.scheduled.values().map(|(_, payload)| (payload.number, payload.part)).collect();
        let cancelled = stored.cancelled.keys().filter_map(|id| stored.scheduled.get(id));
        let maybe: BTreeSet<Message> = cancelled.map(|(_, payload)| (payload.number, payload.part)).collect();
        let at_t = self.applied_from(&address('T'), 'A');
        for payload in self.trial.entries.iter().flat_map(|entry| &entry.payloads) {
            let message = (payload.number, payload.part);
            let delays = matches!(payload.kind, Kind::Delays | Kind::DelaysWithToken);
            if delays && applied_by_a.iter().flatten().any(|applied| *applied == message) && !all.contains(&message) {
                self.problems.push(format!("A→T: {message:?} was delayed and never scheduled"));
            }
        }
        for message in &maybe {
            if at_t.iter().filter(|applied| *applied == message).count() > 1 {
                self.problems.push(format!("A→T: {message:?} was cancelled and still applied twice"));
            }
        }
        let sure: Vec<Message> = all.difference(&maybe).copied().collect();
        let sent: Vec<Message> = sure.into_iter().chain(maybe.iter().filter(|message| at_t.contains(message)).copied()).collect();
        self.once(&address('T'), 'A', &[sent], false);
        self.cancellations(&at_t);
        if !self.world.stored.timers.is_empty() {
            self.problems.push(format!("{} timers never fired", self.world.stored.timers.len()));
        }
    }

    /// A cancellation gets to its timer. It wins if it does so, or was committed, clearly before the timer is due.
    fn cancellations(&mut self, at_t: &[Message]) {
        let stored = &self.world.stored;
        let outages: u64 = self.world.outages.iter().map(|outage| outage.until - outage.from).sum();
        let margin = self.trial.dials.skew_millis() + SECOND;
        for (id, committed) in &stored.cancelled {
            let Some((due, payload)) = stored.scheduled.get(id) else { continue };
            let message = (payload.number, payload.part);
            let fired = at_t.contains(&message);
            if fired && committed + AT_ITS_TIMER + outages + margin < due.0 {
                self.problems
                    .push(format!("A→T: the cancellation of {message:?} was committed long before, and still it was applied"));
            }
            match stored.unscheduled.get(id) {
                None => self.problems.push(format!("A→T: the cancellation of {message:?} never got to its timer")),
                Some(at) if fired && at + margin < due.0 => {
                    self.problems.push(format!("A→T: {message:?} was cancelled in time and still applied"));
                }
                Some(_) => {}
            }
        }
    }
}
