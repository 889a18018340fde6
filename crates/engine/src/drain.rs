//! Sending an outbox.

use std::collections::HashSet;

use futures_util::{StreamExt, TryStreamExt, future::join4, stream};
use statefun_core::{Address, Effect, Envelope, Safeguard};

use crate::{
    engine::Engine,
    ports::{DueTimers, EnvelopeQueue, PortError},
};

/// Timers that are written at the same time.
const TIMERS_AT_ONCE: usize = 32;

impl Engine {
    /// Sends all entries; on an error some may be sent, and all have to be sent again, with the same ids.
    pub(crate) async fn drain(&self, outbox: &[Effect]) -> Result<(), PortError> {
        let (sends, timers, records, letters) =
            join4(self.drain_sends(outbox), self.drain_timers(outbox), self.drain_egress(outbox), self.drain_letters(outbox))
                .await;
        sends.and(timers).and(records).and(letters)
    }

    async fn drain_sends(&self, outbox: &[Effect]) -> Result<(), PortError> {
        let envelopes = outbox.iter().filter_map(|effect| match effect {
            Effect::Send(envelope) => Some(envelope),
            _ => None,
        });
        self.send_in_order(envelopes.collect()).await
    }

    pub(crate) async fn send_in_order(&self, envelopes: Vec<&Envelope>) -> Result<(), PortError> {
        send_rounds(&*self.ports.queue, envelopes, self.rules().protocol.safeguards.on(Safeguard::SendOrder)).await
    }

    /// Timers have no order, but one that is scheduled and cancelled in one outbox is cancelled in the end.
    async fn drain_timers(&self, outbox: &[Effect]) -> Result<(), PortError> {
        let timers = &self.ports.timers;
        let scheduled = outbox.iter().filter_map(|effect| match effect {
            Effect::Schedule(timer) => Some(timers.schedule(timer)),
            _ => None,
        });
        let cancelled = outbox.iter().filter_map(|effect| match effect {
            Effect::Cancel { timer, due } => Some(timers.remove(*timer, *due)),
            _ => None,
        });
        stream::iter(scheduled).map(Ok).try_for_each_concurrent(TIMERS_AT_ONCE, |call| call).await?;
        stream::iter(cancelled).map(Ok).try_for_each_concurrent(TIMERS_AT_ONCE, |call| call).await
    }

    async fn drain_egress(&self, outbox: &[Effect]) -> Result<(), PortError> {
        let records: Vec<_> = outbox
            .iter()
            .filter_map(|effect| match effect {
                Effect::Egress(record) => Some(record),
                _ => None,
            })
            .collect();
        if records.is_empty() {
            return Ok(());
        }
        self.ports.egress.emit(&records).await.into_iter().collect()
    }

    async fn drain_letters(&self, outbox: &[Effect]) -> Result<(), PortError> {
        for effect in outbox {
            if let Effect::DeadLetter(letter) = effect {
                self.ports.dead_letters.park(letter).await?;
            }
        }
        Ok(())
    }

    /// Sends the envelopes of up to `limit` timers that are due, then deletes these; says how many there were.
    ///
    /// # Errors
    /// What the ports fail with. Timers whose envelope was not sent, or which were not deleted, fire again with the same id.
    pub async fn fire_due(&self, timers: &dyn DueTimers, limit: usize) -> Result<usize, PortError> {
        let due = timers.due(self.ports.clock.now(), limit).await?;
        let delete_last = self.rules().protocol.safeguards.on(Safeguard::TimerDeleteLast);
        for timer in &due {
            if delete_last {
                self.send_in_order(vec![&timer.envelope]).await?;
            }
            timers.remove(timer.envelope.id, timer.due).await?;
            if !delete_last {
                self.send_in_order(vec![&timer.envelope]).await?;
            }
        }
        Ok(due.len())
    }
}

/// Sends envelopes in order: one per address and call; a further one for the same address only after the one before was accepted.
async fn send_rounds(queue: &dyn EnvelopeQueue, mut envelopes: Vec<&Envelope>, in_order: bool) -> Result<(), PortError> {
    let mut result = Ok(());
    while !envelopes.is_empty() {
        let mut taken: HashSet<&Address> = HashSet::new();
        let (now, later): (Vec<_>, Vec<_>) = envelopes.into_iter().partition(|envelope| taken.insert(&envelope.to));
        for sent in queue.send(&now).await {
            result = result.and(sent);
        }
        if result.is_err() && in_order {
            return result;
        }
        envelopes = later;
    }
    result
}
