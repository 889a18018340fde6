//! The way out: one lane per egress, read in order by the host.

use std::{ops::Bound, sync::Arc};

use async_trait::async_trait;
use statefun_core::{EgressRecord, TypeName};
use statefun_engine::ports::{Egress, PortError};

use crate::{
    Embedded, Op,
    append::Prepared,
    batch::Table,
    lanes::Entry,
    queue::Cursor,
    shared::{State, refused},
    tables::lanes::{decode_egress, egress_prefix, key, seq_of},
};

/// Bytes after which a batch of egress records ends.
const BATCH_BYTES: usize = 4 * 1_024 * 1_024;

/// The first records of an egress.
#[derive(Debug, Clone)]
pub struct EgressBatch {
    /// The records, in order.
    pub records: Vec<Arc<EgressRecord>>,
    /// What has to be durable before any of them leaves the process.
    pub op: Op,
}

#[async_trait]
impl Egress for Embedded {
    async fn emit(&self, records: &[&EgressRecord]) -> Vec<Result<(), PortError>> {
        let shared = self.shared();
        let room = shared.room("emit").await;
        let prepared: Vec<_> = records.iter().map(|record| Prepared::egress(record)).collect();
        let locked = room.and_then(|()| shared.lock("emit"));
        match locked {
            Ok(mut state) => {
                prepared.into_iter().for_each(|prepared| state.apply(prepared));
                shared.finish(state);
                records.iter().map(|_| Ok(())).collect()
            }
            Err(error) => {
                let error = Arc::new(error);
                records.iter().map(|_| Err(PortError::new("emit", error.kind, error.clone()))).collect()
            }
        }
    }
}

impl Embedded {
    /// Egresses that have records waiting, by name.
    #[must_use]
    pub fn egress_lanes(&self) -> Vec<TypeName> {
        self.shared().lock_always().lanes.egress.keys().cloned().collect()
    }

    /// Waits until egresses have records waiting, and returns their names.
    ///
    /// # Errors
    /// If the store is closed or its disk failed.
    pub async fn egress_ready(&self) -> Result<Vec<TypeName>, PortError> {
        loop {
            let notified = self.shared().egress.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            drop(self.shared().lock("egress_ready")?);
            let lanes = self.egress_lanes();
            if !lanes.is_empty() {
                return Ok(lanes);
            }
            notified.await;
        }
    }

    /// The first records of an egress, at most `max` and 4 MiB, one at least if there is one. They stay until they are
    /// [done](Self::egress_done). Before they leave the process, the batch's operation has to be durable.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed.
    pub fn egress_batch(&self, egress: &TypeName, max: usize) -> Result<EgressBatch, PortError> {
        self.refill_egress(egress, max.max(1))?;
        let state = self.shared().lock("egress_batch")?;
        let lane = state.lanes.egress.get(egress);
        let records = lane.map(|lane| {
            let count = lane.count(max.max(1), BATCH_BYTES);
            lane.entries.iter().take(count).map(|entry| entry.item.clone()).collect()
        });
        Ok(EgressBatch { records: records.unwrap_or_default(), op: Op(state.log.op) })
    }

    fn refill_egress(&self, egress: &TypeName, wanted: usize) -> Result<(), PortError> {
        let shared = self.shared();
        loop {
            let state = shared.lock("egress_batch")?;
            let Some(lane) = state.lanes.egress.get(egress).filter(|lane| lane.unread && lane.entries.len() < wanted) else {
                return Ok(());
            };
            let limit = state.lanes.refill(wanted).saturating_sub(lane.entries.len()).max(1);
            let from = key(egress_prefix(egress), lane.last + 1);
            drop(state);
            let to = key(egress_prefix(egress), u64::MAX);
            let (state, scan) = shared.scan("egress_batch", Table::Lanes, &from, Bound::Included(&to), limit)?;
            drop(state);
            let entries = scan.rows.iter().map(|(key, value)| {
                let item = decode_egress(value).map_err(|error| refused("egress_batch", error))?;
                Ok(Entry { seq: seq_of(key), bytes: value.len(), item })
            });
            let entries = entries.collect::<Result<Vec<_>, PortError>>()?;
            let (found, whole) = (!entries.is_empty(), scan.next.is_none());
            let mut state = shared.lock("egress_batch")?;
            let Some(lane) = state.lanes.egress.get_mut(egress) else { return Ok(()) };
            let bytes = lane.load(entries, whole);
            let is_empty = lane.is_empty();
            state.lanes.held_bytes += bytes;
            if is_empty {
                state.lanes.egress.remove(egress);
            }
            if found || whole {
                return Ok(());
            }
        }
    }

    /// Deletes the first `count` records of an egress and sets a cursor, such as the length of the file they went to, in one
    /// step.
    ///
    /// # Errors
    /// If they were not all in the last batch, or the store is closed or failed.
    pub fn egress_done(&self, egress: &TypeName, count: usize, cursor: Option<Cursor>) -> Result<Op, PortError> {
        let shared = self.shared();
        let mut guard = shared.lock("egress_done")?;
        let state = &mut *guard;
        if !state.drop_egress(egress, count) {
            return Err(refused("egress_done", format!("{egress} has fewer than {count} records in its batch")));
        }
        if let Some((name, value)) = cursor {
            state.log.put(Table::Cursors, name.into_bytes().into(), value.into());
        }
        Ok(shared.finish(guard))
    }
}

impl State {
    /// Deletes the first records of an egress. Returns `false`, and changes nothing, if so many are not in memory.
    pub(crate) fn drop_egress(&mut self, egress: &TypeName, count: usize) -> bool {
        let Some(lane) = self.lanes.egress.get_mut(egress).filter(|lane| lane.entries.len() >= count) else { return false };
        let done: Vec<_> = lane.entries.drain(..count).collect();
        let is_empty = lane.is_empty();
        for entry in done {
            self.lanes.held_bytes -= entry.memory();
            self.counts.egress -= 1;
            self.counts.egress_bytes -= entry.bytes as u64;
            self.log.delete(Table::Lanes, key(egress_prefix(egress), entry.seq));
        }
        if is_empty {
            self.lanes.egress.remove(egress);
        }
        true
    }
}
