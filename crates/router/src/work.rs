//! What is to be sent of a batch, and in which order.

use std::collections::{HashMap, HashSet};

use statefun_core::{Address, Envelope};

/// Envelopes from which on a call to the queue takes no further record's. Of a call that the deadline ends nothing counts as sent:
/// with calls that are not too long some of a large batch is done however slow the queue is.
pub(crate) const MAX_CALL: usize = 500;

/// A record whose envelopes are on their way.
pub(crate) struct Work {
    /// Its place in the batch.
    pub(crate) record: usize,
    pub(crate) order: Option<String>,
    /// Those still to be sent, each for another address.
    pub(crate) waiting: Vec<Envelope>,
}

/// What is not to be sent any more, because a record before it was not: from which record on.
#[derive(Default)]
pub(crate) struct Blocked {
    orders: HashMap<String, usize>,
    addresses: HashMap<Address, usize>,
}

impl Blocked {
    pub(crate) fn concerns(&self, work: &Work) -> bool {
        let from = |from: Option<&usize>| from.is_some_and(|from| *from <= work.record);
        let order = work.order.as_ref().and_then(|order| self.orders.get(order));
        from(order) || work.waiting.iter().any(|envelope| from(self.addresses.get(&envelope.to)))
    }

    pub(crate) fn block(&mut self, work: &Work, address: Option<Address>) {
        let earliest = |from: &mut usize| *from = work.record.min(*from);
        if let Some(order) = work.order.clone() {
            self.orders.entry(order).and_modify(earliest).or_insert(work.record);
        }
        if let Some(address) = address {
            self.addresses.entry(address).and_modify(earliest).or_insert(work.record);
        }
    }
}

/// What may be sent now: record and envelope. Everything before it of the same order or address is sent, or in this choice.
pub(crate) fn choose(works: &[Work]) -> Vec<(usize, usize)> {
    let mut chosen = Vec::new();
    let mut addresses: HashSet<&Address> = HashSet::new();
    // Orders of which something has to wait for another call.
    let mut held: HashSet<&str> = HashSet::new();
    for (index, work) in works.iter().enumerate() {
        if chosen.len() >= MAX_CALL {
            break;
        }
        let waits = work.order.as_deref().is_some_and(|order| held.contains(order));
        for (envelope, Envelope { to, .. }) in work.waiting.iter().enumerate() {
            // Taken even where it waits: nothing later may overtake it.
            if addresses.insert(to) && !waits {
                chosen.push((index, envelope));
            } else {
                held.extend(work.order.as_deref());
            }
        }
    }
    chosen
}
