//! The rules of the ports, as the engine's kit checks them.

use std::sync::Mutex;

use async_trait::async_trait;
use statefun_engine::{
    conformance::{Backend, check},
    ports::{
        Committed, DeadLetters, DueTimers, Egress, EnvelopeQueue, Found, InstanceStore, Leased, Leasing, PortError, QueueConsumer,
    },
};

use super::*;
use crate::Letter;

/// The store under test: another one after each power cut, on the same folder.
struct Ours {
    fixture: Fixture,
    open: Mutex<Embedded>,
    /// Whether its barrier waits.
    barrier: bool,
}

impl Ours {
    fn new(options: Options) -> Self {
        let fixture = Fixture::with(options);
        let open = Mutex::new(fixture.open());
        Self { fixture, open, barrier: true }
    }

    fn store(&self) -> Embedded {
        self.open.lock().unwrap().clone()
    }
}

#[async_trait]
impl Backend for Ours {
    fn store(&self) -> Arc<dyn InstanceStore> {
        if self.barrier { Arc::new(self.store()) } else { Arc::new(WithoutBarrier(self.store())) }
    }
    fn queue(&self) -> Arc<dyn EnvelopeQueue> {
        Arc::new(self.store())
    }
    fn consumer(&self) -> Arc<dyn QueueConsumer> {
        Arc::new(self.store())
    }
    fn timers(&self) -> Arc<dyn DueTimers> {
        Arc::new(self.store())
    }
    fn egress(&self) -> Arc<dyn Egress> {
        Arc::new(self.store())
    }
    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::new(self.store())
    }
    fn now(&self) -> Timestamp {
        self.fixture.hand.now()
    }
    async fn emitted(&self, egress: &TypeName) -> Vec<EgressRecord> {
        let batch = self.store().egress_batch(egress, usize::MAX).unwrap();
        batch.records.iter().map(|record| (**record).clone()).collect()
    }
    async fn parked(&self) -> Vec<DeadLetter> {
        let letters = self.store().letters(None, usize::MAX).unwrap();
        let dead = letters.into_iter().filter_map(|letter| match letter {
            Letter::Dead(letter) => Some(*letter),
            Letter::Malformed(_) | Letter::Refused(_) => None,
        });
        dead.collect()
    }
    async fn refused(&self) -> Vec<RefusedRecord> {
        let letters = self.store().letters(None, usize::MAX).unwrap();
        let refused = letters.into_iter().filter_map(|letter| match letter {
            Letter::Refused(refused) => Some(*refused),
            Letter::Dead(_) | Letter::Malformed(_) => None,
        });
        refused.collect()
    }
    async fn lose_power(&self) {
        self.store().abandon();
        *self.open.lock().unwrap() = self.fixture.open();
    }
}

/// A store that returns from its barrier at once.
struct WithoutBarrier(Embedded);

#[async_trait]
impl InstanceStore for WithoutBarrier {
    async fn load(&self, addresses: &[&Address]) -> Vec<Found> {
        self.0.load(addresses).await
    }
    async fn lease(&self, address: &Address, leasing: &Leasing) -> Result<Leased, PortError> {
        self.0.lease(address, leasing).await
    }
    async fn commit(&self, commit: &Commit) -> Result<Committed, PortError> {
        self.0.commit(commit).await
    }
    async fn finish(&self, address: &Address, expect: u64) -> Result<bool, PortError> {
        self.0.finish(address, expect).await
    }
    async fn free(&self, address: &Address, owner: Owner) -> Result<(), PortError> {
        self.0.free(address, owner).await
    }
    async fn spilled(&self, address: &Address, ids: &[EnvelopeId], since: Timestamp) -> Result<Vec<EnvelopeId>, PortError> {
        self.0.spilled(address, ids, since).await
    }
    async fn barrier(&self) -> Result<(), PortError> {
        Ok(())
    }
}

/// Nothing is written by itself.
const NEVER: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn conforms_with_and_without_settling() {
    let by_itself = Options::default().linger;
    for (settle, lane_envelopes, max_lanes) in [(true, 128, 1_000), (false, 128, 1_000), (true, 1, 4)] {
        for linger in [by_itself, NEVER] {
            let ours = Ours::new(Options { settle, lane_envelopes, max_lanes, linger, ..Options::default() });
            assert_eq!(check(&ours).await, Vec::<String>::new(), "settle: {settle}, lanes: {max_lanes}, linger: {linger:?}");
        }
    }
}

#[tokio::test]
async fn a_barrier_that_does_nothing_is_noticed() {
    for settle in [true, false] {
        let ours = Ours::new(Options { settle, linger: NEVER, ..Options::default() });
        let findings = check(&Ours { barrier: false, ..ours }).await;
        assert!(matches!(&findings[..], [only] if only.starts_with("barrier: ")), "{findings:?}");
    }
}
