//! The engine: what it is made of, and how a delivered batch goes through it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use statefun_core::{
    Address, Delivered, Owner, Record, Rules,
    protocol::{At, Batch, Lost, Outcome, Pace},
};

use crate::{
    cache::Cache,
    config::Config,
    cut::Cut,
    drive::Drive,
    functions::Functions,
    gate::Gate,
    metrics::Metrics,
    ports::{Clock, DeadLetters, Egress, EnvelopeQueue, Found, InstanceStore, Moment, PortError, PortErrorKind, Timers},
    watch::Watch,
};

/// Something that a run holds as long as it may run handlers beside others, such as a place among those that run at a time. A run drops
/// it when it has to wait for its turn to run alone.
pub type Permit = Option<Box<dyn Send + Sync>>;

/// What a run begins with.
#[derive(Default)]
struct Start<'a> {
    permit: Permit,
    watch: Option<&'a Watch>,
    lost: Option<Lost>,
    /// What a read that was shared with other addresses found.
    found: Option<Found>,
    /// Further addresses in the same batch.
    others: usize,
    /// When the batch began, if that was before: what a shared read takes is of its time too.
    began: Option<At>,
}

/// A backend: everything the engine needs from outside.
#[derive(Clone)]
#[expect(missing_docs, reason = "each is what its trait says")]
pub struct Ports {
    pub store: Arc<dyn InstanceStore>,
    pub queue: Arc<dyn EnvelopeQueue>,
    pub timers: Arc<dyn Timers>,
    pub egress: Arc<dyn Egress>,
    pub dead_letters: Arc<dyn DeadLetters>,
    pub clock: Arc<dyn Clock>,
}

/// Runs the functions of an application over a backend. One engine serves any number of batches at the same time.
pub struct Engine {
    pub(crate) ports: Ports,
    pub(crate) functions: Functions,
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    cache: Mutex<Cache>,
    runs: AtomicU64,
    pub(crate) gate: Gate,
    pub(crate) cut: Cut,
}

impl Engine {
    /// An engine for these functions over this backend.
    #[must_use]
    pub fn new(functions: Functions, ports: Ports, config: Config) -> Self {
        let metrics = Metrics::new(functions.iter().map(|function| function.spec.name.clone()));
        let cache = Mutex::new(Cache::new(config.sticky_records, config.sticky_bytes, config.cache));
        let runs = AtomicU64::new(config.first_run);
        Self { ports, functions, config, metrics, cache, runs, gate: Gate::default(), cut: Cut::default() }
    }

    /// What the engine counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The functions it runs.
    #[must_use]
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// Deals with a batch of envelopes for any addresses: addresses at the same time, each address in order. One outcome per
    /// envelope, in the batch's order. Handlers still running near `deadline` are given up.
    pub async fn run_batch(&self, batch: &[Delivered], deadline: Moment) -> Vec<Outcome> {
        let mut groups: HashMap<&Address, Vec<usize>> = HashMap::new();
        let mut order = Vec::new();
        for (index, delivered) in batch.iter().enumerate() {
            let group = groups.entry(&delivered.envelope.to).or_default();
            if group.is_empty() {
                order.push(&delivered.envelope.to);
            }
            group.push(index);
        }
        let mut outcomes = vec![Outcome::Retry(Duration::ZERO); batch.len()];
        let began = Some(self.at());
        let mut found = self.read_together(&order).await;
        let others = order.len().saturating_sub(1);
        let runs = order.into_iter().filter_map(|address| groups.remove(address).map(|indices| (address, indices)));
        let mut runs: FuturesUnordered<_> = runs
            .map(|(address, indices)| {
                let found = found.remove(address);
                async move {
                    let deliveries = indices.iter().map(|index| batch[*index].clone()).collect();
                    (
                        indices,
                        self.run_in(address, deliveries, deadline, Start { found, others, began, ..Start::default() }).await,
                    )
                }
            })
            .collect();
        while let Some((indices, results)) = runs.next().await {
            for (index, outcome) in indices.into_iter().zip(results) {
                outcomes[index] = outcome;
            }
        }
        outcomes
    }

