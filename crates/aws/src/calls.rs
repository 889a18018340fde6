//! Counts of calls, and of the capacity they consumed: what the cost report and the metrics read.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aws_sdk_dynamodb::types::ConsumedCapacity;
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeTransmitInterceptorContextRef, dyn_dispatch_hint},
        orchestrator::Metadata,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;

/// What was counted of one operation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Count {
    /// Requests that were sent, retries included: each is billed.
    pub calls: u64,
    /// Capacity units that DynamoDB said it consumed. Failed conditions are billed too, but not reported.
    pub units: f64,
}

/// Counts of every operation, by `Service.Operation`.
#[derive(Debug, Default)]
pub struct Calls(Mutex<BTreeMap<String, Count>>);

impl Calls {
    /// All counts so far.
    #[must_use]
    pub fn read(&self) -> BTreeMap<String, Count> {
        self.lock().clone()
    }

    /// Sets all counts to zero, and says what they were.
    pub fn take(&self) -> BTreeMap<String, Count> {
        std::mem::take(&mut *self.lock())
    }

    pub(crate) fn consumed<'a>(&self, operation: &'static str, capacity: impl IntoIterator<Item = &'a ConsumedCapacity>) {
        let units: f64 = capacity.into_iter().filter_map(|capacity| capacity.capacity_units).sum();
        if units > 0.0 {
            self.lock().entry(format!("DynamoDB.{operation}")).or_default().units += units;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts each request just before it is sent.
#[derive(Debug)]
pub(crate) struct Counting(pub(crate) std::sync::Arc<Calls>);

#[dyn_dispatch_hint]
impl Intercept for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(metadata) = config.load::<Metadata>() {
            self.0.lock().entry(format!("{}.{}", metadata.service(), metadata.name())).or_default().calls += 1;
        }
        Ok(())
    }
}
