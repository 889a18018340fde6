//! The instance store: records, and commits that take everything they cause along.

use std::{ops::Bound, sync::MutexGuard, vec};

use async_trait::async_trait;
use bytes::Bytes;
use statefun_core::{Address, Commit, EnvelopeId, Owner, Record, Spilled, Timestamp, TypeName};
use statefun_engine::ports::{Committed, Found, InstanceStore, Leased, Leasing, PortError};

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
    async fn load(&self, addresses: &[&Address]) -> Vec<Found> {
        addresses.iter().map(|address| Ok(self.record(address)?.map(Box::new))).collect()
    }

    async fn lease(&self, address: &Address, leasing: &Leasing) -> Result<Leased, PortError> {
        self.shared().room("lease").await?;
        lease(self.shared(), address, leasing)
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, PortError> {
        self.shared().room("commit").await?;
        apply(self.shared(), commit)
    }

    async fn finish(&self, address: &Address, expect: u64) -> Result<bool, PortError> {
        self.shared().room("finish").await?;
        finish(self.shared(), address, expect)
    }

    async fn free(&self, address: &Address, owner: Owner) -> Result<(), PortError> {
        self.shared().room("free").await?;
        free(self.shared(), address, owner)
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

fn lease(shared: &Shared, address: &Address, leasing: &Leasing) -> Result<Leased, PortError> {
    let Leasing { expect, makes, born, lease } = *leasing;
    let key = records::key(address);
    let (guard, mut rows) = shared.rows("lease", &[(Table::Records, &key)])?;
    let head = Head { version: makes, lease: Some(lease), start: shared.life.starts };
    let value = rows.pop().flatten();
    let found = value.as_ref().map(|value| Head::read(value)).transpose().map_err(|error| refused("lease", error))?;
    let is_ours = found.is_some_and(|found| found.version == makes && found.lease == Some(lease));
    if !is_ours && found.map_or(0, |found| found.version) != expect {
        return Ok(Leased::Refused);
    }
    let value = match value {
        Some(value) => head.replace(&value).map_err(|error| refused("lease", error))?,
        None => records::encode(address, &Record { version: makes, lease: Some(lease), ..Record::new(born) }, head.start, true).0,
    };
    put(shared, guard, key, value, head);
    Ok(Leased::Taken)
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
    let effects = if settle { &commit.record.outbox.entries[..] } else { &[] };
    let now = shared.now();
    let effects: Vec<_> = effects.iter().map(|effect| Prepared::effect(effect, now, shared.life.crashes)).collect();
    let (mut guard, found) = with_head(shared, "commit", &key)?;
    if found.map_or(0, |found| found.version) != commit.expect {
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

fn finish(shared: &Shared, address: &Address, expect: u64) -> Result<bool, PortError> {
    let key = records::key(address);
    let (guard, mut rows) = shared.rows("finish", &[(Table::Records, &key)])?;
    let Some(value) = rows.pop().flatten() else { return Ok(false) };
    let record = records::decode(address, &value).map_err(|error| refused("finish", error))?;
    if record.version != expect {
        return Ok(false);
    }
    let finished = Record { version: record.next_version(), ..record };
    let (value, head) = records::encode(address, &finished, shared.life.starts, false);
    put(shared, guard, key, value, head);
    Ok(true)
}

fn free(shared: &Shared, address: &Address, owner: Owner) -> Result<(), PortError> {
    let key = records::key(address);
    let (guard, mut rows) = shared.rows("free", &[(Table::Records, &key)])?;
    let Some(value) = rows.pop().flatten() else { return Ok(()) };
    let head = Head::read(&value).map_err(|error| refused("free", error))?;
    if head.lease.is_some_and(|lease| lease.owner == owner) {
        let head = Head { version: head.version + 1, lease: None, ..head };
        let value = head.replace(&value).map_err(|error| refused("free", error))?;
        put(shared, guard, key, value, head);
    }
    Ok(())
}

/// Writes the row of a record.
fn put(shared: &Shared, mut guard: MutexGuard<'_, State>, key: Key, value: Bytes, head: Head) {
    let state = &mut *guard;
    let forgotten = state.heads.set(&key, head);
    state.log.put(Table::Records, key, value);
    shared.finish(guard);
    drop(forgotten);
}

/// The record's head, with the state locked. Rarely a read of the disk.
fn with_head<'a>(shared: &'a Shared, call: &'static str, key: &Key) -> Result<(MutexGuard<'a, State>, Option<Head>), PortError> {
    let state = shared.lock(call)?;
    if let Some(head) = state.heads.get(key) {
        return Ok((state, Some(head)));
    }
    drop(state);
    let (state, mut rows) = shared.rows(call, &[(Table::Records, key)])?;
    let head = rows.pop().flatten().map(|value| Head::read(&value)).transpose().map_err(|error| refused(call, error))?;
    Ok((state, head))
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
        let Some(value) = rows.pop().flatten() else { return Ok(None) };
        let record = records::decode(address, &value).map_err(|error| refused("record", error))?;
        // A lease ends with its time or with the process that took it. An older version made records that nothing was written to.
        let head = Head::read(&value).map_err(|error| refused("record", error))?;
        let lease = record.lease.filter(|_| head.start == self.shared().life.starts);
        Ok((record.version > 0).then_some(Record { lease, ..record }))
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
