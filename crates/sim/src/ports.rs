//! The engine's other ports on the simulated world, as one environment sees them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use statefun_core::{
    DeadLetter, EgressRecord, Envelope, EnvelopeId, Reason, RefusedRecord, Timer, Timestamp, stored::MalformedRecord,
};
use statefun_engine::{
    Batcher, InFlight,
    backend::{self, Standing, TimerRows},
    ports::{
        Clock, DeadLetters, DueTimers, Egress, EnvelopeQueue, Failed, Letterbox, Moment, Outgoing, PortError, PortErrorKind,
        Timers, Visibility,
    },
};

use statefun_ingress::MalformedSink;

use crate::{
    dials::SECOND,
    executor::EnvId,
    faults::Struck,
    line::Line,
    router::as_newer,
    trial::QUEUES,
    workload::{FLOOD_PARTS, FLOOD_PAUSE, Payload},
    world::{World, WorldState},
};

/// One environment's connection to the world.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) world: World,
    pub(crate) env: EnvId,
    line: Line,
    /// The queue that its configuration names.
    pub(crate) queue: usize,
    /// It runs the version before this one.
    pub(crate) old: bool,
    /// Its commits that are on their way.
    pub(crate) in_flight: InFlight,
    batcher: Batcher,
    /// What it sends only a later deployment can read.
    pub(crate) newer: bool,
}

impl Connection {
    /// Its clock is ahead by `skew` milliseconds.
    pub(crate) fn new(world: World, env: EnvId, skew: i64, queue: usize, old: bool) -> Self {
        let line = Line { world: world.clone(), env, skew };
        let (in_flight, safeguards) = (InFlight::default(), world.lock().safeguards);
        let batcher = Batcher::new(Arc::new(line.clone()), Arc::new(line.clone()), in_flight.clone()).with(safeguards);
        Self { world, env, line, queue, old, in_flight, batcher, newer: false }
    }
}

#[async_trait]
impl Clock for Connection {
    fn now(&self) -> Timestamp {
        self.line.now()
    }

    fn moment(&self) -> Moment {
        self.line.moment()
    }

    async fn sleep_until(&self, moment: Moment) {
        self.line.sleep_until(moment).await;
    }
}

#[async_trait]
impl EnvelopeQueue for Connection {
    async fn send(&self, envelopes: &[&Envelope]) -> Vec<Result<(), PortError>> {
        let queue: Arc<str> = QUEUES[self.queue].into();
        let outgoing = |envelope: &&Envelope| {
            let mut message = Outgoing::envelope(envelope);
            if self.newer {
                self.world.lock().struck(Struck::Newer);
                message.body = as_newer(&message.body);
            }
            (queue.clone(), message)
        };
        self.batcher.send_all(envelopes.iter().map(outgoing).collect()).await
    }
}

#[async_trait]
impl Timers for Connection {
    async fn schedule(&self, timer: &Timer) -> Result<(), PortError> {
        let owned = timer.clone();
        let operation = move |world: &mut WorldState, _| {
            if world.stored.buried.contains(&owned.envelope.id) {
                world.struck(Struck::RowAfterTombstone);
            }
            world.stored.unsent.remove(&owned.envelope.id);
            world.stored.timers.entry((owned.due, owned.envelope.id)).or_insert(owned);
        };
        self.world.call(self.env, "schedule", &timer.envelope.to, operation).await
    }

    async fn remove(&self, timer: EnvelopeId, due: Timestamp) -> Result<(), PortError> {
        let safeguards = self.world.lock().safeguards;
        backend::cancel(self, timer, due, safeguards).await?;
        let mut world = self.world.lock();
        world.struck(Struck::Cancelled);
        world.stored.unscheduled.entry(timer).or_insert(self.world.executor.now());
        Ok(())
    }
}

#[async_trait]
impl TimerRows for Connection {
    type Row = Timer;

    fn key(row: &Timer) -> (EnvelopeId, Timestamp) {
        (row.envelope.id, row.due)
    }

    async fn read(&self, row: Timer) -> Result<Option<Timer>, PortError> {
        let key = (row.due, row.envelope.id);
        self.world.call(self.env, "timer", &row.envelope.id, move |world, _| world.stored.timers.get(&key).cloned()).await
    }

    async fn bury(&self, timer: EnvelopeId, _: Timestamp) -> Result<(), PortError> {
        let operation = move |world: &mut WorldState, _| _ = world.stored.buried.insert(timer);
        self.world.call(self.env, "bury", &timer, operation).await
    }

    async fn is_buried(&self, timer: EnvelopeId) -> Result<bool, PortError> {
        self.world.call(self.env, "is buried", &timer, move |world, _| world.stored.buried.contains(&timer)).await
    }

    async fn delete(&self, timer: EnvelopeId, due: Timestamp) -> Result<(), PortError> {
        let operation = move |world: &mut WorldState, _| drop(world.stored.timers.remove(&(due, timer)));
        self.world.call(self.env, "unschedule", &timer, operation).await
    }
}

