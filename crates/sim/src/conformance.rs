//! The conformance kit on the simulated ports: the simulation judges engines by them, so they must be right themselves.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use statefun_core::{
    DeadLetter, Delivered, EgressRecord, Envelope, LastSeq, RefusedRecord, Safeguards, Timestamp, TypeName, queue_hash,
};
use statefun_engine::{
    conformance::{Backend, Finding, check},
    ports::{
        DeadLetters, Delivery, DueTimers, Egress, EnvelopeQueue, InstanceStore, Message, PortError, PortErrorKind, QueueConsumer,
        Receipt,
    },
};

use crate::{
    dials::START,
    executor::{Executor, WORLD},
    fifo::Fifo,
    ports::{Connection, millis},
    world::{Watch, World},
};

/// A store of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As DynamoDB: each write is durable when it returns.
    Plain,
    /// As the local host's: a commit hands its outbox over, and writes are durable after a barrier.
    Settling,
}

/// Runs the conformance kit on a simulated world without faults.
#[must_use]
pub fn conformance(safeguards: Safeguards, kind: Kind) -> Vec<Finding> {
    let executor = Executor::starting(START);
    let queues = ["one.fifo", "two.fifo"].map(|name| Fifo::new(name, 30_000, 1_000, u64::MAX / 2));
    let world = World::new(executor.clone(), fastrand::Rng::with_seed(1), queues, safeguards, Watch::Nothing);
    if kind == Kind::Settling {
        world.lock().settles = true;
        world.write_behind();
    }
    let connection = Connection::new(world, WORLD, 0, 0, false);
    let backend = Simulated { connection: Arc::new(connection), received: Arc::default() };
    let findings: Arc<Mutex<Option<Vec<Finding>>>> = Arc::default();
    let result = findings.clone();
    executor.spawn(WORLD, async move {
        let found = check(&backend).await;
        *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
    });
    executor.run(START + 3_600_000);
    let mut findings = findings.lock().unwrap_or_else(PoisonError::into_inner);
    findings.take().unwrap_or_else(|| vec!["the kit did not come to its end".to_owned()])
}

#[derive(Clone)]
struct Simulated {
    connection: Arc<Connection>,
    received: Arc<Mutex<Vec<Message>>>,
}

impl Simulated {
    fn with(&self, receipt: &Receipt, act: impl FnOnce(&mut Fifo, &Message, u64)) {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(message) = received.iter().find(|message| message.receipt == receipt.0) {
            let now = self.connection.world.executor.now();
            act(&mut self.connection.world.lock().stored.queues[0], message, now);
        }
    }
}

#[async_trait]
impl QueueConsumer for Simulated {
    async fn receive(&self, max: usize) -> Result<Vec<Delivery>, PortError> {
        self.connection.world.executor.sleep(10).await;
        let mut rng = fastrand::Rng::with_seed(self.connection.world.executor.now());
        let now = self.connection.world.executor.now();
        let messages = self.connection.world.lock().stored.queues[0].receive(max, now, &mut rng).0;
        self.received.lock().unwrap_or_else(PoisonError::into_inner).extend(messages.clone());
        let delivery = |message: Message| {
            let envelope = Envelope::from_wire(message.body.as_bytes());
            let envelope = envelope.map_err(|error| PortError::new("receive", PortErrorKind::Refused, error))?;
            let seq = LastSeq { queue: queue_hash(&message.queue), seq: message.seq };
            let (enqueued_at, receive_count) = (message.sent_at, message.receive_count);
            let delivered = Delivered { envelope: Arc::new(envelope), seq, enqueued_at, receive_count };
            Ok(Delivery { delivered, receipt: Receipt(message.receipt) })
        };
        messages.into_iter().map(delivery).collect()
    }

    async fn acknowledge(&self, receipt: &Receipt) -> Result<(), PortError> {
        self.with(receipt, |queue, message, now| queue.delete(message, now));
        Ok(())
    }

    async fn give_back(&self, receipt: &Receipt, after: Duration) -> Result<(), PortError> {
        self.with(receipt, |queue, message, now| queue.change_visibility(&message.receipt, now, millis(after)));
        Ok(())
    }
}

#[async_trait]
impl Backend for Simulated {
    fn store(&self) -> Arc<dyn InstanceStore> {
        self.connection.clone()
    }
    fn queue(&self) -> Arc<dyn EnvelopeQueue> {
        self.connection.clone()
    }
    fn consumer(&self) -> Arc<dyn QueueConsumer> {
        Arc::new(self.clone())
    }
    fn timers(&self) -> Arc<dyn DueTimers> {
        self.connection.clone()
    }
    fn egress(&self) -> Arc<dyn Egress> {
        self.connection.clone()
    }
    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        self.connection.clone()
    }
    fn now(&self) -> Timestamp {
        Timestamp(self.connection.world.executor.now())
    }
    async fn emitted(&self, egress: &TypeName) -> Vec<EgressRecord> {
        self.connection.world.lock().stored.egress.iter().filter(|record| record.egress == *egress).cloned().collect()
    }
    async fn parked(&self) -> Vec<DeadLetter> {
        self.connection.world.lock().stored.letters.values().cloned().collect()
    }
    async fn refused(&self) -> Vec<RefusedRecord> {
        self.connection.world.lock().stored.refused.values().cloned().collect()
    }
    async fn lose_power(&self) {
        self.connection.world.lose_power();
    }
}
