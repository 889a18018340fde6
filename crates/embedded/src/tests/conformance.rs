//! The rules of the ports, as the engine's kit checks them.

use async_trait::async_trait;
use statefun_engine::{
    conformance::{Backend, check},
    ports::{DeadLetters, DueTimers, Egress, EnvelopeQueue, InstanceStore, QueueConsumer},
};

use super::*;
use crate::Letter;

struct Ours {
    store: Embedded,
    hand: Hand,
}

#[async_trait]
impl Backend for Ours {
    fn store(&self) -> Arc<dyn InstanceStore> {
        Arc::new(self.store.clone())
    }
    fn queue(&self) -> Arc<dyn EnvelopeQueue> {
        Arc::new(self.store.clone())
    }
    fn consumer(&self) -> Arc<dyn QueueConsumer> {
        Arc::new(self.store.clone())
    }
    fn timers(&self) -> Arc<dyn DueTimers> {
        Arc::new(self.store.clone())
    }
    fn egress(&self) -> Arc<dyn Egress> {
        Arc::new(self.store.clone())
    }
    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        Arc::new(self.store.clone())
    }
    fn now(&self) -> Timestamp {
        self.hand.now()
    }
    async fn emitted(&self, egress: &TypeName) -> Vec<EgressRecord> {
        let batch = self.store.egress_batch(egress, usize::MAX).unwrap();
        batch.records.iter().map(|record| (**record).clone()).collect()
    }
    async fn parked(&self) -> Vec<DeadLetter> {
        let letters = self.store.letters(None, usize::MAX).unwrap();
        let dead = letters.into_iter().filter_map(|letter| match letter {
            Letter::Dead(letter) => Some(*letter),
            Letter::Malformed(_) => None,
        });
        dead.collect()
    }
}

#[tokio::test]
async fn conforms_with_and_without_settling() {
    for (settle, lane_envelopes, max_lanes) in [(true, 128, 1_000), (false, 128, 1_000), (true, 1, 4)] {
        let fixture = Fixture::with(Options { settle, lane_envelopes, max_lanes, ..Options::default() });
        let store = fixture.open();
        let ours = Ours { store, hand: fixture.hand.clone() };
        assert_eq!(check(&ours).await, Vec::<String>::new(), "settle: {settle}, lanes: {max_lanes}");
    }
}
