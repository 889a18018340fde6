//! The instance store: records under leases, and commits that take everything they cause along.

use std::{ops::Bound, vec};

use async_trait::async_trait;
use bytes::Bytes;
use statefun_core::{Address, Commit, EnvelopeId, Held, Record, Spilled, Timestamp, TypeName};
use statefun_engine::ports::{Acquired, Committed, InstanceStore, PortError};

use crate::{
    Embedded,
    append::Prepared,
    batch::{Key, Table},
    shared::{Shared, State, refused},
    tables::{
        accepted::Expiring,
        records::{self, Head},
        segments,
    },
};

#[async_trait]
impl InstanceStore for Embedded {
    async fn acquire(&self, address: &Address, now: Timestamp, until: Timestamp) -> Result<Acquired, PortError> {
        self.shared().room("acquire").await?;
        acquire(self.shared(), address, now, until)
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, PortError> {
        self.shared().room("commit").await?;
        apply(self.shared(), commit)
    }

    async fn finish(&self, address: &Address, expect: Held) -> Result<bool, PortError> {
        self.shared().room("finish").await?;
        finish(self.shared(), address, expect)
    }

    async fn release(&self, address: &Address, epoch: u64) -> Result<(), PortError> {
        self.shared().room("release").await?;
        release(self.shared(), address, epoch)
    }

    async fn spilled(&self, address: &Address, ids: &[EnvelopeId], since: Timestamp) -> Result<Vec<EnvelopeId>, PortError> {
        let (from, to) = segments::since(address, since);
        let (mut found, now) = (Vec::new(), self.shared().now());
        self.shared().pages("spilled", Table::Segments, &from, Bound::Included(&to), |rows| {
            for (_, value) in rows {
                let (_, spilled) = segments::decode(&value).map_err(|error| refused("spilled", error))?;
                for id in ids {
                    // Only producers' keys are used again: those have times of their own.
                    let counts = |spilled: &Spilled| spilled.id == *id && (!id.is_keyed() || spilled.expires > now);
                    if spilled.iter().any(counts) && !found.contains(id) {
                        found.push(*id);
                    }
                }
            }
            Ok(found.len() < ids.len())
        })?;
        Ok(found)
    }

    async fn barrier(&self) -> Result<(), PortError> {
        self.durable(self.last_op()).await
    }
}

fn acquire(shared: &Shared, address: &Address, now: Timestamp, until: Timestamp) -> Result<Acquired, PortError> {
    let key = records::key(address);
    let start = shared.life.starts;
    let (mut guard, mut rows) = shared.rows("acquire", &[(Table::Records, &key)])?;
    let state = &mut *guard;
    let Some(value) = rows.pop().flatten() else {
        let record = Record { born: now, epoch: 1, lease_until: until, ..Record::default() };
        let (value, head) = records::encode(address, &record, start, true);
        state.log.put(Table::Records, key.clone(), value);
        let forgotten = state.heads.set(&key, head);
        shared.finish(guard);
        drop(forgotten);
        return Ok(Acquired::Held(Box::new(record)));
    };
    let head = Head::read(&value).map_err(|error| refused("acquire", error))?;
    if head.is_held(now, start) {
        return Ok(Acquired::Busy);
    }
    let held = Held { epoch: head.held.epoch + 1, ..head.held };
    let head = Head { held, lease_until: until, start };
    let value = head.replace(&value);
    state.log.put(Table::Records, key.clone(), value.clone());
    let forgotten = state.heads.set(&key, head);
    shared.finish(guard);
    drop(forgotten);
    let record = records::decode(address, &value).map_err(|error| refused("acquire", error))?;
    Ok(Acquired::Held(Box::new(record)))
}

/// Everything is encoded before the lock is taken: under it there is one comparison and a few insertions.
fn apply(shared: &Shared, commit: &Commit) -> Result<Committed, PortError> {
    let settle = shared.options.settle;
    let key = records::key(&commit.address);
    let (value, head) = records::encode(&commit.address, &commit.record, shared.life.starts, !settle);
    let segment = commit.segment.as_ref().map(|segment| {
        let key = segments::key(&commit.address, segment.newest, segment.number);
        let expiry = Expiring::Segment(key.clone()).key(segment.expires);
        (key, segments::encode(segment), expiry)
    });
    let effects = if settle { &commit.record.outbox[..] } else { &[] };
    let now = shared.now();
    let effects: Vec<_> = effects.iter().map(|effect| Prepared::effect(effect, now, shared.life.crashes)).collect();
    let (mut guard, found) = with_head(shared, "commit", &key)?;
    if found.is_none_or(|found| found.held != commit.expect) {
        return Ok(Committed::Fenced);
    }
    let state = &mut *guard;
    let forgotten = state.heads.set(&key, head);
    state.log.put(Table::Records, key, value);
    if let Some((key, value, expiry)) = segment {
        state.log.put(Table::Segments, key, value);
        state.log.put(Table::Expiries, expiry, Bytes::new());
    }
    for effect in effects {
        state.apply(effect);
    }
    shared.finish(guard);
    drop(forgotten);
    Ok(if settle { Committed::Settled } else { Committed::Stored })
}

fn finish(shared: &Shared, address: &Address, expect: Held) -> Result<bool, PortError> {
    let key = records::key(address);
    let (mut guard, mut rows) = shared.rows("finish", &[(Table::Records, &key)])?;
    let Some(value) = rows.pop().flatten() else { return Ok(false) };
    let head = Head::read(&value).map_err(|error| refused("finish", error))?;
    if head.held != expect {
        return Ok(false);
    }
    let record = records::decode(address, &value).map_err(|error| refused("finish", error))?;
    let (value, head) = records::encode(address, &record, head.start, false);
    let state = &mut *guard;
    let forgotten = state.heads.set(&key, head);
    state.log.put(Table::Records, key, value);
    shared.finish(guard);
    drop(forgotten);
    Ok(true)
}

fn release(shared: &Shared, address: &Address, epoch: u64) -> Result<(), PortError> {
    let key = records::key(address);
    let (mut guard, mut rows) = shared.rows("release", &[(Table::Records, &key)])?;
    let Some(value) = rows.pop().flatten() else { return Ok(()) };
    let head = Head::read(&value).map_err(|error| refused("release", error))?;
    if head.held.epoch != epoch {
        return Ok(());
    }
    let head = Head { lease_until: Timestamp::ZERO, ..head };
    let state = &mut *guard;
    let forgotten = state.heads.set(&key, head);
    state.log.put(Table::Records, key, head.replace(&value));
    shared.finish(guard);
    drop(forgotten);
    Ok(())
}

/// The record's head, with the state locked. Rarely a read of the disk.
fn with_head<'a>(
    shared: &'a Shared,
    call: &'static str,
    key: &Key,
) -> Result<(std::sync::MutexGuard<'a, State>, Option<Head>), PortError> {
    let state = shared.lock(call)?;
    if let Some(head) = state.heads.get(key) {
        return Ok((state, Some(head)));
    }
    drop(state);
    let (state, mut rows) = shared.rows(call, &[(Table::Records, key)])?;
    let head = rows.pop().flatten().map(|value| Head::read(&value)).transpose().map_err(|error| refused(call, error))?;
    Ok((state, head))
}

