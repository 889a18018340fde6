//! The engine's ports on the simulated world, as one environment sees them.

use std::time::Duration;

use async_trait::async_trait;
use statefun_core::{
    Address, Commit, DeadLetter, Effect, EgressRecord, Envelope, EnvelopeId, Held, Record, Safeguard, Timer, Timestamp,
};
use statefun_engine::ports::{
    Acquired, Clock, Committed, DeadLetters, DueTimers, Egress, EnvelopeQueue, InstanceStore, PortError, Timers,
};

use crate::{
    executor::EnvId,
    workload::{FLOOD_PARTS, FLOOD_PAUSE, Payload},
    world::{World, WorldState},
};

/// One environment's connection to the world.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) world: World,
    pub(crate) env: EnvId,
    /// By how much its clock is ahead, in milliseconds.
    pub(crate) skew: i64,
}

#[async_trait]
impl Clock for Connection {
    fn now(&self) -> Timestamp {
        Timestamp(self.world.executor.now().saturating_add_signed(self.skew))
    }

    async fn sleep_until(&self, moment: Timestamp) {
        self.world.executor.sleep_until(moment.0.saturating_add_signed(-self.skew)).await;
    }
}

#[async_trait]
impl InstanceStore for Connection {
    async fn acquire(&self, address: &Address, now: Timestamp, until: Timestamp) -> Result<Acquired, PortError> {
        let operation = |world: &mut WorldState, _| {
            let lease = world.safeguards.on(Safeguard::Lease);
            let new = || Record { born: now, ..Record::default() };
            let record = world.table.entry(address.clone()).or_insert_with(new);
            if record.lease_until > now && lease {
                return Acquired::Busy;
            }
            record.epoch += 1;
            record.lease_until = until;
            Acquired::Held(Box::new(record.clone()))
        };
        self.world.call(self.env, "acquire", address, operation).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, PortError> {
        self.world.call(self.env, "commit", &commit.address, |world, now| world.commit(commit, now)).await
    }

    async fn finish(&self, address: &Address, expect: Held) -> Result<bool, PortError> {
        let operation = |world: &mut WorldState, _| {
            let fence = world.safeguards.on(Safeguard::FinishFence);
            let Some(record) = world.table.get_mut(address) else { return false };
            if record.held() != expect && fence {
                return false;
            }
            record.outbox.clear();
            record.lease_until = Timestamp::ZERO;
            true
        };
        self.world.call(self.env, "finish", address, operation).await
    }

    async fn release(&self, address: &Address, epoch: u64) -> Result<(), PortError> {
        let operation = |world: &mut WorldState, _| {
            if let Some(record) = world.table.get_mut(address).filter(|record| record.epoch == epoch) {
                record.lease_until = Timestamp::ZERO;
            }
        };
        self.world.call(self.env, "release", address, operation).await
    }

    async fn spilled(&self, address: &Address, ids: &[EnvelopeId], since: Timestamp) -> Result<Vec<EnvelopeId>, PortError> {
        let operation = |world: &mut WorldState, now| {
            world.looks += 1;
            let segments = world.segments.entry(address.clone()).or_default();
            segments.retain(|segment| segment.expires > Timestamp(now));
            let recent = segments.iter().filter(|segment| segment.newest >= since);
            recent.flat_map(|segment| &segment.ids).filter(|id| ids.contains(id)).copied().collect()
        };
        self.world.call(self.env, "spilled", address, operation).await
    }

    /// Nothing to do: a simulated write is durable when it takes effect.
    async fn barrier(&self) -> Result<(), PortError> {
        Ok(())
    }
}

impl WorldState {
    fn commit(&mut self, commit: &Commit, now: u64) -> Committed {
        let fence = self.safeguards.on(Safeguard::Fence);
        let segments = self.segments.entry(commit.address.clone()).or_default();
        // As the DynamoDB store does: what was accepted before is stored first, and stays if the commit is fenced.
        if !self.settles {
            segments.extend(commit.segment.clone().filter(|segment| !segment.fresh));
        }
        let Some(record) = self.table.get_mut(&commit.address) else { return Committed::Fenced };
        if record.held() != commit.expect && fence {
            return Committed::Fenced;
        }
        segments.extend(commit.segment.clone().filter(|segment| segment.fresh || self.settles));
        *record = commit.record.clone();
        let outbox = match self.settles {
            true => {
                record.lease_until = Timestamp::ZERO;
                std::mem::take(&mut record.outbox)
            }
            false => Vec::new(),
        };
        for effect in outbox {
            self.apply(effect, now);
        }
        if self.settles { Committed::Settled } else { Committed::Stored }
    }

    fn apply(&mut self, effect: Effect, now: u64) {
        match effect {
            Effect::Send(envelope) => self.queue.send(&envelope, now),
            Effect::Schedule(timer) => drop(self.timers.insert((timer.due, timer.envelope.id), timer)),
            Effect::Cancel { timer, due } => drop(self.timers.remove(&(due, timer))),
            Effect::Egress(record) => self.egress.push(record),
            Effect::DeadLetter(letter) => drop(self.letters.insert(letter.id, *letter)),
        }
    }
}

#[async_trait]
impl EnvelopeQueue for Connection {
    async fn send(&self, envelopes: &[&Envelope]) -> Vec<Result<(), PortError>> {
        let mut results = Vec::with_capacity(envelopes.len());
        // Each entry of a batch meets its own fate: partial failures are the rule here.
        for envelope in envelopes {
            results.push(self.world.call(self.env, "send", &envelope.to, |world, now| world.queue.send(envelope, now)).await);
        }
        results
    }
}

#[async_trait]
impl Timers for Connection {
    async fn schedule(&self, timer: &Timer) -> Result<(), PortError> {
        let key = (timer.due, timer.envelope.id);
        let operation = |world: &mut WorldState, _| {
            world.timers.entry(key).or_insert_with(|| timer.clone());
        };
        self.world.call(self.env, "schedule", &timer.envelope.to, operation).await
    }

    async fn remove(&self, timer: EnvelopeId, due: Timestamp) -> Result<(), PortError> {
        self.world.call(self.env, "unschedule", &timer, |world, _| drop(world.timers.remove(&(due, timer)))).await
    }
}

#[async_trait]
impl DueTimers for Connection {
    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Timer>, PortError> {
        let operation = |world: &mut WorldState, _| {
            let due = world.timers.range(..=(now, EnvelopeId([0xff; 16]))).take(limit);
            due.map(|(_, timer)| timer.clone()).collect()
        };
        self.world.call(self.env, "due", &"", operation).await
    }
}

#[async_trait]
impl Egress for Connection {
    async fn emit(&self, records: &[&EgressRecord]) -> Vec<Result<(), PortError>> {
        let mut results = Vec::with_capacity(records.len());
        for record in records {
            if record.value.get::<Payload>().is_ok_and(|payload| payload.is_some_and(|payload| payload.part >= FLOOD_PARTS)) {
                self.world.executor.sleep(FLOOD_PAUSE).await;
            }
            let operation = |world: &mut WorldState, _| world.egress.push((*record).clone());
            results.push(self.world.call(self.env, "emit", &record.egress, operation).await);
        }
        results
    }
}

#[async_trait]
impl DeadLetters for Connection {
    async fn park(&self, letter: &DeadLetter) -> Result<(), PortError> {
        let operation = |world: &mut WorldState, _| {
            world.letters.entry(letter.id).or_insert_with(|| letter.clone());
        };
        self.world.call(self.env, "park", &letter.envelope.to, operation).await
    }
}

/// Milliseconds of a pause.
pub(crate) fn millis(pause: Duration) -> u64 {
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}
