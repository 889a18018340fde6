//! The AWS adapters as the entry points' ports.

use std::collections::BTreeSet;

use async_trait::async_trait;
use statefun_aws::{
    Backend, Outboxes,
    dead_letters::{Deleted, Listed, Receivers, Replayed, Selection},
    timers::Swept,
};
use statefun_core::{Address, Record, stored::MalformedRecord};
use statefun_engine::{
    backend::Nudged,
    ports::{Letterbox, Moment, PortError},
};
use statefun_ingress::MalformedSink;

use crate::ports::Operations;

/// The dead letters as the router's.
pub(crate) struct Malformed(pub(crate) std::sync::Arc<dyn Letterbox>);

#[async_trait]
impl MalformedSink for Malformed {
    async fn park(&self, record: &MalformedRecord) -> Result<(), PortError> {
        self.0.park_malformed(record).await
    }
}

#[async_trait]
impl Operations for Backend {
    async fn wake_up(&self, body: &str) -> Result<(), PortError> {
        self.timers.wake_up(body).await
    }

    async fn sweep(&self, deadline: Moment) -> Result<Swept, PortError> {
        self.timers.sweep(deadline).await
    }

    async fn sweep_outboxes(&self, deadline: Moment) -> Nudged {
        self.sweep_outboxes(deadline).await
    }

    async fn sweep_all_outboxes(&self, from: u32, deadline: Moment) -> (Nudged, Option<u32>) {
        self.sweep_all_outboxes(from, deadline).await
    }

    async fn outboxes(&self, from: u32, deadline: Moment) -> Result<Outboxes, PortError> {
        self.outboxes(from, deadline).await
    }

    async fn list(&self, max: usize, payloads: bool, deadline: Moment) -> Result<Listed, PortError> {
        self.dead_letters.list(max, payloads, deadline).await
    }

    async fn replay(&self, selection: &Selection, max: usize, deadline: Moment) -> Result<Replayed, PortError> {
        let to = Receivers { queues: &self.queues, egress: &*self.egress };
        self.dead_letters.replay(to, selection, max, deadline).await
    }

    async fn delete(&self, ids: &BTreeSet<String>, malformed: bool, deadline: Moment) -> Result<Deleted, PortError> {
        self.dead_letters.delete(ids, malformed, deadline).await
    }

    async fn peek(&self, address: &Address) -> Result<Option<Record>, PortError> {
        self.store.peek(address).await
    }
}
