//! What the router needs beside the engine's ports. The AWS adapters implement it; tests have their own.

use std::collections::BTreeSet;

use async_trait::async_trait;
use statefun_aws::{
    Outboxes,
    dead_letters::{Deleted, Listed, Replayed, Selection},
    timers::Swept,
};
use statefun_core::{Address, Record};
use statefun_engine::{
    backend::Nudged,
    ports::{Moment, PortError},
};

/// What the router does beside routing.
#[async_trait]
pub(crate) trait Operations: Send + Sync {
    /// Fires the timer that a wake-up names. Its envelope is in its queue when this returns.
    async fn wake_up(&self, body: &str) -> Result<(), PortError>;

    /// Fires what is overdue, and arms what falls due before the next sweep.
    async fn sweep(&self, deadline: Moment) -> Result<Swept, PortError>;

    /// Nudges those whose outboxes stand, in a part of the table.
    async fn sweep_outboxes(&self, deadline: Moment) -> Nudged;

    /// Nudges those whose outboxes stand, from a part of the table on, as far as there is time; returns the part to go on with.
    async fn sweep_all_outboxes(&self, from: u32, deadline: Moment) -> (Nudged, Option<u32>);

    /// Outboxes that stand, from a part of the table on, as far as there is time.
    async fn outboxes(&self, from: u32, deadline: Moment) -> Result<Outboxes, PortError>;

    /// Up to `max` dead letters, as many as there is time for.
    async fn list(&self, max: usize, payloads: bool, deadline: Moment) -> Result<Listed, PortError>;

    /// Sends up to `max` of the selected dead letters again, as many as there is time for.
    async fn replay(&self, selection: &Selection, max: usize, deadline: Moment) -> Result<Replayed, PortError>;

    /// Deletes the dead letters with these ids, and all malformed ones if that is asked for.
    async fn delete(&self, ids: &BTreeSet<String>, malformed: bool, deadline: Moment) -> Result<Deleted, PortError>;

    /// The record of an instance as it is.
    async fn peek(&self, address: &Address) -> Result<Option<Record>, PortError>;
}
