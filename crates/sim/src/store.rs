//! The simulated table: records under leases, segments, and commits, which the shipped loop repeats.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use statefun_core::{
    Address, Commit, Effect, EnvelopeId, Held, Note, Record, Safeguard, Segment, Taken, Timestamp, stored::BIG_VALUE_BYTES,
};
use statefun_engine::{
    backend::{ConditionalWrite, Tried, commit_with_retries},
    ports::{Acquired, Committed, InstanceStore, PortError},
};

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
        let acquired = self.world.call(self.env, "acquire", address, operation).await;
        if acquired.is_err() {
            // Whoever has no answer cannot know of its lease.
            self.world.lock().leases.remove(address);
        }
        let acquired = acquired?;
        if acquired == Acquired::Busy {
            // The lease that stands is of a call before.
            self.world.lock().unsure.insert((self.env, address.to_string()));
        }
        Ok(match acquired {
            Acquired::Held(mut record) if self.old => {
                as_before(&mut record);
                Acquired::Held(record)
            }
            acquired => acquired,
        })
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, PortError> {
        let mut owned = commit.clone();
        if self.old {
            as_before(&mut owned.record);
            self.world.lock().struck(Struck::OldVersion);
        }
        let (env, queue, settles) = (self.env, self.queue, self.world.lock().settles);
        if settles {
            let operation = move |world: &mut WorldState, now| world.settle(env, queue, &owned, now);
            return self.world.call(self.env, "commit", &commit.address, operation).await;
        }
        let token = format!("{:032x}", self.world.lock().rng.u128(..));
        let safeguards = self.world.lock().safeguards;
        let makes = owned.record.held();
        commit_with_retries(&Write { connection: self, commit: owned, tries: AtomicU32::new(0) }, makes, &token, self, safeguards)
            .await
    }

    async fn finish(&self, address: &Address, expect: Held) -> Result<bool, PortError> {
        let (env, owner) = (self.env, address.clone());
        let operation = move |world: &mut WorldState, _| {
            let fence = world.safeguards.on(Safeguard::FinishFence);
            let Some(record) = world.stored.table.get_mut(&owner) else { return false };
            if record.held() != expect && fence {
                return false;
            }
            record.outbox.clear();
            record.lease_until = Timestamp::ZERO;
            world.took_effect(env, &owner);
            true
        };
        self.world.call(self.env, "finish", address, operation).await
    }

    async fn release(&self, address: &Address, epoch: u64) -> Result<(), PortError> {
        let (env, owner) = (self.env, address.clone());
        let operation = move |world: &mut WorldState, _| {
            if let Some(record) = world.stored.table.get_mut(&owner).filter(|record| record.epoch == epoch) {
                record.lease_until = Timestamp::ZERO;
                world.took_effect(env, &owner);
            }
        };
        self.world.call(self.env, "release", address, operation).await
    }

    async fn spilled(&self, address: &Address, ids: &[EnvelopeId], since: Timestamp) -> Result<Vec<EnvelopeId>, PortError> {
        let (owner, ids) = (address.clone(), ids.to_vec());
        let operation = move |world: &mut WorldState, now| {
            world.looks += 1;
            let now = Timestamp(now);
            let segments = world.stored.segments.entry(owner).or_default();
            segments.retain(|segment| segment.expires > now);
            // A producer's key has an item of its own, whatever segment it left its record in.
            let asked = |segment: &Segment, id: EnvelopeId| segment.newest >= since || id.is_keyed();
            let all = segments.iter().flat_map(|segment| segment.ids.iter().map(move |spilled| (segment, spilled)));
            let found = all.filter(|(segment, spilled)| asked(segment, spilled.id) && spilled.expires > now);
            found.map(|(_, spilled)| spilled.id).filter(|id| ids.contains(id)).collect()
        };
        self.world.call(self.env, "spilled", address, operation).await
    }

    async fn barrier(&self) -> Result<(), PortError> {
        self.world.call(self.env, "barrier", &"", |_, _| ()).await?;
        self.world.flush();
        Ok(())
    }
}

/// A commit as the DynamoDB store writes it.
struct Write<'a> {
    connection: &'a Connection,
    commit: Commit,
    tries: AtomicU32,
}

impl Write<'_> {
    /// What does not fit into the record's own item makes a transaction of it, which knows a repetition by its token.
    fn is_transaction(&self) -> bool {
        let is_big = |name| self.commit.record.state.get(name).is_some_and(|stored| stored.value.len() > BIG_VALUE_BYTES);
        self.commit.changed.iter().any(is_big) || self.commit.segment.as_ref().is_some_and(|segment| segment.fresh)
    }
}

