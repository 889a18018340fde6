//! An instance store that measures what its calls are billed: a write by the larger of the item before and after, in whole KB; a strongly
//! consistent read by the item, in units of 4 KB.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use statefun_aws::{Calls, Clients, store::DynamoStore};
use statefun_core::{Address, Commit, EnvelopeId, Owner, Timestamp};
use statefun_engine::ports::{Committed, Found, InstanceStore, Leased, Leasing, PortError};

use crate::problem::Problem;

type Item = HashMap<String, AttributeValue>;

/// Write units, writes, and read units.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) units: f64,
    pub(super) items: u64,
    pub(super) reads: f64,
}

pub(super) struct Metered {
    store: Arc<DynamoStore>,
    calls: Arc<Calls>,
    /// Looks at items, uncounted.
    probe: Clients,
    table: String,
    written: Mutex<Written>,
    /// Why something was not measured.
    failed: Mutex<Option<String>>,
}

impl Metered {
    pub(super) fn new(store: Arc<DynamoStore>, calls: Arc<Calls>, probe: Clients, table: String) -> Self {
        Self { store, calls, probe, table, written: Mutex::default(), failed: Mutex::default() }
    }

    /// What was written since the last time; an error if not all of it was measured.
    pub(super) fn take(&self) -> Result<Written, Problem> {
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(problem) => Err(Problem::new(problem).during("measuring items")),
            None => Ok(std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner))),
        }
    }

    async fn items(&self, address: &Address) -> BTreeMap<String, Item> {
        let query =
            self.probe.dynamodb.query().table_name(&self.table).consistent_read(true).key_condition_expression("pk = :pk");
        let items = match query.expression_attribute_values(":pk", AttributeValue::S(address.to_string())).send().await {
            Ok(reply) if reply.last_evaluated_key.is_none() => reply.items.unwrap_or_default(),
            Ok(_) => self.fail("an address has more items than a page takes".to_owned()),
            Err(error) => self.fail(statefun_core::chain(&error)),
        };
        items.into_iter().filter_map(|item| Some((item.get("sk")?.as_s().ok()?.clone(), item))).collect()
    }

    fn fail(&self, problem: String) -> Vec<Item> {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
        Vec::new()
    }

    /// Runs a call on an address and adds up what it wrote.
    async fn measure<T>(&self, address: &Address, call: impl Future<Output = T>) -> T {
        let transactions = || self.calls.read().get("DynamoDB.TransactWriteItems").map_or(0, |count| count.calls);
        let (before, transactions_before) = (self.items(address).await, transactions());
        let result = call.await;
        let after = self.items(address).await;
        // Addresses run at the same time: a transaction of another is taken for this one's, never the other way round.
        let price = if transactions() > transactions_before { 2.0 } else { 1.0 };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        for sort in before.keys().chain(after.keys().filter(|sort| !before.contains_key(*sort))) {
            let (old, new) = (before.get(sort), after.get(sort));
            if old != new {
                let bytes = old.map_or(0, size).max(new.map_or(0, size));
                written.units += price * bytes.div_ceil(1_024).max(1) as f64;
                written.items += 1;
            }
        }
        result
    }
}

#[async_trait]
impl InstanceStore for Metered {
    async fn load(&self, addresses: &[&Address]) -> Vec<Found> {
        let found = self.store.load(addresses).await;
        for address in addresses {
            // What is not there is billed, too.
            let units = match self.items(address).await.get("r") {
                Some(item) => size(item).div_ceil(4_096).max(1),
                None => 1,
            };
            self.written.lock().unwrap_or_else(PoisonError::into_inner).reads += units as f64;
        }
        found
    }

    async fn lease(&self, address: &Address, leasing: &Leasing) -> Result<Leased, PortError> {
        self.measure(address, self.store.lease(address, leasing)).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, PortError> {
        self.measure(&commit.address, self.store.commit(commit)).await
    }

    async fn finish(&self, address: &Address, expect: u64) -> Result<bool, PortError> {
        self.measure(address, self.store.finish(address, expect)).await
    }

    async fn free(&self, address: &Address, owner: Owner) -> Result<(), PortError> {
        self.measure(address, self.store.free(address, owner)).await
    }

    async fn spilled(&self, address: &Address, ids: &[EnvelopeId], since: Timestamp) -> Result<Vec<EnvelopeId>, PortError> {
        self.store.spilled(address, ids, since).await
    }

    async fn barrier(&self) -> Result<(), PortError> {
        self.store.barrier().await
    }
}

/// An item's size as DynamoDB counts it: names and values. Source: "DynamoDB item sizes and formats".
fn size(item: &Item) -> usize {
    let value = |value: &AttributeValue| match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::N(digits) => digits.trim_matches('0').len().div_ceil(2) + 1,
        _ => 1,
    };
    item.iter().map(|(name, content)| name.len() + value(content)).sum()
}
