//! Loading what is not in the record's own item.

use std::{collections::BTreeMap, sync::Arc};

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use statefun_core::{
    Address, Record,
    stored::{Unreadable, decode_outbox, decode_value},
};
use statefun_engine::ports::{PortError, PortErrorKind};

use super::{
    DynamoStore,
    keys::{self, BYTES, Item},
    record::{self, Loaded, place_of},
};
use crate::error::{port_error, unreadable};

/// The pages of a query, one after the other: none is left out.
pub(crate) struct Pages<'a> {
    store: &'a DynamoStore,
    partition: String,
    from: String,
    to: String,
    limit: Option<i32>,
    /// What is read of an item; all without it.
    only: Option<&'static str>,
    start: Option<Item>,
    done: bool,
}

impl Pages<'_> {
    /// Reads these attributes only.
    pub(crate) fn only(self, attributes: &'static str) -> Self {
        Self { only: Some(attributes), ..self }
    }

    /// The next page, or `None` after the last.
    pub(crate) async fn next(&mut self, call: &'static str) -> Result<Option<Vec<Item>>, PortError> {
        if self.done {
            return Ok(None);
        }
        let request = self.store.client.query().table_name(&*self.store.table).consistent_read(true).set_limit(self.limit);
        let request = request.key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to");
        let request = request.expression_attribute_values(":pk", AttributeValue::S(self.partition.clone()));
        let request = request.expression_attribute_values(":from", AttributeValue::S(self.from.clone()));
        let request = request.expression_attribute_values(":to", AttributeValue::S(self.to.clone()));
        let request = request.set_projection_expression(self.only.map(str::to_owned));
        let request = request.set_exclusive_start_key(self.start.take()).return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = request.send().await.map_err(|error| port_error(call, error))?;
        self.store.calls.consumed("Query", output.consumed_capacity());
        self.start = output.last_evaluated_key;
        self.done = self.start.is_none();
        Ok(Some(output.items.unwrap_or_default()))
    }
}

impl DynamoStore {
    /// Items of a partition by sort key, both ends included; strongly consistent.
    pub(crate) fn pages(&self, partition: String, from: String, to: String, limit: Option<i32>) -> Pages<'_> {
        Pages { store: self, partition, from, to, limit, only: None, start: None, done: false }
    }

    pub(super) fn range(&self, address: &Address, from: String, to: String) -> Pages<'_> {
        self.pages(address.to_string(), from, to, None)
    }

    /// The whole record of which this is the item. Who holds the lease gets it consistent; others may find parts of another moment.
    pub(super) async fn complete(&self, address: &Address, item: Item) -> Result<Record, PortError> {
        let mut loaded = record::decode(address, item).map_err(|error| unreadable("load", error))?;
        if loaded.outbox_parts > 0 {
            let parts = self.parts(address, keys::outbox_prefix(loaded.record.version)).await?;
            let whole = join(parts.into_values().next().unwrap_or_default(), loaded.outbox_parts)?;
            loaded.record.outbox = decode_outbox(address, whole.into()).map_err(|error| unreadable("load", error))?;
        }
        if loaded.had_big {
            self.load_values(address, &mut loaded).await?;
        }
        Ok(loaded.record)
    }

    async fn load_values(&self, address: &Address, loaded: &mut Loaded) -> Result<(), PortError> {
        let mut parts = self.parts(address, keys::value_prefix()).await?;
        for (name, count) in std::mem::take(&mut loaded.big) {
            let whole = keys::value_part(&name, 0);
            let found = whole.rsplit_once('#').and_then(|(whole, _)| parts.remove(whole)).unwrap_or_default();
            // Parts beyond these are of a longer value before it.
            let stored = decode_value(join(found, count)?.into()).map_err(|error| unreadable("load", error))?;
            loaded.record.state.insert(Arc::clone(&name), stored);
        }
        Ok(())
    }

    /// Parts by what they are parts of, in order.
    async fn parts(&self, address: &Address, prefix: String) -> Result<BTreeMap<String, Vec<Vec<u8>>>, PortError> {
        let end = format!("{prefix}\u{10ffff}");
        let mut pages = self.range(address, prefix, end);
        let mut parts: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        while let Some(items) = pages.next("load").await? {
            for mut item in items {
                let whole = place_of(&item).map(|(whole, _)| whole.to_owned()).map_err(|error| unreadable("load", error))?;
                let part = record::bytes_of(&mut item, BYTES).map_err(|error| unreadable("load", error))?;
                parts.entry(whole).or_default().push(part.to_vec());
            }
        }
        Ok(parts)
    }
}

/// The whole of `count` parts.
fn join(parts: Vec<Vec<u8>>, count: usize) -> Result<Vec<u8>, PortError> {
    if parts.len() < count {
        // Overtaken while loading, or (never, unless someone deleted items) damaged.
        let problem = Unreadable::Form("a value of which parts are missing");
        return Err(PortError::new("load", PortErrorKind::Unavailable, problem));
    }
    Ok(parts.into_iter().take(count).flatten().collect())
}