#[async_trait]
impl ConditionalWrite for Write<'_> {
    async fn put_first(&self) -> Result<(), PortError> {
        let Some(segment) = self.commit.segment.clone().filter(|segment| !segment.fresh) else { return Ok(()) };
        let owner = self.commit.address.clone();
        let operation = move |world: &mut WorldState, _| world.stored.segments.entry(owner).or_default().push(segment);
        self.connection.world.call(self.connection.env, "segment", &self.commit.address, operation).await
    }

    async fn try_commit(&self, token: &str) -> Result<Tried, PortError> {
        let (env, commit, token) = (self.connection.env, self.commit.clone(), token.to_owned());
        let transaction = self.is_transaction();
        if self.tries.fetch_add(1, Ordering::Relaxed) > 0 {
            self.connection.world.lock().struck(Struck::CommitRepeated);
        }
        let operation = move |world: &mut WorldState, now| {
            if transaction && world.stored.tokens.contains(&token) {
                return Tried::Written;
            }
            let tried = world.write(env, &commit, commit.segment.clone().filter(|segment| segment.fresh), now);
            if tried == Tried::Written && transaction {
                world.struck(Struck::Transaction);
                world.stored.tokens.insert(token);
            }
            tried
        };
        self.connection.world.call(self.connection.env, "commit", &self.commit.address, operation).await
    }
}

/// The record as the version before this one reads and writes it: one trial, and no times that it does not know.
fn as_before(record: &mut Record) {
    record.last_at = Timestamp::ZERO;
    let noted = record.trials.iter().rposition(|trial| trial.note != Note::None);
    let known = noted.or(record.trials.len().checked_sub(1)).map(|place| record.trials[place]);
    if let Some(mut last) = known {
        last.note = last.note.min(Note::Watched);
        record.trials = vec![last];
    }
    let newest = record.ledger.newest;
    record.ledger.inline.iter_mut().for_each(|taken| *taken = Taken::new(taken.id, newest));
}

impl WorldState {
    fn acquire(&mut self, env: EnvId, address: &Address, (now, until): (Timestamp, Timestamp), at: u64) -> Acquired {
        let lease = self.safeguards.on(Safeguard::Lease);
        let new = || Record { born: now, ..Record::default() };
        let record = self.stored.table.entry(address.clone()).or_insert_with(new);
        if record.lease_until > now && lease {
            return Acquired::Busy;
        }
        // A store that settles frees the lease with each commit: its lanes keep runs apart, which these queues do not.
        let ran_out = record.lease_until > Timestamp::ZERO || self.settles;
        record.epoch += 1;
        record.lease_until = until;
        if ran_out {
            // By this clock. Whoever had it can take nothing back any more.
            self.stored.notes.overtaken(address, &mut self.deaths);
        }
        self.took_effect(env, address);
        let Some(record) = self.stored.table.get(address) else { return Acquired::Busy };
        self.stored.touched.insert(address.clone(), at);
        self.leases.insert(address.clone(), env);
        Acquired::Held(Box::new(record.clone()))
    }

    /// Writes a commit and its segment, if epoch and version are as expected.
    fn write(&mut self, env: EnvId, commit: &Commit, segment: Option<Segment>, now: u64) -> Tried {
        let fence = self.safeguards.on(Safeguard::Fence);
        let Some(record) = self.stored.table.get_mut(&commit.address) else { return Tried::Conflict(None) };
        if record.held() != commit.expect && fence {
            return Tried::Conflict(Some(record.held()));
        }
        *record = commit.record.clone();
        if record.lease_until > Timestamp::ZERO {
            self.leases.insert(commit.address.clone(), env);
        }
        self.stored.segments.entry(commit.address.clone()).or_default().extend(segment);
        self.stored.touched.insert(commit.address.clone(), now);
        self.note_commit(env, commit, now);
        self.took_effect(env, &commit.address);
        Tried::Written
    }

    /// A call of this environment changed the record: unless its answer is lost, it knows what lease it has there. (One that is overtaken
    /// is answered too, but knows nothing of the lease that a run beside it has.)
    fn took_effect(&mut self, env: EnvId, address: &Address) {
        self.unsure.remove(&(env, address.to_string()));
    }

    /// A commit that takes its sends along.
    fn settle(&mut self, env: EnvId, queue: usize, commit: &Commit, now: u64) -> Committed {
        if self.write(env, commit, commit.segment.clone(), now) != Tried::Written {
            return Committed::Fenced;
        }
        let record = self.stored.table.get_mut(&commit.address);
        let outbox = record.map(|record| {
            record.lease_until = Timestamp::ZERO;
            std::mem::take(&mut record.outbox)
        });
        outbox.into_iter().flatten().for_each(|effect| self.apply(effect, queue, now));
        self.struck(Struck::Settled);
        Committed::Settled
    }

    /// What the oracle has to know of a commit.
    fn note_commit(&mut self, env: EnvId, commit: &Commit, now: u64) {
        self.stored.notes.committed(env, &commit.address, &commit.record);
        let until = commit.record.lease_until;
        let overdue = until > Timestamp::ZERO && Timestamp(now + self.skew) >= until;
        if self.is_gone(env, now) || overdue {
            // Its request took effect late: others may have come by before it can take the note back.
            self.stored.notes.overtaken(&commit.address, &mut self.deaths);
        }
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
                Effect::Cancel { timer, .. } => _ = self.stored.cancelled.entry(*timer).or_insert(now),
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
