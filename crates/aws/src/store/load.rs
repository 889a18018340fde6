//! Reading records: their items together, and what is not in them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, ReturnConsumedCapacity};
use futures_util::future::join_all;
use statefun_core::{
    Address, Record, chain,
    stored::{Unreadable, decode_outbox, decode_value},
};
use statefun_engine::ports::{Found, PortError, PortErrorKind};

use super::{
    DynamoStore,
    keys::{self, BYTES, Item, VERSION},
    record::{self, BigValue, Loaded, place_of},
};
use crate::error::{port_error, unreadable};

/// Keys of one request. Source: DynamoDB's quotas of `BatchGetItem`.
const MAX_KEYS: usize = 100;
/// How often keys that were left unprocessed are asked for again, and the first pause before.
const MAX_ROUNDS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// What a read fails with whose parts are not of one moment.
const TORN: &str = "load (torn)";

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

    /// Reads records, a hundred with one request. What a request leaves undone is asked for again.
    pub(super) async fn read(&self, addresses: &[&Address]) -> Vec<Found> {
        let requests = addresses.chunks(MAX_KEYS).map(|chunk| self.read_items(chunk));
        let items = join_all(requests).await.into_iter().flatten();
        join_all(addresses.iter().zip(items).map(|(address, item)| async move {
            match item? {
                Some(item) => self.whole(address, item).await.map(|record| Some(Box::new(record))),
                None => Ok(None),
            }
        }))
        .await
    }

    async fn read_items(&self, addresses: &[&Address]) -> Vec<Result<Option<Item>, PortError>> {
        let found = self.read_all(addresses).await;
        let item = |address: &&Address| match &found {
            // An address may stand there twice.
            Ok(found) => Ok(found.get(&address.to_string()).cloned()),
            Err(error) => Err(PortError::new("load", error.kind, chain(error))),
        };
        addresses.iter().map(item).collect()
    }

    /// The items of records that there are, by partition key.
    async fn read_all(&self, addresses: &[&Address]) -> Result<HashMap<String, Item>, PortError> {
        let keys: BTreeSet<String> = addresses.iter().map(ToString::to_string).collect();
        let mut left: Vec<Item> = keys.iter().map(|partition| keys::key(partition, keys::RECORD)).collect();
        let mut found = HashMap::new();
        for round in 0.. {
            let wanted = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true).build();
            let wanted = wanted.map_err(|error| PortError::new("load", PortErrorKind::Refused, error))?;
            let request = self.client.batch_get_item().request_items(&*self.table, wanted);
            let output = request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await;
            let output = output.map_err(|error| port_error("load", error))?;
            output.consumed_capacity().iter().for_each(|consumed| self.calls.consumed("BatchGetItem", Some(consumed)));
            for item in output.responses.into_iter().flatten().flat_map(|(_, items)| items) {
                if let Some(AttributeValue::S(partition)) = item.get("pk") {
                    found.insert(partition.clone(), item);
                }
            }
            left = output.unprocessed_keys.into_iter().flatten().flat_map(|(_, left)| left.keys).collect();
            if left.is_empty() {
                break;
            }
            if round >= MAX_ROUNDS {
                return Err(PortError::new("load", PortErrorKind::Throttled, "keys were left unprocessed again and again"));
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(round)).await;
        }
        Ok(found)
    }

    /// The whole record of which this is the item. What is kept apart from it may have been written anew meanwhile: then the item has another
    /// version by now, and is read again. It is damaged only if it is still the same.
    async fn whole(&self, address: &Address, mut item: Item) -> Result<Record, PortError> {
        loop {
            let version = record::number_of(&item, "v").ok().flatten();
            let torn = match self.complete(address, item).await {
                Err(error) if error.kind == PortErrorKind::Unavailable && error.call == TORN => error,
                whole => return whole,
            };
            let mut again = self.read_all(&[address]).await?;
            item = again.remove(&address.to_string()).ok_or_else(|| damaged(torn.source.to_string()))?;
            if record::number_of(&item, "v").ok().flatten() == version {
                return Err(damaged(torn.source.to_string()));
            }
        }
    }

    /// The record of which this is the item, or [`TORN`] if what is kept apart from it is not of the version that it names.
    pub(super) async fn complete(&self, address: &Address, item: Item) -> Result<Record, PortError> {
        let mut loaded = record::decode(address, item).map_err(|error| unreadable("load", error))?;
        if loaded.outbox_parts > 0 {
            let parts = self.parts(address, keys::outbox_prefix(loaded.outbox_tag)).await?;
            let whole =
                join(parts.into_values().next().unwrap_or_default(), BigValue { parts: loaded.outbox_parts, version: None })?;
            loaded.record.outbox = decode_outbox(address, whole.into()).map_err(|error| unreadable("load", error))?;
        }
        if loaded.had_big {
            self.load_values(address, &mut loaded).await?;
        }
        Ok(loaded.record)
    }

    async fn load_values(&self, address: &Address, loaded: &mut Loaded) -> Result<(), PortError> {
        let mut parts = self.parts(address, keys::value_prefix()).await?;
        for (name, big) in std::mem::take(&mut loaded.big) {
            let whole = keys::value_part(&name, 0);
            let found = whole.rsplit_once('#').and_then(|(whole, _)| parts.remove(whole)).unwrap_or_default();
            // Parts beyond these are of a longer value before it.
            let stored = decode_value(join(found, big)?.into()).map_err(|error| unreadable("load", error))?;
            loaded.record.state.insert(Arc::clone(&name), stored);
        }
        Ok(())
    }

    /// Parts by what they are parts of, in order.
    async fn parts(&self, address: &Address, prefix: String) -> Result<BTreeMap<String, Vec<Part>>, PortError> {
        let end = format!("{prefix}\u{10ffff}");
        let mut pages = self.range(address, prefix, end);
        let mut parts: BTreeMap<String, Vec<Part>> = BTreeMap::new();
        while let Some(items) = pages.next("load").await? {
            for mut item in items {
                let whole = place_of(&item).map(|(whole, _)| whole.to_owned()).map_err(|error| unreadable("load", error))?;
                let version = record::number_of(&item, VERSION).map_err(|error| unreadable("load", error))?;
                let bytes = record::bytes_of(&mut item, BYTES).map_err(|error| unreadable("load", error))?;
                parts.entry(whole).or_default().push(Part { version, bytes: bytes.to_vec() });
            }
        }
        Ok(parts)
    }
}

/// A part of something.
struct Part {
    version: Option<u64>,
    bytes: Vec<u8>,
}

/// The whole of its parts.
fn join(parts: Vec<Part>, big: BigValue) -> Result<Vec<u8>, PortError> {
    let parts: Vec<_> = parts.into_iter().take(big.parts).collect();
    if parts.len() < big.parts || parts.iter().any(|part| big.version.is_some() && part.version != big.version) {
        return Err(PortError::new(
            TORN,
            PortErrorKind::Unavailable,
            Unreadable::Form("a value of which parts are missing, or of another time"),
        ));
    }
    Ok(parts.into_iter().flat_map(|part| part.bytes).collect())
}

fn damaged(problem: String) -> PortError {
    PortError::new("load", PortErrorKind::Refused, problem)
}
