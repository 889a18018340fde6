//! The store of instances: one record per address.

use async_trait::async_trait;
pub use statefun_core::protocol::{Committed, Leased, Leasing};
use statefun_core::{Address, Commit, EnvelopeId, Owner, Record, Timestamp};

use super::PortError;

/// What a read finds: `None` if there is no record.
pub type Found = Result<Option<Box<Record>>, PortError>;

/// Keeps the record of each address. Every write is conditional on the record's version and raises it, so that whoever works on what it read
/// before is refused; the store never waits.
#[async_trait]
pub trait InstanceStore: Send + Sync {
    /// Reads whole records (state, ledger, outbox): one result per address, in order. Strongly consistent with every write before it. Reads
    /// that can share a call do.
    ///
    /// A record is of one moment: what is kept apart from it is of the version that it names.
    async fn load(&self, addresses: &[&Address]) -> Vec<Found>;

    /// Takes a lease: sets it and the version that it makes, if the record has the version that is expected, or this very lease already (the
    /// answer to an earlier try was lost). Where there is no record, and none is expected, it makes an empty one.
    ///
    /// Durable when it returns. After an error it may have taken effect.
    async fn lease(&self, address: &Address, leasing: &Leasing) -> Result<Leased, PortError>;

    /// Replaces the record if its version is `commit.expect` (or there is none, if that is zero), and stores `commit.segment`, in one
    /// atomic step. The lease becomes what `commit.record` says.
    ///
    /// Durable when it returns. After an error it may have taken effect.
    async fn commit(&self, commit: &Commit) -> Result<Committed, PortError>;

    /// Empties the outbox, frees the lease and raises the version by one, if that is `expect`; else does nothing and returns `false`.
    ///
    /// Durable when it returns. After an error it may have taken effect.
    async fn finish(&self, address: &Address, expect: u64) -> Result<bool, PortError>;

    /// Frees the lease if `owner` has it, and raises the version by one; the outbox stays. Best called after a failure: the next try need not
    /// wait for the lease to run out.
    ///
    /// Durable when it returns. After an error it may have taken effect.
    async fn free(&self, address: &Address, owner: Owner) -> Result<(), PortError>;

    /// Which of `ids` are in the address's spilled segments whose newest entry is at `since` or later; ids that are
    /// [`keyed`](EnvelopeId::keyed) may be found in older ones too, and are not found once their own time is over, by the store's clock.
    /// Strongly consistent with every commit before it. Segments stay until they expire.
    async fn spilled(&self, address: &Address, ids: &[EnvelopeId], since: Timestamp) -> Result<Vec<EnvelopeId>, PortError>;

    /// Returns once everything that was written through this store before is durable: also where a write may return earlier. What
    /// comes next may end the process, and must not take that with it. A store whose writes are durable when they return has nothing
    /// to do here, and says so.
    async fn barrier(&self) -> Result<(), PortError>;
}
