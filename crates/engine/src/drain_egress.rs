//! Sending the egress records of an outbox. A record that its receiver refuses becomes a dead letter, so that it holds up nobody; so does
//! one whose queue or permission is missing for too long.
//!
//! The letter is kept first, and the record leaves the outbox with all that is sent: a crash in between sends the record again, and
//! keeps the letter again under the same id. Refusals are counted within one drain: what a record is refused for stays in it, so a drain
//! that begins anew loses a few requests.

use std::time::Duration;

use statefun_core::{EgressRecord, Refusals, Refused, RefusedRecord, Safeguard, Timestamp, chain, is_undeliverable};

use crate::{
    drain::{Placed, Progress},
    engine::Engine,
    ports::{Moment, PortError, PortErrorKind},
};

/// The pause after the first refusal of a record. It doubles after each further one, and ends when the time does.
const PAUSE: Duration = Duration::from_millis(100);

/// What a round of sending leaves.
#[derive(Default)]
struct Left<'a> {
    records: Vec<Placed<&'a EgressRecord>>,
    /// Most refusals of a record that is to be sent again.
    refused: u32,
    /// Some record was refused, or given up: those behind it were not sent for that.
    any_refused: bool,
    /// Why another one was not sent.
    error: Option<PortError>,
}

impl Engine {
    pub(crate) async fn drain_egress(
        &self,
        records: Vec<Placed<&EgressRecord>>,
        denied_since: Timestamp,
        until: Moment,
    ) -> Progress {
        let mut progress = Progress::default();
        for chunk in records.chunks(self.config.drain_at_once) {
            if self.must_stop(&progress, until) {
                break;
            }
            self.emit(chunk.to_vec(), denied_since, until, &mut progress).await;
        }
        progress
    }

    /// Sends records until each is sent or given up, a receiver is out, or time is over. Something is done in any case: without time
    /// the tries of the first records follow each other at once.
    async fn emit(
        &self,
        mut records: Vec<Placed<&EgressRecord>>,
        denied_since: Timestamp,
        until: Moment,
        progress: &mut Progress,
    ) {
        let (mut refusals, clock) = (Refusals::default(), &self.ports.clock);
        loop {
            let left = self.emit_once(&records, denied_since, &mut refusals, progress).await;
            if !left.any_refused || progress.error.is_some() {
                progress.fail(left.error);
                return;
            }
            if left.records.is_empty() || (clock.moment() >= until && !progress.sent.is_empty()) {
                return;
            }
            if let Some(doublings) = left.refused.checked_sub(1) {
                let pause = PAUSE * 2_u32.saturating_pow(doublings);
                clock.sleep_until(clock.moment().plus(pause).min(until)).await;
            }
            records = left.records;
        }
    }

    async fn emit_once<'a>(
        &self,
        records: &[Placed<&'a EgressRecord>],
        denied_since: Timestamp,
        refusals: &mut Refusals,
        progress: &mut Progress,
    ) -> Left<'a> {
        let mut left = Left::default();
        let sending: Vec<_> = records.iter().map(|(_, record)| *record).collect();
        for ((place, record), result) in records.iter().zip(self.ports.egress.emit(&sending).await) {
            match result {
                Ok(()) => progress.note(*place, Ok(())),
                Err(error) if error.kind == PortErrorKind::Rejected => {
                    left.any_refused = true;
                    match refusals.refused(record.id) {
                        Refused::GiveUp(attempts) => {
                            progress.note_refused(*place, self.park_refused(record, &error, attempts).await)
                        }
                        Refused::TryAgain(times) => {
                            left.refused = left.refused.max(times);
                            left.records.push((*place, record));
                        }
                    }
                }
                Err(error) if error.kind == PortErrorKind::Refused && self.is_given_up(denied_since) => {
                    left.any_refused = true;
                    progress.note_refused(*place, self.park_undeliverable(record, &error).await);
                }
                Err(error) => {
                    progress.denied |= error.kind == PortErrorKind::Refused;
                    left.error = left.error.or(Some(error));
                    left.records.push((*place, record));
                }
            }
        }
        left
    }

    fn is_given_up(&self, denied_since: Timestamp) -> bool {
        let safeguards = &self.rules().protocol.safeguards;
        let enough = is_undeliverable(denied_since, self.ports.clock.now()) || !safeguards.on(Safeguard::AwaitDeployment);
        enough && safeguards.on(Safeguard::ParkUndeliverable)
    }

    async fn park_undeliverable(&self, record: &EgressRecord, error: &PortError) -> Result<(), PortError> {
        self.park_record(RefusedRecord::undeliverable(record.clone(), chain(error.source.as_ref()), self.ports.clock.now())).await
    }

    async fn park_refused(&self, record: &EgressRecord, error: &PortError, attempts: u32) -> Result<(), PortError> {
        self.park_record(RefusedRecord::new(record.clone(), chain(error.source.as_ref()), attempts, self.ports.clock.now())).await
    }

    /// Makes a record a dead letter.
    async fn park_record(&self, letter: RefusedRecord) -> Result<(), PortError> {
        let RefusedRecord { reason, attempts, record, .. } = &letter;
        let (egress, function, reason) = (&record.egress, record.from.function(), reason.name());
        tracing::warn!(%egress, %function, reason, attempts, "a record is not taken: it becomes a dead letter");
        if !self.rules().protocol.safeguards.on(Safeguard::ParkRefused) {
            return Ok(());
        }
        self.ports.dead_letters.park_refused(&letter).await
    }
}
