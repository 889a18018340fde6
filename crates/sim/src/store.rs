//! The simulated table: records under leases, segments, and commits.

use async_trait::async_trait;
use statefun_core::{Address, Commit, Effect, EnvelopeId, Held, Record, Safeguard, Timestamp, stored::BIG_VALUE_BYTES};
use statefun_engine::ports::{Acquired, Committed, InstanceStore, PortError};

use crate::{
    executor::EnvId,
    faults::Struck,
    ports::Connection,
    workload::{Payload, letter},
    world::WorldState,
};

#[async_trait]
impl InstanceStore for Connection {
    async fn acquire(&self, address: &Address, now: Timestamp, until: Timestamp) -> Result<Acquired, PortError> {
        let (env, owner) = (self.env, address.clone());
        let operation = move |world: &mut WorldState, at| world.acquire(env, &owner, (now, until), at);
        let acquired = self.world.call(self.env, "acquire", address, operation).await?;
        if acquired == Acquired::Busy {
            // The lease that stands is of a call before.
            self.world.lock().answered.insert((self.env, address.to_string()), false);
        }
        Ok(acquired)
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, PortError> {
        let (env, queue, owned) = (self.env, self.queue, commit.clone());
        let operation = move |world: &mut WorldState, now| world.commit(env, queue, &owned, now);
        self.world.call(self.env, "commit", &commit.address, operation).await
    }

    async fn finish(&self, address: &Address, expect: Held) -> Result<bool, PortError> {
        let owner = address.clone();
        let operation = move |world: &mut WorldState, _| {
            let fence = world.safeguards.on(Safeguard::FinishFence);
            let Some(record) = world.stored.table.get_mut(&owner) else { return false };
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
        let owner = address.clone();
        let operation = move |world: &mut WorldState, _| {
            if let Some(record) = world.stored.table.get_mut(&owner).filter(|record| record.epoch == epoch) {
                record.lease_until = Timestamp::ZERO;
            }
        };
        self.world.call(self.env, "release", address, operation).await
    }

    async fn spilled(&self, address: &Address, ids: &[EnvelopeId], since: Timestamp) -> Result<Vec<EnvelopeId>, PortError> {
        let (owner, ids) = (address.clone(), ids.to_vec());
        let operation = move |world: &mut WorldState, now| {
            world.looks += 1;
            let segments = world.stored.segments.entry(owner).or_default();
            segments.retain(|segment| segment.expires > Timestamp(now));
            let recent = segments.iter().filter(|segment| segment.newest >= since);
            recent.flat_map(|segment| &segment.ids).filter(|id| ids.contains(id)).copied().collect()
        };
        self.world.call(self.env, "spilled", address, operation).await
    }

    async fn barrier(&self) -> Result<(), PortError> {
        self.world.call(self.env, "barrier", &"", |_, _| ()).await?;
        self.world.flush();
        Ok(())
    }
}

impl WorldState {
    fn acquire(&mut self, env: EnvId, address: &Address, (now, until): (Timestamp, Timestamp), at: u64) -> Acquired {
        let lease = self.safeguards.on(Safeguard::Lease);
        let new = || Record { born: now, ..Record::default() };
        let record = self.stored.table.entry(address.clone()).or_insert_with(new);
        if record.lease_until > now && lease {
            return Acquired::Busy;
        }
        record.epoch += 1;
        record.lease_until = until;
        self.stored.touched.insert(address.clone(), at);
        self.leases.insert(address.clone(), env);
        Acquired::Held(Box::new(record.clone()))
    }

    fn commit(&mut self, env: EnvId, queue: usize, commit: &Commit, now: u64) -> Committed {
        let fence = self.safeguards.on(Safeguard::Fence);
        let segments = self.stored.segments.entry(commit.address.clone()).or_default();
        // As the DynamoDB store does: what was accepted before is stored first, and stays if the commit is fenced.
        if !self.settles {
            segments.extend(commit.segment.clone().filter(|segment| !segment.fresh));
        }
        let Some(record) = self.stored.table.get_mut(&commit.address) else { return Committed::Fenced };
        if record.held() != commit.expect && fence {
            return Committed::Fenced;
        }
        segments.extend(commit.segment.clone().filter(|segment| segment.fresh || self.settles));
        *record = commit.record.clone();
        if record.lease_until > Timestamp::ZERO {
            self.leases.insert(commit.address.clone(), env);
        }
        let outbox = match self.settles {
            true => {
                record.lease_until = Timestamp::ZERO;
                std::mem::take(&mut record.outbox)
            }
            false => Vec::new(),
        };
        self.stored.touched.insert(commit.address.clone(), now);
        self.stored.committed.insert(commit.address.clone(), now);
        self.note_commit(env, commit);
        for effect in outbox {
            self.apply(effect, queue, now);
        }
        if self.settles {
            self.struck(Struck::Settled);
            Committed::Settled
        } else {
            Committed::Stored
        }
    }

    /// What the oracle has to know of a commit.
    fn note_commit(&mut self, env: EnvId, commit: &Commit) {
        self.notes.committed(env, &commit.address, &commit.record);
        let is_big = |name| commit.record.state.get(name).is_some_and(|stored| stored.value.len() > BIG_VALUE_BYTES);
        if commit.changed.iter().any(is_big) {
            self.struck(Struck::BigValue);
        }
        for effect in &commit.record.outbox {
            match effect {
                Effect::Schedule(timer) => {
                    let payload = timer.envelope.messages.first().and_then(|message| message.get::<Payload>().ok().flatten());
                    self.stored.scheduled.extend(payload.map(|payload| (timer.envelope.id, (timer.due, payload))));
                }
                Effect::Cancel { timer, .. } => drop(self.stored.cancelled.insert(*timer)),
                Effect::Send(envelope) => {
                    let payloads = envelope.messages.iter().filter_map(|message| message.get::<Payload>().ok().flatten());
                    let (to, from) = (letter(Some(&envelope.to)), letter(Some(&commit.address)));
                    let sent = payloads.map(|payload| ((to, from, payload.number, payload.part), envelope.id));
                    self.stored.sent.extend(sent);
                }
                _ => {}
            }
        }
    }

    fn apply(&mut self, effect: Effect, queue: usize, now: u64) {
        match effect {
            Effect::Send(envelope) => self.stored.queues[queue].send(&envelope, now),
            Effect::Schedule(timer) => drop(self.stored.timers.insert((timer.due, timer.envelope.id), timer)),
            Effect::Cancel { timer, due } => self.unschedule(timer, due, now),
            Effect::Egress(record) => self.stored.egress.push(record),
            Effect::DeadLetter(letter) => drop(self.stored.letters.insert(letter.id, *letter)),
        }
    }

    pub(crate) fn unschedule(&mut self, timer: EnvelopeId, due: Timestamp, now: u64) {
        self.stored.timers.remove(&(due, timer));
        self.stored.unscheduled.entry(timer).or_insert(now);
    }
}
