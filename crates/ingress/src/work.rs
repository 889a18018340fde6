//! What is to be sent of a batch, and in which order.

use std::sync::Arc;

use statefun_core::{Address, Envelope, Safeguard, Safeguards, protocol::InOrder};

/// Envelopes of one call to the queue. Of a call that the deadline ends nothing counts as sent: with calls that are not too long
/// some of a large batch is done however slow the queue is.
pub(crate) const MAX_CALL: usize = 500;

/// An envelope on its way.
#[derive(Debug)]
pub(crate) struct Work {
    /// The arrival that it is of: its place in the batch.
    pub(crate) arrival: usize,
    /// The orders of the records it is made of.
    pub(crate) orders: Vec<Arc<str>>,
    pub(crate) envelope: Envelope,
}

/// What is kept in order.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    To(Address),
    Of(Arc<str>),
}

/// The envelopes of a batch, in its order.
pub(crate) struct Works {
    works: Vec<Work>,
    order: InOrder<Key>,
    /// Arrivals that are not sent whole.
    failed: Vec<usize>,
    safeguards: Safeguards,
}

impl Works {
    pub(crate) fn new(works: Vec<Work>, safeguards: Safeguards) -> Self {
        let mut order = InOrder::default();
        for work in &works {
            order.push(Some(Key::To(work.envelope.to.clone())), work.orders.iter().cloned().map(Key::Of).collect());
        }
        Self { works, order, failed: Vec::new(), safeguards }
    }

    pub(crate) fn envelope(&self, place: usize) -> &Envelope {
        &self.works[place].envelope
    }

    /// What is to be sent now.
    pub(crate) fn choose(&mut self) -> Vec<usize> {
        self.order.choose(MAX_CALL)
    }

    /// Takes what a call did: whether each of its envelopes was accepted.
    pub(crate) fn called(&mut self, accepted: impl IntoIterator<Item = (usize, bool)>) {
        let accepted: Vec<_> = accepted.into_iter().collect();
        let failed: Vec<_> = accepted.iter().filter(|(_, accepted)| !accepted).map(|(place, _)| *place).collect();
        let in_order = self.safeguards.on(Safeguard::RouteOrder);
        let given_up = self.order.called(accepted.into_iter().map(|(place, accepted)| (place, accepted || !in_order)));
        self.failed.extend(failed.into_iter().chain(given_up).map(|place| self.works[place].arrival));
    }

    /// The arrivals that were not sent whole, if nothing more is sent.
    pub(crate) fn failed(mut self) -> Vec<usize> {
        self.failed.extend(self.order.left().into_iter().map(|place| self.works[place].arrival));
        self.failed
    }
}
