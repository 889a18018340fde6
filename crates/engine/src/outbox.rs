//! What a run does with the outbox of its record: sends it, and notes how far it got.

use statefun_core::{Commit, Effect, Record, Safeguard, Timestamp};

use crate::{
    drain::Progress,
    metrics::FunctionCounters,
    ports::Committed,
    run::{Halt, InHand, Run},
};

impl Run<'_> {
    /// Sends an outbox. If not all of it can be sent, whoever comes next loads the rest: a cached one others might send meanwhile.
    pub(crate) async fn drain(&mut self, mut hand: InHand, outbox: Vec<Effect>) -> Result<InHand, Halt> {
        let until = self.deadline.minus(self.engine.config.reserve / 2);
        let Progress { sent, refused, denied, error } = self.engine.drain(&outbox, hand.record.denied_since, until).await;
        let (done, rest): (Vec<_>, Vec<_>) = outbox.into_iter().enumerate().partition(|(place, _)| sent.contains(place));
        self.count_sent(done.iter().filter(|(place, _)| !refused.contains(place)).map(|(_, effect)| effect));
        FunctionCounters::add(&self.counters.refused, refused.len());
        hand.unfinished = true;
        if rest.is_empty() {
            hand.record.denied_since = Timestamp::ZERO;
            return Ok(hand);
        }
        let first_denied = denied && hand.record.denied_since == Timestamp::ZERO;
        if first_denied {
            hand.record.denied_since = self.now();
        }
        // After a failure only if it was much, for what comes again has the same ids; and never what was refused, which took its tries.
        let far = error.is_none() || done.len() >= self.engine.config.drain_at_once || !refused.is_empty();
        if first_denied || (far && self.on(Safeguard::KeepProgress)) {
            hand.record.outbox = rest.into_iter().map(|(_, effect)| effect).collect();
            self.keep_progress(hand.record).await?;
        }
        Err(error.map_or(Halt::Unsent, Halt::Port))
    }

    /// Stores the rest of an outbox in place of the whole, and frees the lease. Else an outbox that one invocation has no time to send
    /// would be begun again by each, for ever.
    async fn keep_progress(&mut self, record: Record) -> Result<(), Halt> {
        let expect = record.held();
        let record = Record { version: record.version + 1, lease_until: Timestamp::ZERO, ..record };
        let commit = Commit { address: self.address.clone(), expect, record, changed: Vec::new(), segment: None };
        match self.engine.ports.store.commit(&commit).await? {
            Committed::Fenced => Err(Halt::Fenced),
            Committed::Stored | Committed::Settled => {
                self.leased = None;
                Ok(())
            }
        }
    }

    /// Without [`Safeguard::ParkInOutbox`] the dead letters go beside the outbox, after the commit.
    pub(crate) fn letters_outside_of(&self, commit: &mut Commit) -> Vec<Effect> {
        if self.on(Safeguard::ParkInOutbox) {
            return Vec::new();
        }
        let outbox = std::mem::take(&mut commit.record.outbox);
        let (letters, outbox) = outbox.into_iter().partition(|effect| matches!(effect, Effect::DeadLetter(_)));
        commit.record.outbox = outbox;
        letters
    }

    pub(crate) fn count_sent<'e>(&self, effects: impl Iterator<Item = &'e Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(envelope) => FunctionCounters::add(&self.counters.sent, envelope.messages.len()),
                Effect::Schedule(_) => FunctionCounters::add(&self.counters.sent, 1),
                Effect::Egress(_) => FunctionCounters::add(&self.counters.egress, 1),
                Effect::DeadLetter(letter) => FunctionCounters::add(&self.counters.parked, letter.envelope.messages.len()),
                Effect::Cancel { .. } => {}
            }
        }
    }
}
