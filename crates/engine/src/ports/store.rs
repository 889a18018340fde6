//! The store of instances: one record per address.

use async_trait::async_trait;
pub use statefun_core::protocol::Committed;
use statefun_core::{Address, Commit, EnvelopeId, Held, Record, Timestamp};

use super::PortError;

/// What [`InstanceStore::acquire`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// The lease is held now: the record as it is, epoch and lease included. A record that did not exist was made.
    Held(Box<Record>),
    /// Another environment holds the lease.
    Busy,
}

/// Keeps the record of each address, under leases. Every write is conditional; the store never waits for a lease.
#[async_trait]
pub trait InstanceStore: Send + Sync {
    /// If the lease is free or ran out before `now`: adds one to the epoch, sets `lease_until` to `until` and returns the whole
    /// record (state, ledger, outbox) in the same atomic step. A new record has `born = now`.
    ///
    /// Durable when it returns. After an error the lease may be held all the same; it then runs out.
    async fn acquire(&self, address: &Address, now: Timestamp, until: Timestamp) -> Result<Acquired, PortError>;

    /// Replaces the record if its epoch and version are `commit.expect`, and stores `commit.segment`, in one atomic step. The
    /// lease becomes what `commit.record` says.
    ///
    /// Durable when it returns. After an error it may have taken effect.
    async fn commit(&self, commit: &Commit) -> Result<Committed, PortError>;

    /// Empties the outbox and frees the lease if epoch and version are `expect`; else does nothing and returns `false`.
    ///
    /// Durable when it returns. After an error it may have taken effect.
    async fn finish(&self, address: &Address, expect: Held) -> Result<bool, PortError>;

    /// Frees the lease if the epoch is still `epoch`; the outbox stays. Best called after a failure: the next try need not wait for
    /// the lease to run out. Writes of that epoch which are still on their way take effect only if nobody acquired meanwhile.
    ///
    /// Durable when it returns. After an error it may have taken effect.
    async fn release(&self, address: &Address, epoch: u64) -> Result<(), PortError>;

    /// Which of `ids` are in the address's spilled segments whose newest entry is at `since` or later; ids that are
    /// [`keyed`](EnvelopeId::keyed) may be found in older ones too, and are not found once their own time is over, by the store's clock.
    /// Strongly consistent with every commit before it. Segments stay until they expire.
    async fn spilled(&self, address: &Address, ids: &[EnvelopeId], since: Timestamp) -> Result<Vec<EnvelopeId>, PortError>;

    /// Returns once everything that was written through this store before is durable: also where a write may return earlier. What
    /// comes next may end the process, and must not take that with it. A store whose writes are durable when they return has nothing
    /// to do here, and says so.
    async fn barrier(&self) -> Result<(), PortError>;
}
