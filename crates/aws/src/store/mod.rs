//! The instance store on DynamoDB: one item per address, written under conditions that name what must be found unchanged.
//!
//! The reads of an invocation share a call, and a commit is one update. Only what spills out of the item makes it a transaction, and only
//! spilled things are ever read by themselves. The schema is in `keys.rs` and `record.rs`.

mod commit;
pub(crate) mod keys;
mod load;
pub(crate) mod record;
mod standing;
mod table;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    operation::update_item::UpdateItemError,
    types::{ReturnConsumedCapacity, ReturnValue},
};
use futures_util::future::try_join_all;
use statefun_core::{Address, Commit, EnvelopeId, Owner, Record, Timestamp};
use statefun_engine::{
    InFlight,
    ports::{Clock, Committed, Found, InstanceStore, Leased, Leasing, PortError},
};

pub use table::create_table;

use crate::{
    backend::SystemClock,
    calls::Calls,
    clients::Clients,
    error::{port_error, unreadable},
    store::{
        keys::{bytes, number},
        record::{FENCE, PROTOCOL},
    },
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

/// The condition of every write: that the version is this one.
fn unchanged(expect: u64) -> &'static str {
    match expect {
        // An older version of the runtime made records that nothing was written to.
        0 => "(attribute_not_exists(v) OR v = :expect)",
        _ => "v = :expect",
    }
}

#[async_trait]
impl InstanceStore for DynamoStore {
    async fn load(&self, addresses: &[&Address]) -> Vec<Found> {
        self.read(addresses).await
    }

    async fn lease(&self, address: &Address, leasing: &Leasing) -> Result<Leased, PortError> {
        let Leasing { expect, makes, born, lease } = *leasing;
        let _write = self.in_flight.begin();
        let request = self.client.update_item().table_name(&*self.table).set_key(Some(keys::record(address)));
        let request = request.update_expression(
            "SET c = :protocol, u = :fence, b = if_not_exists(b, :born), v = :makes, h = :owner, l = :until REMOVE e",
        );
        let request = request.condition_expression(format!("{} OR (v = :makes AND h = :owner)", unchanged(expect)));
        let request = request.expression_attribute_values(":protocol", number(PROTOCOL));
        let request = request.expression_attribute_values(":fence", number(FENCE));
        let request = request.expression_attribute_values(":expect", number(expect));
        let request = request.expression_attribute_values(":makes", number(makes));
        let request = request.expression_attribute_values(":born", number(born.0));
        let request = request.expression_attribute_values(":owner", bytes(lease.owner.0.to_be_bytes()));
        let request = request.expression_attribute_values(":until", number(lease.until.0));
        match request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(output) => {
                self.calls.consumed("UpdateItem", output.consumed_capacity());
                Ok(Leased::Taken)
            }
            Err(error) if error.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception) => {
                Ok(Leased::Refused)
            }
            Err(error) => Err(port_error("lease", error)),
        }
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, PortError> {
        let _write = self.in_flight.begin();
        self.write(commit).await
    }

    async fn finish(&self, address: &Address, expect: u64) -> Result<bool, PortError> {
        let request = self.client.update_item().table_name(&*self.table).set_key(Some(keys::record(address)));
        // With the tag goes what the keys of a spilled outbox begin with.
        let request = request.update_expression("SET c = :protocol, u = :fence, v = :next REMOVE o, p, t, h, l, e");
        let request = request.condition_expression("v = :expect");
        let request = request.expression_attribute_values(":protocol", number(PROTOCOL));
        let request = request.expression_attribute_values(":fence", number(FENCE));
        let request = request.expression_attribute_values(":expect", number(expect));
        let request = request.expression_attribute_values(":next", number(expect.saturating_add(1)));
        let request = request.return_values(ReturnValue::UpdatedOld).return_consumed_capacity(ReturnConsumedCapacity::Total);
        match request.send().await {
            Ok(output) => {
                self.calls.consumed("UpdateItem", output.consumed_capacity());
                let old = output.attributes.unwrap_or_default();
                if let Ok(Some(parts)) = record::number_of(&old, "p") {
                    let tag = record::tag_of(&old).map_or(expect, |tag| tag.0);
                    self.forget_outbox(address, tag, parts as usize).await;
                }
                Ok(true)
            }
            Err(error) if error.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception) => {
                Ok(false)
            }
            Err(error) => Err(port_error("finish", error)),
        }
    }

    async fn free(&self, address: &Address, owner: Owner) -> Result<(), PortError> {
        let request = self.client.update_item().table_name(&*self.table).set_key(Some(keys::record(address)));
        let request = request.update_expression("SET v = v + :one REMOVE h, l").condition_expression("h = :owner");
        let request = request.expression_attribute_values(":one", number(1));
        let request = request.expression_attribute_values(":owner", bytes(owner.0.to_be_bytes()));
        match request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(output) => {
                self.calls.consumed("UpdateItem", output.consumed_capacity());
                Ok(())
            }
            // It was freed, or went with a commit.
            Err(error) if error.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception) => Ok(()),
            Err(error) => Err(port_error("free", error)),
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
