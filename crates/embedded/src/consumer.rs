//! The receiving side of the queues as a port. The host itself uses [`Embedded::ready`], which says whose turn it is.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use statefun_core::Address;
use statefun_engine::ports::{Delivery, Moment, PortError, QueueConsumer, Receipt};

use crate::{Embedded, shared::State, tables::lanes::function_prefix};

/// Deliveries that are neither acknowledged nor given back.
#[derive(Debug, Default)]
pub(crate) struct Consumer {
    next: u64,
    open: HashMap<String, Open>,
    lanes: HashMap<Address, Lane>,
}

#[derive(Debug, Clone)]
struct Open {
    address: Address,
    seq: u64,
}

/// A lane that this consumer took.
#[derive(Debug, Default)]
struct Lane {
    open: usize,
    not_before: Option<Moment>,
}

#[async_trait]
impl QueueConsumer for Embedded {
    async fn receive(&self, max: usize) -> Result<Vec<Delivery>, PortError> {
        let mut deliveries = Vec::new();
        while deliveries.len() < max
            && let Some(address) = self.try_ready()?
        {
            let received = self.receive(&address, max - deliveries.len(), usize::MAX)?;
            if received.is_empty() {
                self.settle(&address, &[], None)?;
                continue;
            }
            let mut state = self.shared().lock("receive")?;
            for delivered in received {
                let receipt = state.consumer.open(&address, delivered.seq.seq);
                deliveries.push(Delivery { delivered, receipt });
            }
        }
        Ok(deliveries)
    }

    async fn acknowledge(&self, receipt: &Receipt) -> Result<(), PortError> {
        let mut guard = self.shared().lock("acknowledge")?;
        let state = &mut *guard;
        if let Some(Open { address, seq }) = state.consumer.open.remove(&receipt.0) {
            let lane = state.lanes.running(&address);
            let index = lane.and_then(|lane| lane.entries.iter().position(|entry| entry.seq == seq));
            if let Some(index) = index {
                state.remove(&address, &function_prefix(&address), index);
            }
            state.close_delivery(&address, None);
        }
        self.shared().finish(guard);
        Ok(())
    }

    async fn give_back(&self, receipt: &Receipt, after: Duration) -> Result<(), PortError> {
        let not_before = self.shared().clock.moment().plus(after);
        let mut guard = self.shared().lock("give_back")?;
        let state = &mut *guard;
        if let Some(Open { address, .. }) = state.consumer.open.remove(&receipt.0) {
            state.close_delivery(&address, (!after.is_zero()).then_some(not_before));
        }
        self.shared().finish(guard);
        Ok(())
    }
}

impl Consumer {
    fn open(&mut self, address: &Address, seq: u128) -> Receipt {
        self.next += 1;
        let receipt = self.next.to_string();
        // Sequence numbers of a lane are made from 64 bits.
        let seq = u64::try_from(seq).unwrap_or(u64::MAX);
        self.open.insert(receipt.clone(), Open { address: address.clone(), seq });
        self.lanes.entry(address.clone()).or_default().open += 1;
        Receipt(receipt)
    }
}

impl State {
    /// With its last delivery the lane is given back.
    fn close_delivery(&mut self, address: &Address, not_before: Option<Moment>) {
        let Some(lane) = self.consumer.lanes.get_mut(address) else { return };
        lane.open -= 1;
        lane.not_before = lane.not_before.max(not_before);
        if lane.open == 0 {
            let not_before = lane.not_before;
            self.consumer.lanes.remove(address);
            self.free(address, not_before);
        }
    }
}