impl Head {
    /// A lease ends with its time or with the process that took it.
    fn is_held(&self, now: Timestamp, start: u64) -> bool {
        self.lease_until > now && self.start == start
    }
}

/// Instances of a function in the order of their ids, read page by page.
pub struct Instances {
    store: Embedded,
    from: Option<Key>,
    end: Key,
    page: vec::IntoIter<(Key, Bytes)>,
}

impl Embedded {
    /// The record of an address, if it has one.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed.
    pub fn record(&self, address: &Address) -> Result<Option<Record>, PortError> {
        let (state, mut rows) = self.shared().rows("record", &[(Table::Records, &records::key(address))])?;
        drop(state);
        rows.pop().flatten().map(|value| records::decode(address, &value)).transpose().map_err(|error| refused("record", error))
    }

    /// Functions that have instances, by name.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed.
    pub fn functions(&self) -> Result<Vec<TypeName>, PortError> {
        let (mut functions, mut from) = (Vec::new(), Some(Key::default()));
        while let Some(start) = from {
            let (state, scan) = self.shared().scan("functions", Table::Records, &start, Bound::Unbounded, 1)?;
            drop(state);
            from = scan.next;
            if let Some((key, _)) = scan.rows.first() {
                let address = records::decode_key(key).map_err(|error| refused("functions", error))?;
                from = Some(records::instances(address.function(), None).1);
                functions.push(address.function().clone());
            }
        }
        Ok(functions)
    }

    /// A function's instances in the order of their ids, from the first after `after` on. Each page is read when it is needed.
    pub fn instances(&self, function: &TypeName, after: Option<&str>) -> Instances {
        let (from, end) = records::instances(function, after);
        Instances { store: self.clone(), from: Some(from), end, page: Vec::new().into_iter() }
    }
}

impl Iterator for Instances {
    type Item = Result<(Address, Record), PortError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.page.next() {
                let row = records::decode_key(&key)
                    .and_then(|address| records::decode(&address, &value).map(|record| (address, record)));
                return Some(row.map_err(|error| refused("instances", error)));
            }
            let from = self.from.take()?;
            match self.store.shared().scan("instances", Table::Records, &from, Bound::Excluded(&self.end), 256) {
                Ok((state, scan)) => {
                    drop(state);
                    (self.page, self.from) = (scan.rows.into_iter(), scan.next);
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
