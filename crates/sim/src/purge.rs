//! An operator who purges the functions' queue, as `docs/operations.md` says or at once.

use crate::{
    dials::{DEADLINE, SECOND, START, World},
    executor::WORLD,
    faults::{Outage, Service, Struck},
    ports::millis,
    trial::{SharedRng, Trial, lock},
};

/// Longer than any invocation, and what clocks may differ by.
const TEN_MINUTES: u64 = 600 * SECOND;

impl Trial {
    /// Purges the queue once; just before, nothing can be sent for a while, so that outboxes stand that were not sent.
    pub(crate) fn purge(&self, rng: &SharedRng) {
        let from = START + lock(rng).u64(200..600) * SECOND;
        let trial = self.clone();
        match self.dials.world {
            World::Purged => self.world.executor.spawn(WORLD, async move { trial.purge_by_the_procedure(from).await }),
            World::PurgedAtOnce => self.world.executor.spawn(WORLD, async move { trial.purge_at_once(from).await }),
            _ => {}
        }
    }

    async fn purge_by_the_procedure(self, from: u64) {
        let executor = self.world.executor.clone();
        executor.sleep_until(from).await;
        self.deploy_marks(false);
        executor.sleep(millis(DEADLINE) + TEN_MINUTES).await;
        // The sweep nudges whoever has a mark; the operator looks at them.
        while self.marked() > 0 {
            executor.sleep(60 * SECOND).await;
        }
        self.nothing_is_sent_for(150 * SECOND);
        executor.sleep(100 * SECOND).await;
        self.world.lock().mapping_off = true;
        executor.sleep(millis(DEADLINE) + TEN_MINUTES).await;
        self.purge_now();
        executor.sleep(60 * SECOND).await;
        self.world.lock().mapping_off = false;
        self.deploy_marks(true);
    }

    async fn purge_at_once(self, from: u64) {
        self.world.executor.sleep_until(from).await;
        self.nothing_is_sent_for(150 * SECOND);
        self.world.executor.sleep(140 * SECOND).await;
        self.purge_now();
    }

    fn purge_now(&self) {
        let mut world = self.world.lock();
        let gone = world.stored.queues[0].purge();
        (0..gone).for_each(|_| world.struck(Struck::Purged));
    }

    /// A deployment that switches marks on or off.
    fn deploy_marks(&self, on: bool) {
        self.world.lock().marks_off = !on;
        self.retire();
    }

    /// Outboxes that stand and have a mark.
    fn marked(&self) -> usize {
        let world = self.world.lock();
        world.stored.table.values().filter(|record| !record.outbox.is_empty() && record.outbox.mark.is_some()).count()
    }

    fn nothing_is_sent_for(&self, millis: u64) {
        let from = self.world.executor.now();
        self.world.lock().outages.push(Outage { from, until: from + millis, service: Service::Sending });
    }
}
