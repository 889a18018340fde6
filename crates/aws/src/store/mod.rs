//! The instance store on DynamoDB: one item per address, written under conditions that name what must be found unchanged.
//!
//! Acquiring returns the record with the write that takes the lease, so that loading costs no read; a commit is one update. Only
//! what spills out of the item makes it a transaction, and only spilled things are ever read by themselves. The schema is in
//! `keys.rs` and `record.rs`.

mod commit;
pub(crate) mod keys;
mod load;
pub(crate) mod record;
mod table;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    operation::update_item::UpdateItemError,
    types::{AttributeValue, ReturnConsumedCapacity, ReturnValue},
};
use futures_util::future::try_join_all;
use statefun_core::{Address, Commit, EnvelopeId, Held, Record, Timestamp};
use statefun_engine::ports::{Acquired, Clock, Committed, InstanceStore, PortError};

pub use table::create_table;

use crate::{
    backend::SystemClock,
    batcher::InFlight,
    calls::Calls,
    clients::Clients,
    error::{port_error, unreadable},
    store::keys::{bytes, number},
};

/// The instance store over one table.
#[derive(Debug, Clone)]
pub struct DynamoStore {
    pub(crate) client: Client,
    pub(crate) calls: Arc<Calls>,
    pub(crate) table: Arc<str>,
    in_flight: InFlight,
}

impl DynamoStore {
    /// The store in this table, which must exist ([`create_table`] shows its form).
    pub fn new(clients: &Clients, table: impl Into<Arc<str>>) -> Self {
        Self {
            client: clients.dynamodb.clone(),
            calls: clients.calls.clone(),
            table: table.into(),
            in_flight: InFlight::default(),
        }
    }

    /// Its writes on their way are counted here: sends wait for what they may cause.
    pub(crate) fn counted(self, in_flight: InFlight) -> Self {
        Self { in_flight, ..self }
    }

    /// The record of an address as it is, without taking its lease: for people who look. `None` if there is none.
    ///
    /// # Errors
    /// [`PortError`] if the table cannot be read.
    pub async fn peek(&self, address: &Address) -> Result<Option<Record>, PortError> {
        let request = self.client.get_item().table_name(&*self.table).set_key(Some(keys::record(address))).consistent_read(true);
        let output = request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await;
        let output = output.map_err(|error| port_error("peek", error))?;
        self.calls.consumed("GetItem", output.consumed_capacity());
        match output.item {
            Some(item) => self.complete(address, item).await.map(Some),
            None => Ok(None),
        }
    }
}

impl DynamoStore {
    /// Which of these ids of producers' keys are spilled: each has an item of its own. What is past its time counts no more, whenever
    /// DynamoDB deletes it (that may take days): by then the key may be used anew.
    async fn spilled_keys(&self, address: &Address, ids: Vec<EnvelopeId>) -> Result<Vec<EnvelopeId>, PortError> {
        let looks = ids.into_iter().map(|id| async move {
            let key = keys::keyed(id);
            let page = self.range(address, key.clone(), key).next("spilled").await?;
            let item = page.into_iter().flatten().next();
            let expires = item.and_then(|item| record::number_of(&item, keys::TTL).ok().flatten());
            Ok(expires.is_some_and(|expires| expires > SystemClock.now().0 / 1_000).then_some(id))
        });
        let found: Vec<Option<EnvelopeId>> = try_join_all(looks).await?;
        Ok(found.into_iter().flatten().collect())
    }
}

/// The condition under which a lease is taken: it was never held, it ran out, or it is this call's own (its reply was lost).
const FREE: &str = "attribute_not_exists(u) OR u <= :now OR h = :holder";
const ACQUIRE: &str =
    "SET e = if_not_exists(e, :zero) + :one, v = if_not_exists(v, :zero), b = if_not_exists(b, :now), u = :until, h = :holder";
/// What guards every later write.
const UNCHANGED: &str = "e = :epoch AND v = :version";

