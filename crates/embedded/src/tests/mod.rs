//! The store as its callers see it.

mod bounds;
mod conformance;
mod crash;
mod delivery;
mod engine;
mod ingest;
mod instances;
mod opening;
mod outlets;
mod timers;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use statefun_core::*;
use statefun_engine::ports::{Clock, Moment};
use tempfile::TempDir;

use crate::{Embedded, Options, tables::samples};

/// Clocks that stand still until they are moved on.
#[derive(Clone)]
struct Hand(Arc<Hands>);

struct Hands {
    wall: AtomicU64,
    elapsed: AtomicU64,
}

impl Hand {
    fn new() -> Self {
        Self(Arc::new(Hands { wall: AtomicU64::new(1_000_000_000), elapsed: AtomicU64::new(0) }))
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.wall.load(Ordering::SeqCst))
    }

    fn moment(&self) -> Moment {
        Moment::after_start(Duration::from_millis(self.0.elapsed.load(Ordering::SeqCst)))
    }

    /// Time passes.
    fn advance(&self, by: Duration) {
        self.0.wall.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        self.0.elapsed.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// Somebody sets the wall clock.
    fn set(&self, now: Timestamp) {
        self.0.wall.store(now.0, Ordering::SeqCst);
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl Clock for Hand {
    fn now(&self) -> Timestamp {
        self.now()
    }

    fn moment(&self) -> Moment {
        self.moment()
    }

    async fn sleep_until(&self, moment: Moment) {
        while self.moment() < moment {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A store in a folder that goes away with it.
struct Fixture {
    dir: TempDir,
    hand: Hand,
    options: Options,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), hand: Hand::new(), options }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn open(&self) -> Embedded {
        Embedded::open(self.path(), self.options.clone(), self.hand.clock()).unwrap()
    }
}

fn address(id: impl std::fmt::Display) -> Address {
    Address::parse(&format!("example/greeter/{id}")).unwrap()
}

/// The `number`-th envelope to an address.
fn envelope(to: &Address, number: u32) -> Envelope {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Envelope { id: EnvelopeId(id), to: to.clone(), from: None, trace: None, ..samples::envelope(1) }
}

/// The number of an envelope made by [`envelope`].
fn number(envelope: &Envelope) -> u32 {
    u32::from_be_bytes(envelope.id.0[..4].try_into().unwrap())
}

async fn put(store: &Embedded, to: &Address, numbers: impl IntoIterator<Item = u32>) -> crate::Op {
    let envelopes = numbers.into_iter().map(|number| envelope(to, number)).collect();
    store.ingest(envelopes, None, false).await.unwrap().op
}

/// Takes the next lane, receives up to `max` and settles them. `None` if nothing is ready.
fn run_one(store: &Embedded, max: usize) -> Option<(Address, Vec<u32>)> {
    let address = store.try_ready().unwrap()?;
    let received = store.receive(&address, max, usize::MAX).unwrap();
    let done: Vec<_> = received.iter().map(|delivered| delivered.seq.seq).collect();
    store.settle(&address, &done, None).unwrap();
    Some((address, received.iter().map(|delivered| number(&delivered.envelope)).collect()))
}

/// A commit on this record, with these effects.
fn commit(address: &Address, record: &Record, effects: Vec<Effect>) -> Commit {
    let next = Record { version: record.next_version(), outbox: effects.into(), ..record.clone() };
    Commit { address: address.clone(), expect: record.version, record: next, changed: Vec::new(), segment: None }
}
