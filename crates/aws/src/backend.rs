//! All adapters together.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use statefun_core::{Protocol, Timestamp, TypeName, protocol::Marks};
use statefun_engine::{
    Batcher, InFlight, Ports,
    ports::{Clock, Moment},
};
use tokio::time::Instant;

use crate::{
    clients::Clients,
    dead_letters::DeadLetterQueue,
    egress::{AwsEgress, Outlet},
    queues::{FunctionQueues, SqsQueues, SqsVisibility},
    requests::SqsRequests,
    store::DynamoStore,
    sweep::SweptMinutes,
    timers::DynamoTimers,
};

/// What a deployment consists of.
#[derive(Debug, Clone)]
pub struct Options {
    /// The table's name.
    pub table: String,
    /// The URL of the dead-letter queue (FIFO).
    pub dead_letters: String,
    /// The URL of the queue of timers' wake-ups (standard).
    pub timers: String,
    /// The functions' queues.
    pub queues: FunctionQueues,
    /// Where egresses go.
    pub egress: BTreeMap<TypeName, Outlet>,
    /// Whether outboxes have marks: the functions' queues must have no redrive policy then.
    pub marks: Option<Marks>,
}

/// The adapters over one deployment. Nothing is sent before they are used.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Clients, and counts of calls.
    pub clients: Clients,
    /// Instances.
    pub store: Arc<DynamoStore>,
    /// Envelopes.
    pub queues: Arc<SqsQueues>,
    /// When failed envelopes come again.
    pub visibility: SqsVisibility,
    /// Delayed messages.
    pub timers: Arc<DynamoTimers>,
    /// The way out.
    pub egress: Arc<AwsEgress>,
    /// What was given up.
    pub dead_letters: Arc<DeadLetterQueue>,
    pub(crate) protocol: Protocol,
    pub(crate) swept: Arc<SweptMinutes>,
}

impl Backend {
    /// The adapters of this deployment.
    #[must_use]
    pub fn new(clients: Clients, options: Options) -> Self {
        let in_flight = InFlight::default();
        let requests = Arc::new(SqsRequests(clients.sqs.clone()));
        let batcher = Batcher::new(requests, Arc::new(SystemClock), in_flight.clone());
        let functions = Arc::new(options.queues);
        let store = DynamoStore::new(&clients, options.table).counted(in_flight);
        let queues = Arc::new(SqsQueues::new(batcher.clone(), functions.clone()));
        let timers = DynamoTimers::new(store.clone(), batcher.clone(), options.timers, queues.clone());
        Self {
            store: Arc::new(store),
            queues,
            visibility: SqsVisibility::new(&clients, functions),
            timers: Arc::new(timers),
            egress: Arc::new(AwsEgress::new(clients.clone(), options.egress)),
            dead_letters: Arc::new(DeadLetterQueue::new(&clients, batcher, options.dead_letters)),
            clients,
            protocol: Protocol { marks: options.marks, ..Protocol::default() },
            swept: Arc::default(),
        }
    }

    /// As the engine takes them.
    #[must_use]
    pub fn ports(&self) -> Ports {
        Ports {
            store: self.store.clone(),
            queue: self.queues.clone(),
            timers: self.timers.clone(),
            egress: self.egress.clone(),
            dead_letters: self.dead_letters.clone(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// The environment's clocks. All values are the same clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// The start of this process's moments.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all others are given")]
    fn now(&self) -> Timestamp {
        Timestamp::ZERO.plus(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    fn moment(&self) -> Moment {
        let start = *START;
        Moment::after_start(start.elapsed())
    }

    async fn sleep_until(&self, moment: Moment) {
        tokio::time::sleep(moment.since(self.moment())).await;
    }
}