#[async_trait]
impl InstanceStore for DynamoStore {
    async fn acquire(&self, address: &Address, now: Timestamp, until: Timestamp) -> Result<Acquired, PortError> {
        let _write = self.in_flight.begin();
        let holder = fastrand::u64(..).to_be_bytes();
        let request = self.client.update_item().table_name(&*self.table).set_key(Some(keys::record(address)));
        let request = request.update_expression(ACQUIRE).condition_expression(FREE).return_values(ReturnValue::AllNew);
        let request = request.expression_attribute_values(":zero", number(0)).expression_attribute_values(":one", number(1));
        let request = request.expression_attribute_values(":now", number(now.0));
        let request = request.expression_attribute_values(":until", number(until.0));
        let request = request.expression_attribute_values(":holder", bytes(holder));
        match request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(output) => {
                self.calls.consumed("UpdateItem", output.consumed_capacity());
                let item = output.attributes.unwrap_or_default();
                let epoch = record::number_of(&item, "e").ok().flatten();
                let loaded = self.complete(address, item).await;
                if let (Err(_), Some(epoch)) = (&loaded, epoch) {
                    // Nobody learns of this lease. What fails here runs out by itself.
                    if let Err(error) = self.release(address, epoch).await {
                        tracing::debug!(%error, "a lease stays until it runs out");
                    }
                }
                loaded.map(|record| Acquired::Held(Box::new(record)))
            }
            Err(error) if error.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception) => {
                Ok(Acquired::Busy)
            }
            Err(error) => Err(port_error("acquire", error)),
        }
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, PortError> {
        let _write = self.in_flight.begin();
        self.write(commit).await
    }

    async fn finish(&self, address: &Address, expect: Held) -> Result<bool, PortError> {
        let request = self.client.update_item().table_name(&*self.table).set_key(Some(keys::record(address)));
        let request = request.update_expression("SET u = :zero REMOVE o, p").condition_expression(UNCHANGED);
        let request = request.expression_attribute_values(":zero", number(0));
        let request = request.expression_attribute_values(":epoch", number(expect.epoch));
        let request = request.expression_attribute_values(":version", number(expect.version));
        let request = request.return_values(ReturnValue::UpdatedOld).return_consumed_capacity(ReturnConsumedCapacity::Total);
        match request.send().await {
            Ok(output) => {
                self.calls.consumed("UpdateItem", output.consumed_capacity());
                if let Some(AttributeValue::N(parts)) = output.attributes().and_then(|old| old.get("p")) {
                    self.forget_outbox(address, expect.version, parts.parse().unwrap_or_default()).await;
                }
                Ok(true)
            }
            Err(error) if error.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception) => {
                Ok(false)
            }
            Err(error) => Err(port_error("finish", error)),
        }
    }

    async fn release(&self, address: &Address, epoch: u64) -> Result<(), PortError> {
        let request = self.client.update_item().table_name(&*self.table).set_key(Some(keys::record(address)));
        let request = request.update_expression("SET u = :zero").condition_expression("e = :epoch");
        let request =
            request.expression_attribute_values(":zero", number(0)).expression_attribute_values(":epoch", number(epoch));
        match request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(output) => {
                self.calls.consumed("UpdateItem", output.consumed_capacity());
                Ok(())
            }
            // Somebody else has it by now.
            Err(error) if error.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception) => Ok(()),
            Err(error) => Err(port_error("release", error)),
        }
    }

    async fn spilled(&self, address: &Address, ids: &[EnvelopeId], since: Timestamp) -> Result<Vec<EnvelopeId>, PortError> {
        let (keyed, others): (Vec<EnvelopeId>, Vec<EnvelopeId>) = ids.iter().partition(|id| id.is_keyed());
        let mut found = self.spilled_keys(address, keyed).await?;
        if others.is_empty() {
            return Ok(found);
        }
        let mut pages = self.range(address, keys::segments_since(since), keys::segments_end());
        while let Some(items) = pages.next("spilled").await? {
            for mut item in items {
                let segment = record::bytes_of(&mut item, keys::BYTES).map_err(|error| unreadable("spilled", error))?;
                for id in segment.as_chunks::<16>().0 {
                    let id = EnvelopeId(*id);
                    if ids.contains(&id) && !found.contains(&id) {
                        found.push(id);
                    }
                }
            }
            if found.len() == ids.len() {
                break;
            }
        }
        Ok(found)
    }

    /// Nothing to do: DynamoDB answers a write once it is durable.
    async fn barrier(&self) -> Result<(), PortError> {
        Ok(())
    }
}
