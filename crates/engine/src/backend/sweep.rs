//! The sweep over outboxes that stand: whatever nothing else comes to gets a nudge, so that its outbox is proven or sent, and cleared.

use statefun_core::{Address, Envelope, Outbox, Protocol, Safeguard, Timestamp, protocol::InOrder};

use crate::ports::{EnvelopeQueue, PortError};

/// An outbox that stands, as a sweep found it. One whose entries are kept apart from its record may come without them; then it has no mark.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Whose it is.
    pub address: Address,
    /// The outbox.
    pub outbox: Outbox,
}

/// What a sweep over some outboxes came to.
#[derive(Debug, Default)]
pub struct Nudged {
    /// Nudges that are in their queues.
    pub nudged: usize,
    /// Outboxes that stand although they were nudged for days: something keeps their functions from working.
    pub overdue: usize,
    /// What failed first. A later sweep finds these again.
    pub error: Option<PortError>,
}

impl Nudged {
    /// Adds another one; of two errors the first is kept.
    pub fn add(&mut self, other: Self) {
        let Self { nudged, overdue, error } = other;
        (self.nudged, self.overdue) = (self.nudged + nudged, self.overdue + overdue);
        self.error = self.error.take().or(error);
    }
}

/// Sends a nudge to each of these addresses that needs one at `now`, with calls that they share.
///
/// When it returns, the nudges are in their queues, as far as it says. Nothing is lost if they are not: a later sweep finds what still stands.
pub async fn nudge(queue: &dyn EnvelopeQueue, standing: &[Standing], protocol: &Protocol, now: Timestamp) -> Nudged {
    let mut nudged = Nudged::default();
    if !protocol.safeguards.on(Safeguard::Sweep) {
        return nudged;
    }
    let needs: Vec<_> = standing.iter().filter(|standing| protocol.needs_nudge(&standing.outbox, now)).collect();
    nudged.overdue = needs.iter().filter(|standing| protocol.is_overdue(&standing.outbox, now)).count();
    let envelopes: Vec<_> = needs.into_iter().map(|standing| Envelope::nudge(standing.address.clone(), now)).collect();
    let mut order = InOrder::of_groups(envelopes.iter().map(|envelope| Some(&envelope.to)));
    loop {
        let chosen = order.choose(envelopes.len());
        if chosen.is_empty() {
            return nudged;
        }
        let call: Vec<_> = chosen.iter().map(|place| &envelopes[*place]).collect();
        let results = queue.send(&call).await;
        order.called(chosen.iter().zip(&results).map(|(place, result)| (*place, result.is_ok())));
        for result in results {
            match result {
                Ok(()) => nudged.nudged += 1,
                Err(error) => nudged.error = nudged.error.take().or(Some(error)),
            }
        }
    }
}
