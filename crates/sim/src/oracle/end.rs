//! What must be left of nothing, once all is quiet.

use statefun_core::Timestamp;

use crate::{
    dials::{END, QUIET, SECOND},
    workload::{Kind, letter},
};

use super::{Judge, payloads};

impl Judge<'_> {
    pub(super) fn end(&mut self) {
        self.only_the_slow_run_out_of_time();
        let waiting: usize = self.world.stored.queues.iter().map(crate::fifo::Fifo::len).sum();
        if waiting > 0 {
            self.problems.push(format!("{waiting} messages are stuck in the queue"));
        }
        if let Some(id) = self.world.stored.unsent.first() {
            self.problems.push(format!("{} committed effects were never sent, {id} among them", self.world.stored.unsent.len()));
        }
        let mut left = |what: String| self.problems.push(what);
        for (address, record) in &self.world.stored.table {
            let protocol = &self.trial.dials.config.rules.protocol;
            let stands = !record.outbox.is_empty();
            if stands && record.outbox.mark.is_none() {
                left(format!("{address}: {} effects are left in its outbox", record.outbox.len()));
            } else if stands && protocol.needs_nudge(&record.outbox, Timestamp(END - 2_000 * SECOND)) {
                left(format!("{address}: it was nudged, and its outbox stands"));
            }
            // What a redrive or a purge takes from the middle of its work comes back as a duplicate, or too old.
            let redriven = self.trial.dials.redrives() || self.trial.dials.expires() || self.trial.dials.purges();
            if !record.partial.is_empty() && !redriven {
                left(format!("{address}: {} envelopes are left half done", record.partial.len()));
            }
            if !record.trials.is_empty() && !redriven {
                left(format!("{address}: a trial is left"));
            }
            let touched = self.world.stored.touched.get(address).copied().unwrap_or_default();
            if touched > QUIET && record.lease.is_some() {
                left(format!("{address}: a lease is left"));
            }
            // The commit that accepts a message forgets them.
            let accepted = record.ledger.newest.0;
            let stale = record.tokens.values().filter(|live| live.due.0 + 2 * self.trial.dials.skew_millis() < accepted).count();
            if stale > 0 {
                left(format!("{address}: {stale} tokens are left of timers that were due"));
            }
        }
    }

    /// Work that needs several invocations is not given up for that.
    fn only_the_slow_run_out_of_time(&mut self) {
        let late = self.world.stored.letters.values().filter(|parked| parked.error.contains("before the deadline"));
        for parked in late {
            let here = letter(Some(&parked.envelope.to));
            for payload in payloads(parked) {
                let slow = payload.at == here && matches!(payload.kind, Kind::Slow | Kind::Deadly);
                // The error may be that of the message's last try only.
                if !slow && !matches!(payload.kind, Kind::Flaky(_) | Kind::Hopeless | Kind::Panics) {
                    self.problems.push(format!("{payload:?} was given up because other work took the time"));
                }
            }
        }
    }
}
