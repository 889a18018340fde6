//! One environment of the function: an engine with its own cache, over adapters of its own, as each process of a Lambda has.

use std::{sync::Arc, time::Duration};

use lambda_statefun::TypeName;
use statefun_aws::{Backend, Clients, Options, SystemClock};
use statefun_core::{Address, Delivered, Protocol, Rules};
use statefun_engine::{
    Config, Engine, Outcome, Ports,
    ports::{Clock, EnvelopeQueue},
};

use super::{
    case::Case,
    workload::{Shifted, application},
};
use crate::problem::{Problem, Result};

/// What an invocation may take.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Environment {
    engine: Engine,
    queues: Arc<statefun_aws::queues::SqsQueues>,
}

/// What engines counted: handler runs, commits, outboxes proven.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    pub(super) handler_runs: u64,
    pub(super) commits: u64,
    pub(super) proven: u64,
}

impl Environment {
    /// As `statefun-lambda` makes it.
    pub(super) fn new(clients: &Clients, options: &Options, case: &Case, addresses: &[Address], clock: &Shifted) -> Result<Self> {
        let backend = Backend::new(clients.clone(), options.clone());
        let app = application(case, addresses)?;
        let rules = Rules { protocol: Protocol { marks: options.marks, ..app.rules.protocol }, ..app.rules };
        let ports = Ports { clock: Arc::new(clock.clone()), ..backend.ports() };
        let config = Config { rules: rules.into(), first_run: fastrand::u64(..), ..Config::default() };
        Ok(Self { engine: Engine::new(app.functions, ports, config), queues: backend.queues })
    }

    /// An invocation.
    pub(super) async fn run(&self, batch: &[Delivered]) -> Result<()> {
        let outcomes = self.engine.run_batch(batch, SystemClock.moment().plus(TIMEOUT)).await;
        match outcomes.iter().all(|outcome| *outcome == Outcome::Done) {
            true => Ok(()),
            false => Err(Problem::new(format!("a message failed: {outcomes:?}"))),
        }
    }

    /// Sends as a router does.
    pub(super) async fn send(&self, envelopes: &[statefun_core::Envelope]) -> Result<()> {
        for sent in self.queues.send(&envelopes.iter().collect::<Vec<_>>()).await {
            sent?;
        }
        Ok(())
    }

    pub(super) fn counted(&self) -> Counted {
        let metrics = self.engine.metrics();
        Counted {
            handler_runs: metrics.total(|counters| &counters.invocations),
            commits: metrics.total(|counters| &counters.commits),
            proven: metrics.total(|counters| &counters.proven),
        }
    }

    /// Bytes of the line of metrics that it would write about a function (`emf.rs`): each counter that rose is named twice.
    pub(super) fn metrics_bytes(&self, function: &TypeName) -> usize {
        let counters = self.engine.metrics().of(function);
        let rose = counters.read().filter(|(_, _, value)| *value > 0);
        let each = rose.map(|(name, _, value)| {
            format!(r#"{{"Name":"{name}","Unit":"Count"}},"#).len() + format!(r#""{name}":{value},"#).len()
        });
        let frame = r#"{"_aws":{"CloudWatchMetrics":[{"Dimensions":[["function"]],"Metrics":[],"Namespace":"StateFun"}],"Timestamp":1700000000000},"function":""}"#;
        frame.len() + function.as_str().len() + each.sum::<usize>()
    }
}

impl std::ops::Add for Counted {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            handler_runs: self.handler_runs + other.handler_runs,
            commits: self.commits + other.commits,
            proven: self.proven + other.proven,
        }
    }
}
