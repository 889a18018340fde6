//! The simulated table: records, segments, and commits, which the shipped loop repeats.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use statefun_core::{
    Address, Commit, Effect, EnvelopeId, Note, Outbox, Owner, Record, Safeguard, Segment, Taken, Timestamp,
    stored::BIG_VALUE_BYTES,
};
use statefun_engine::{
    backend::{ConditionalWrite, Tag, Tried, commit_with_retries},
    ports::{Clock, Committed, Found, InstanceStore, Leased, Leasing, PortError},
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
    async fn load(&self, addresses: &[&Address]) -> Vec<Found> {
        let (owned, now) = (addresses.iter().map(|address| (*address).clone()).collect::<Vec<_>>(), self.now());
        let Some(first) = addresses.first() else { return Vec::new() };
        let operation = move |world: &mut WorldState, _| owned.iter().map(|address| world.read(address, now)).collect();
        let found: Result<Vec<Option<Record>>, PortError> = self.world.call(self.env, "load", first, operation).await;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                // One call: what is wrong with it is wrong for all.
                let failed = |_: &&Address| Err(PortError::new("load", error.kind, error.to_string()));
                return addresses.iter().map(failed).collect();
            }
        };
        let old = |mut record: Record| {
            if self.old {
                as_before(&mut record);
            }
            Box::new(record)
        };
        found.into_iter().map(|record| Ok(record.map(old))).collect()
    }

    async fn lease(&self, address: &Address, leasing: &Leasing) -> Result<Leased, PortError> {
        let (env, owner, leasing) = (self.env, address.clone(), *leasing);
        let operation = move |world: &mut WorldState, now| world.lease(env, &owner, leasing, now);
        let leased = self.world.call(self.env, "lease", address, operation).await;
        if leased.is_err() {
            // Whoever has no answer cannot know of its lease.
            self.world.lock().leases.remove(address);
        }
        leased
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, PortError> {
        let mut owned = commit.clone();
        if self.old {
            as_before(&mut owned.record);
            self.world.lock().struck(Struck::OldVersion);
        }
        let (env, queue, settles) = (self.env, self.queue, self.world.lock().settles);
        let _write = self.in_flight.begin();
        if settles {
            let operation = move |world: &mut WorldState, now| world.settle(env, queue, &owned, now);
            return self.world.call(self.env, "commit", &commit.address, operation).await;
        }
        let (tag, safeguards) = {
            let mut world = self.world.lock();
            (Tag(world.rng.u64(..)), world.safeguards)
        };
        let write = Write { connection: self, commit: owned, tag, tries: AtomicU32::new(0) };
        commit_with_retries(&write, tag, self, safeguards).await
    }

    async fn finish(&self, address: &Address, expect: u64) -> Result<bool, PortError> {
        let (env, owner) = (self.env, address.clone());
        let operation = move |world: &mut WorldState, _| {
            let fence = world.safeguards.on(Safeguard::FinishFence);
            let Some(record) = world.stored.table.get_mut(&owner) else { return false };
            if record.version != expect && fence {
                return false;
            }
            let stood = std::mem::take(&mut record.outbox);
            (record.version, record.lease) = (record.next_version(), None);
            world.goes(&owner, &stood, &Outbox::default());
            world.took_effect(env, &owner);
            true
        };
        self.world.call(self.env, "finish", address, operation).await
    }

    async fn free(&self, address: &Address, run: Owner) -> Result<(), PortError> {
        let (env, owner) = (self.env, address.clone());
        let operation = move |world: &mut WorldState, _| {
            let is_its = |record: &&mut Record| record.lease.is_some_and(|lease| lease.owner == run);
            if let Some(record) = world.stored.table.get_mut(&owner).filter(is_its) {
                (record.version, record.lease) = (record.next_version(), None);
                world.took_effect(env, &owner);
            }
        };
        self.world.call(self.env, "free", address, operation).await
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
    tag: Tag,
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

    async fn try_commit(&self) -> Result<Tried, PortError> {
        let (env, commit, tag) = (self.connection.env, self.commit.clone(), self.tag);
        let transaction = self.is_transaction();
        if self.tries.fetch_add(1, Ordering::Relaxed) > 0 {
            self.connection.world.lock().struck(Struck::CommitRepeated);
        }
        let operation = move |world: &mut WorldState, now| {
            if transaction && world.stored.tokens.contains(&tag.0) {
                return Tried::Written;
            }
            let tried = world.write(env, &commit, tag, commit.segment.clone().filter(|segment| segment.fresh), now);
            if tried == Tried::Written && transaction {
                world.struck(Struck::Transaction);
                world.stored.tokens.insert(tag.0);
            }
            tried
        };
        self.connection.world.call(self.connection.env, "commit", &self.commit.address, operation).await
    }
}

/// What the oracle knows an entry of an outbox by. A cancellation has no id of its own.
fn id_of(effect: &Effect) -> Option<EnvelopeId> {
    match effect {
        Effect::Send(envelope) => Some(envelope.id),
        Effect::Schedule(timer) => Some(timer.envelope.id),
        Effect::Egress(record) => Some(record.id),
        Effect::DeadLetter(letter) => Some(letter.id),
        Effect::Cancel { .. } => None,
    }
}

/// The record as the version before this one reads and writes it: one trial, and no times that it does not know.
fn as_before(record: &mut Record) {
    record.last_at = Timestamp::ZERO;
    (record.outbox.mark, record.outbox.made_at) = (None, Timestamp::ZERO);
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
    fn read(&mut self, address: &Address, now: Timestamp) -> Option<Record> {
        let record = self.stored.table.get(address)?.clone();
        // A store that settles frees the lease with each commit: its lanes keep runs apart, which these queues do not.
        if record.lease.is_some_and(|lease| lease.until <= now) || self.settles {
            // By this clock. Whoever had it can take nothing back any more.
            self.stored.notes.overtaken(address, &mut self.deaths);
        }
        Some(record)
    }

    fn lease(&mut self, env: EnvId, address: &Address, leasing: Leasing, now: u64) -> Leased {
        let Leasing { expect, makes, born, lease } = leasing;
        let record = self.stored.table.entry(address.clone()).or_insert_with(|| Record::new(born));
        let is_ours = record.version == makes && record.lease == Some(lease);
        if record.version != expect && !is_ours {
            return Leased::Refused;
        }
        (record.version, record.lease) = (makes, Some(lease));
        self.stored.touched.insert(address.clone(), now);
        self.leases.insert(address.clone(), env);
        self.took_effect(env, address);
        self.struck(Struck::Leased);
        Leased::Taken
    }

    /// Writes a commit and its segment, if the version is as expected.
    fn write(&mut self, env: EnvId, commit: &Commit, tag: Tag, segment: Option<Segment>, now: u64) -> Tried {
        let fence = self.safeguards.on(Safeguard::Fence);
        let found = self.stored.table.get(&commit.address);
        if found.map_or(0, |record| record.version) != commit.expect && fence {
            self.struck(Struck::CommitRefused);
            *self.refusals.entry(commit.address.clone()).or_default() += 1;
            return Tried::Conflict(self.stored.tags.get(&commit.address).copied());
        }
        let mut record = commit.record.clone();
        if let Some(found) = found.filter(|_| !fence) {
            record.version = record.version.max(found.version);
        }
        let stood = found.map(|record| record.outbox.clone()).unwrap_or_default();
        self.goes(&commit.address, &stood, &record.outbox);
        if record.lease.is_some() {
            self.leases.insert(commit.address.clone(), env);
        }
        self.stored.table.insert(commit.address.clone(), record);
        self.stored.tags.insert(commit.address.clone(), tag);
        self.stored.segments.entry(commit.address.clone()).or_default().extend(segment);
        self.stored.touched.insert(commit.address.clone(), now);
        self.note_commit(env, commit, now);
        self.took_effect(env, &commit.address);
        Tried::Written
    }

    /// An outbox leaves its record for another one: all of it that does not stay must have been taken by whom it was sent to.
    fn goes(&mut self, owner: &Address, stood: &Outbox, stays: &Outbox) {
        let stays: BTreeSet<_> = stays.entries.iter().filter_map(id_of).collect();
        let known: BTreeSet<_> = stood.entries.iter().filter_map(id_of).collect();
        self.stored.unsent.extend(stays.difference(&known));
        let lost = stood.entries.iter().filter_map(id_of).find(|id| self.stored.unsent.contains(id) && !stays.contains(id));
        if let Some(id) = lost {
            self.problems.push(format!("{owner}: its outbox is gone, and {id} was never sent"));
        }
    }

    /// A call of this environment changed the record: unless its answer is lost, it knows what lease it has there. (One that is overtaken
    /// is answered too, but knows nothing of the lease that a run beside it has.)
    fn took_effect(&mut self, env: EnvId, address: &Address) {
        self.unsure.remove(&(env, address.to_string()));
    }

    /// A commit that takes its sends along.
    fn settle(&mut self, env: EnvId, queue: usize, commit: &Commit, now: u64) -> Committed {
        // Nothing repeats it.
        if self.write(env, commit, Tag(0), commit.segment.clone(), now) != Tried::Written {
            return Committed::Fenced;
        }
        let record = self.stored.table.get_mut(&commit.address);
        let outbox = record.map(|record| {
            record.lease = None;
            std::mem::take(&mut record.outbox)
        });
        outbox.into_iter().flat_map(|outbox| outbox.entries).for_each(|effect| self.apply(effect, queue, now));
        self.struck(Struck::Settled);
        Committed::Settled
    }

    /// What the oracle has to know of a commit.
    fn note_commit(&mut self, env: EnvId, commit: &Commit, now: u64) {
        self.commits += 1;
        if commit.record.outbox.mark.is_some() {
            self.struck(Struck::Marked);
        }
        self.stored.notes.committed(env, &commit.address, &commit.record);
        let overdue = commit.record.lease.is_some_and(|lease| Timestamp(now + self.skew) >= lease.until);
        if self.is_gone(env, now) || overdue {
            // Its request took effect late: others may have come by before it can take the note back.
            self.stored.notes.overtaken(&commit.address, &mut self.deaths);
        }
        let is_big = |name| commit.record.state.get(name).is_some_and(|stored| stored.value.len() > BIG_VALUE_BYTES);
        if commit.changed.iter().any(is_big) {
            self.struck(Struck::BigValue);
        }
        for effect in &commit.record.outbox.entries {
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
        if let Some(id) = id_of(&effect) {
            self.stored.unsent.remove(&id);
        }
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
