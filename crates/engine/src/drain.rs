//! Sending an outbox.

use std::collections::HashSet;

use futures_util::{
    StreamExt,
    future::{BoxFuture, join4},
    stream,
};
use statefun_core::{Effect, Envelope, EnvelopeId, Safeguard, Timer, Timestamp, protocol::InOrder};

use crate::{
    engine::Engine,
    ports::{Moment, PortError},
};

/// Timers, or letters, that are written at the same time.
const WRITES_AT_ONCE: usize = 32;

/// How far a drain got.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Which entries of the outbox are sent.
    pub(crate) sent: HashSet<usize>,
    /// Which of these are egress records that became dead letters.
    pub(crate) refused: HashSet<usize>,
    /// A queue, topic, stream or permission was missing for an egress record.
    pub(crate) denied: bool,
    /// What failed first. Without it time ran out, if anything is left.
    pub(crate) error: Option<PortError>,
}

impl Progress {
    pub(crate) fn note(&mut self, index: usize, result: Result<(), PortError>) {
        match result {
            Ok(()) => drop(self.sent.insert(index)),
            Err(error) => self.fail(Some(error)),
        }
    }

    /// As [`note`](Self::note), of a record that its receiver refused: whether its dead letter is kept.
    pub(crate) fn note_refused(&mut self, index: usize, result: Result<(), PortError>) {
        if result.is_ok() {
            self.refused.insert(index);
        }
        self.note(index, result);
    }

    /// Notes what failed, if nothing did before.
    pub(crate) fn fail(&mut self, error: Option<PortError>) {
        self.error = self.error.take().or(error);
    }

    fn and(mut self, other: Self) -> Self {
        self.sent.extend(other.sent);
        self.refused.extend(other.refused);
        self.denied |= other.denied;
        self.error = self.error.or(other.error);
        self
    }
}

/// An entry of an outbox by its place.
pub(crate) type Placed<T> = (usize, T);

impl Engine {
    /// Sends entries, [`drain_at_once`](crate::Config::drain_at_once) of a kind at a time, and begins nothing after `until` but the first
    /// of each kind. What is not sent, or failed, has to be sent again with the same ids. Its egress records may be waiting for the deployment
    /// to be corrected, `denied_since` then.
    pub(crate) async fn drain(&self, outbox: &[Effect], denied_since: Timestamp, until: Moment) -> Progress {
        let (mut sends, mut timers, mut cancels, mut records, mut letters) = Default::default();
        for entry in outbox.iter().enumerate() {
            match entry {
                (place, Effect::Send(envelope)) => Vec::push(&mut sends, (place, envelope)),
                (place, Effect::Schedule(timer)) => Vec::push(&mut timers, (place, timer)),
                (place, Effect::Cancel { timer, due }) => Vec::push(&mut cancels, (place, (*timer, *due))),
                (place, Effect::Egress(record)) => Vec::push(&mut records, (place, record)),
                (place, Effect::DeadLetter(letter)) => Vec::push(&mut letters, (place, &**letter)),
            }
        }
        let (sends, timers, records, letters) = join4(
            self.drain_sends(sends, until),
            self.drain_timers(timers, cancels, until),
            self.drain_egress(records, denied_since, until),
            self.write_all(Progress::default(), letters, until, |letter| self.ports.dead_letters.park(letter)),
        )
        .await;
        sends.and(timers).and(records).and(letters)
    }

    /// One envelope per address and call; a further one for the same address only after the one before was accepted. What others fail to get does
    /// not keep back the rest, unless nobody gets anything.
    async fn drain_sends(&self, envelopes: Vec<Placed<&Envelope>>, until: Moment) -> Progress {
        let mut progress = Progress::default();
        let mut order = InOrder::of_groups(envelopes.iter().map(|(_, envelope)| Some(&envelope.to)));
        while !self.out_of_time(&progress, until) {
            let chosen = order.choose(self.config.drain_at_once);
            if chosen.is_empty() {
                break;
            }
            let call: Vec<_> = chosen.iter().map(|index| envelopes[*index].1).collect();
            let results = self.ports.queue.send(&call).await;
            let in_order = self.rules().protocol.safeguards.on(Safeguard::SendOrder);
            order.called(chosen.iter().zip(&results).map(|(index, result)| (*index, result.is_ok() || !in_order)));
            let is_out = results.iter().all(Result::is_err);
            for (index, result) in chosen.into_iter().zip(results) {
                progress.note(envelopes[index].0, result);
            }
            if is_out && in_order {
                break;
            }
        }
        progress
    }

    /// Timers have no order, but one that is scheduled and cancelled in one outbox is cancelled in the end.
    async fn drain_timers(
        &self,
        scheduled: Vec<Placed<&Timer>>,
        cancelled: Vec<Placed<(EnvelopeId, Timestamp)>>,
        until: Moment,
    ) -> Progress {
        let timers = &self.ports.timers;
        let mut progress = self.write_all(Progress::default(), scheduled, until, |timer| timers.schedule(timer)).await;
        if !self.rules().protocol.safeguards.on(Safeguard::Cancel) {
            cancelled.iter().for_each(|(place, _)| progress.note(*place, Ok(())));
            return progress;
        }
        self.write_all(progress, cancelled, until, |(timer, due)| timers.remove(timer, due)).await
    }

    /// Makes a call for each entry, in any order.
    async fn write_all<'a, T: Copy>(
        &self,
        mut progress: Progress,
        entries: Vec<Placed<T>>,
        until: Moment,
        call: impl Fn(T) -> BoxFuture<'a, Result<(), PortError>>,
    ) -> Progress {
        for chunk in entries.chunks(self.config.drain_at_once) {
            if self.must_stop(&progress, until) {
                break;
            }
            let calls: Vec<_> = chunk.iter().map(|(_, entry)| call(*entry)).collect();
            let results: Vec<_> = stream::iter(calls).buffered(WRITES_AT_ONCE).collect().await;
            for ((place, _), result) in chunk.iter().zip(results) {
                progress.note(*place, result);
            }
        }
        progress
    }

    /// After a failed entry nothing later of its kind is sent: it might be of its group.
    pub(crate) fn must_stop(&self, progress: &Progress, until: Moment) -> bool {
        let failed = progress.error.is_some() && self.rules().protocol.safeguards.on(Safeguard::SendOrder);
        failed || self.out_of_time(progress, until)
    }

    fn out_of_time(&self, progress: &Progress, until: Moment) -> bool {
        !progress.sent.is_empty() && self.ports.clock.moment() >= until
    }
}