#[async_trait]
impl DueTimers for Connection {
    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Timer>, PortError> {
        let operation = move |world: &mut WorldState, _| {
            let due = world.stored.timers.range(..=(now, EnvelopeId([0xff; 16]))).take(limit);
            due.map(|(_, timer)| timer.clone()).collect()
        };
        self.world.call(self.env, "due", &"", operation).await
    }
}

impl Connection {
    /// Outboxes that stand.
    pub(crate) async fn standing(&self) -> Result<Vec<Standing>, PortError> {
        let operation = |world: &mut WorldState, _| {
            let standing = world.stored.table.iter().filter(|(_, record)| !record.outbox.is_empty());
            standing.map(|(address, record)| Standing { address: address.clone(), outbox: record.outbox.clone() }).collect()
        };
        self.world.call(self.env, "sweep", &"", operation).await
    }
}

#[async_trait]
impl Egress for Connection {
    async fn emit(&self, records: &[&EgressRecord]) -> Vec<Result<(), PortError>> {
        let mut results: Vec<Result<(), PortError>> = Vec::with_capacity(records.len());
        for record in records {
            // As the real ones: after a failed one nothing later of its sender.
            if results.last().is_some_and(Result::is_err) {
                results.push(Err(PortError::new("emit", PortErrorKind::Unavailable, "one before it failed")));
                continue;
            }
            if record.value.get::<Payload>().is_ok_and(|payload| payload.is_some_and(|payload| payload.part >= FLOOD_PARTS)) {
                self.world.executor.sleep(FLOOD_PAUSE).await;
            }
            let owned = (*record).clone();
            let operation = move |world: &mut WorldState, now| {
                if world.denials.meets(&owned, now) {
                    world.struck(Struck::RecordDenied);
                    return Err(PortErrorKind::Refused);
                }
                if is_refused(&owned) {
                    world.struck(Struck::RecordRefused);
                    return Err(PortErrorKind::Rejected);
                }
                world.stored.unsent.remove(&owned.id);
                world.stored.egress.push(owned);
                Ok(())
            };
            let taken = self.world.call(self.env, "emit", &record.egress, operation).await;
            let refused = |kind| PortError::new("emit", kind, "it does not take this one");
            results.push(taken.and_then(|taken| taken.map_err(refused)));
        }
        results
    }
}

#[async_trait]
impl DeadLetters for Connection {
    async fn park(&self, letter: &DeadLetter) -> Result<(), PortError> {
        let owned = letter.clone();
        let operation = move |world: &mut WorldState, _| {
            world.stored.unsent.remove(&owned.id);
            if owned.reason == Reason::Malformed {
                world.struck(Struck::StrayParked);
                world.stored.strays.entry(owned.id).or_insert(owned);
            } else {
                world.stored.letters.entry(owned.id).or_insert(owned);
            }
        };
        self.world.call(self.env, "park", &letter.envelope.to, operation).await
    }

    async fn park_refused(&self, refused: &RefusedRecord) -> Result<(), PortError> {
        let owned = refused.clone();
        let operation = move |world: &mut WorldState, _| {
            world.stored.unsent.remove(&owned.record.id);
            world.stored.refused.entry(owned.record.id).or_insert(owned);
        };
        self.world.call(self.env, "park refused", &refused.record.from, operation).await
    }
}

#[async_trait]
impl Letterbox for Connection {
    async fn park_malformed(&self, record: &MalformedRecord) -> Result<(), PortError> {
        let owned = record.clone();
        let operation = move |world: &mut WorldState, _| {
            world.struck(Struck::MalformedParked);
            world.stored.malformed.entry(owned.id).or_insert(owned);
        };
        self.world.call(self.env, "park malformed", &record.position, operation).await
    }
}

#[async_trait]
impl Visibility for Connection {
    async fn delay(&self, queue: &str, failed: &[Failed]) -> Result<(), PortError> {
        let pauses: Vec<_> = failed.iter().map(|failed| (failed.receipt.clone(), u64::from(failed.seconds()) * SECOND)).collect();
        let name = queue.to_owned();
        let operation = move |world: &mut WorldState, now| {
            for queue in world.stored.queues.iter_mut().filter(|queue| **queue.name() == *name) {
                pauses.iter().for_each(|(receipt, after)| queue.change_visibility(receipt, now, *after));
            }
        };
        self.world.call(self.env, "delay", &queue, operation).await
    }
}

#[async_trait]
impl MalformedSink for Connection {
    async fn park(&self, record: &MalformedRecord) -> Result<(), PortError> {
        self.park_malformed(record).await
    }
}

/// Whether the egress's receiver refuses the record, always. Floods are taken: each record of one takes its time.
pub(crate) fn is_refused(record: &EgressRecord) -> bool {
    let payload = record.value.get::<Payload>().ok().flatten();
    payload.is_some_and(|payload| payload.number % 9 == 4 && payload.part < FLOOD_PARTS)
}

/// Milliseconds of a pause.
pub(crate) fn millis(pause: Duration) -> u64 {
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}