    /// Deals with the envelopes of one address, in queue order; one outcome per envelope. `permit` is dropped when the run has to wait for
    /// its turn to run alone, or ends.
    pub async fn run(&self, address: &Address, deliveries: Arc<[Delivered]>, deadline: Moment, permit: Permit) -> Vec<Outcome> {
        self.run_in(address, deliveries, deadline, Start { permit, ..Start::default() }).await
    }

    /// The same, watched: where each address has a task of its own and its handlers may hold a thread. `lost` is what
    /// [`give_up`](Self::give_up) returned for the run of these deliveries before this one.
    pub async fn run_watched(
        &self,
        address: &Address,
        deliveries: Arc<[Delivered]>,
        deadline: Moment,
        permit: Permit,
        watch: &Watch,
        lost: Option<Lost>,
    ) -> Vec<Outcome> {
        self.run_in(address, deliveries, deadline, Start { permit, watch: Some(watch), lost, ..Start::default() }).await
    }

    async fn run_in(&self, address: &Address, deliveries: Arc<[Delivered]>, deadline: Moment, start: Start<'_>) -> Vec<Outcome> {
        let Start { permit, watch, lost, found, others, began } = start;
        let began = began.unwrap_or_else(|| self.at());
        let Some(function) = self.functions.get(address.function()) else {
            // Nothing is lost and order is kept: the messages wait for a deployment that has the function.
            tracing::error!(function = %address.function(), "messages wait for a function that this application lacks: deploy it");
            return vec![Outcome::Retry(self.config.backoff.longest); deliveries.len()];
        };
        let Config { lease_after, lease_margin, reserve, backoff, drain_at_once, .. } = self.config;
        let pace = Pace { lease_after, lease_margin, reserve, backoff, drain_at_once };
        let (spec, rules) = (function.spec.clone(), self.config.rules.clone());
        let batch = Batch::new(spec, rules, pace, (address.clone(), deliveries), deadline, self.next_owner(), lost, began);
        let counters = self.metrics.of(address.function());
        let (alone, beside, among, error) = (None, None, others + 1, None);
        let drive = Drive { engine: self, function, counters, address, permit, watch, alone, beside, found, among, error };
        drive.run(batch).await
    }

    /// Gives up all handlers that are still at work, now and from now on, and takes back what is noted of them: for a host that stops. Their
    /// runs end soon, nothing of these messages is committed, and none of them counts as tried.
    pub fn cut_short(&self) {
        self.cut.cut();
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.config.rules
    }

    /// A number that no other run has, in this process or elsewhere.
    fn next_owner(&self) -> Owner {
        Owner(self.runs.fetch_add(1, Ordering::Relaxed))
    }

    /// Reads the records of addresses, as many as are not to be had from the cache, in one call.
    async fn read_together<'a>(&self, addresses: &[&'a Address]) -> HashMap<&'a Address, Found> {
        let reads: Vec<_> = {
            let cache = self.cache();
            let is_known = |address: &&&Address| self.functions.get(address.function()).is_some();
            addresses.iter().filter(is_known).filter(|address| !cache.has(address)).copied().collect()
        };
        if reads.len() < 2 {
            return HashMap::new();
        }
        let found = self.ports.store.load(&reads).await;
        reads.into_iter().zip(found).collect()
    }

    pub(crate) async fn read(&self, address: &Address) -> Found {
        let missing = || Err(PortError::new("load", PortErrorKind::Unavailable, "the store gave no answer"));
        self.ports.store.load(&[address]).await.pop().unwrap_or_else(missing)
    }

    pub(crate) fn keep(&self, address: &Address, record: Box<Record>) {
        if self.config.sticky_records > 0 {
            self.cache().put(address.clone(), record);
        }
    }

    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        // The cache is whole between calls: a panic elsewhere does not spoil it.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("functions", &self.functions).finish_non_exhaustive()
    }
}
