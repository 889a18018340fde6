//! The engine: what it is made of, and how a delivered batch goes through it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    StreamExt,
    stream::{self, FuturesUnordered},
};
use statefun_core::{Address, Delivered, OnFailure, Record, Rules, Timestamp};

use crate::{
    config::Config,
    functions::Functions,
    metrics::Metrics,
    ports::{Clock, DeadLetters, Egress, EnvelopeQueue, InstanceStore, Timers},
    run::Run,
    sticky::{Cached, Sticky},
};

/// Outboxes that are cleared at the same time.
const FINISHED_AT_ONCE: usize = 32;

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

/// What becomes of a delivered envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// What it caused is durable and sent (or it was applied before): acknowledge it.
    Done,
    /// It has to come again, after this pause; nothing later of its address may be acknowledged before it.
    Retry(Duration),
}

/// Runs the functions of an application over a backend. One engine serves any number of batches at the same time.
pub struct Engine {
    pub(crate) ports: Ports,
    pub(crate) functions: Functions,
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    sticky: Mutex<Sticky>,
    /// Held by whoever runs an envelope alone: of several that are suspected in one process, one at a time, or the death that one
    /// causes would be blamed on all.
    pub(crate) alone: futures_util::lock::Mutex<()>,
    /// Receives after which an envelope is suspected of taking processes with it.
    pub(crate) suspected_after: u32,
}

impl Engine {
    /// An engine for these functions over this backend.
    #[must_use]
    pub fn new(functions: Functions, ports: Ports, config: Config) -> Self {
        let metrics = Metrics::new(functions.iter().map(|function| function.spec.name.clone()));
        let sticky = Mutex::new(Sticky::new(config.sticky_records, config.sticky_bytes));
        let attempts = functions.iter().filter_map(|function| function.spec.on_failure.max_attempts());
        let suspected_after = attempts.min().unwrap_or(OnFailure::DEFAULT_ATTEMPTS);
        Self { ports, functions, config, metrics, sticky, alone: futures_util::lock::Mutex::new(()), suspected_after }
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
    pub async fn run_batch(&self, batch: &[Delivered], deadline: Timestamp) -> Vec<Outcome> {
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
        let runs = order.into_iter().filter_map(|address| groups.remove(address).map(|indices| (address, indices)));
        let mut runs: FuturesUnordered<_> = runs
            .map(|(address, indices)| async move {
                let deliveries: Vec<_> = indices.iter().map(|index| batch[*index].clone()).collect();
                (indices, self.run(address, &deliveries, deadline).await)
            })
            .collect();
        while let Some((indices, results)) = runs.next().await {
            for (index, outcome) in indices.into_iter().zip(results) {
                outcomes[index] = outcome;
            }
        }
        outcomes
    }

    /// Deals with the envelopes of one address, in queue order; one outcome per envelope.
    pub async fn run(&self, address: &Address, deliveries: &[Delivered], deadline: Timestamp) -> Vec<Outcome> {
        match self.functions.get(address.function()) {
            Some(function) => Run::new(self, function, address, deliveries, deadline).go().await,
            None => {
                // Nothing is lost and order is kept: the messages wait for a deployment that has the function.
                tracing::error!(function = %address.function(), "messages wait for a function that this application lacks: deploy it");
                vec![Outcome::Retry(self.config.backoff.longest); deliveries.len()]
            }
        }
    }

    /// Clears the outboxes that were left to a next commit. Call it before the environment goes away; without it they are sent
    /// once more when their address is next visited, under the same ids.
    pub async fn settle(&self) {
        let unfinished = self.sticky().clear();
        self.finish_all(unfinished).await;
    }

    /// Clears the outboxes that were left to a next commit, and for which none came since `moment`. Call it after every batch
    /// where an environment may be ended unasked. The records stay at hand.
    pub async fn settle_older(&self, moment: Timestamp) {
        let stale = self.sticky().take_unfinished_since(moment);
        for (address, record) in self.finish_all(stale).await {
            let record = Record { lease_until: Timestamp::ZERO, ..record };
            self.cache(&address, Cached { record, unfinished: false }).await;
        }
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.config.rules
    }

    pub(crate) fn take_cached(&self, address: &Address) -> Option<Cached> {
        self.sticky().take(address)
    }

    pub(crate) async fn cache(&self, address: &Address, cached: Cached) {
        let gone = match self.config.sticky_records {
            0 if cached.unfinished => vec![(address.clone(), cached)],
            0 => return,
            _ => self.sticky().put(address.clone(), cached, self.ports.clock.now()),
        };
        self.finish_all(gone).await;
    }

    /// Clears these outboxes; returns those records that are still the stored ones.
    async fn finish_all(&self, unfinished: Vec<(Address, Cached)>) -> Vec<(Address, Record)> {
        let finishing = unfinished.into_iter().map(|(address, Cached { record, .. })| async move {
            match self.ports.store.finish(&address, record.held()).await {
                Ok(finished) => finished.then_some((address, record)),
                Err(error) => {
                    tracing::debug!(%error, %address, "an outbox stays until the address is next visited");
                    None
                }
            }
        });
        stream::iter(finishing).buffer_unordered(FINISHED_AT_ONCE).filter_map(std::future::ready).collect().await
    }

    fn sticky(&self) -> MutexGuard<'_, Sticky> {
        // The cache is whole between calls: a panic elsewhere does not spoil it.
        self.sticky.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("functions", &self.functions).finish_non_exhaustive()
    }
}
