//! What is to be sent of a batch, and in which order.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use statefun_core::{Address, Envelope};

/// Envelopes of one call to the queue. Of a call that the deadline ends nothing counts as sent: with calls that are not too long
/// some of a large batch is done however slow the queue is.
pub(crate) const MAX_CALL: usize = 500;

/// Envelopes that are looked at for one call. If thousands wait for one address, each call takes one of them, and must not look
/// at all the others.
const LOOK_AHEAD: usize = 10 * MAX_CALL;

/// An envelope on its way.
#[derive(Debug)]
pub(crate) struct Work {
    /// The arrival that it is of: its place in the batch.
    pub(crate) arrival: usize,
    /// The orders of the records it is made of.
    pub(crate) orders: Vec<Arc<str>>,
    pub(crate) envelope: Envelope,
}

/// The envelopes of a batch, in its order.
#[derive(Default)]
pub(crate) struct Works {
    /// Those that were sent or given up are gone.
    waiting: Vec<Option<Work>>,
    /// Before it nothing waits.
    first: usize,
    blocked: Blocked,
    /// Arrivals that are not sent whole.
    failed: Vec<usize>,
}

impl Works {
    pub(crate) fn new(works: Vec<Work>) -> Self {
        Self { waiting: works.into_iter().map(Some).collect(), ..Self::default() }
    }

    pub(crate) fn envelope(&self, place: usize) -> Option<&Envelope> {
        Some(&self.waiting.get(place)?.as_ref()?.envelope)
    }

    fn waiting(&self) -> impl Iterator<Item = (usize, &Work)> {
        let waiting = self.waiting.iter().enumerate().skip(self.first);
        waiting.filter_map(|(place, work)| Some((place, work.as_ref()?)))
    }

    /// What may be sent now: everything before it of the same order or address is sent, or, of the same order, in this choice.
    pub(crate) fn choose(&self) -> Vec<usize> {
        let mut chosen = Vec::new();
        let mut addresses: HashSet<&Address> = HashSet::new();
        // Orders of which something has to wait for another call.
        let mut held: HashSet<&str> = HashSet::new();
        for (place, work) in self.waiting().take(LOOK_AHEAD) {
            let waits = work.orders.iter().any(|order| held.contains(&**order));
            // Taken even where it waits: nothing later may overtake it.
            if addresses.insert(&work.envelope.to) && !waits {
                chosen.push(place);
                if chosen.len() == MAX_CALL {
                    break;
                }
            } else {
                held.extend(work.orders.iter().map(|order| &**order));
            }
        }
        chosen
    }

    /// Takes what a call did: whether each of its envelopes was accepted. After a failure nothing later of the same order or
    /// address waits any more.
    pub(crate) fn called(&mut self, accepted: impl IntoIterator<Item = (usize, bool)>) {
        let mut any_failed = false;
        for (place, accepted) in accepted {
            let Some(work) = self.waiting.get_mut(place).and_then(Option::take) else { continue };
            if !accepted {
                any_failed = true;
                self.blocked.block(place, &work.orders, Some(&work.envelope.to));
                self.failed.push(work.arrival);
            }
        }
        if any_failed {
            self.give_up_blocked();
        }
        self.first += self.waiting.iter().skip(self.first).take_while(|work| work.is_none()).count();
    }

    fn give_up_blocked(&mut self) {
        for (place, waiting) in self.waiting.iter_mut().enumerate().skip(self.first) {
            if let Some(work) = waiting.take_if(|work| self.blocked.concerns(place, work)) {
                self.blocked.block(place, &work.orders, None);
                self.failed.push(work.arrival);
            }
        }
    }

    /// The arrivals that were not sent whole, if nothing more is sent.
    pub(crate) fn failed(mut self) -> Vec<usize> {
        let left = self.waiting.iter().flatten().map(|work| work.arrival);
        self.failed.extend(left);
        self.failed
    }
}

/// What is not to be sent any more, because something before it was not: from which place on.
#[derive(Default)]
struct Blocked {
    orders: HashMap<Arc<str>, usize>,
    addresses: HashMap<Address, usize>,
}

impl Blocked {
    fn concerns(&self, place: usize, work: &Work) -> bool {
        let from = |from: Option<&usize>| from.is_some_and(|from| *from <= place);
        work.orders.iter().any(|order| from(self.orders.get(order))) || from(self.addresses.get(&work.envelope.to))
    }

    fn block(&mut self, place: usize, orders: &[Arc<str>], address: Option<&Address>) {
        let earliest = |from: &mut usize| *from = place.min(*from);
        for order in orders {
            self.orders.entry(order.clone()).and_modify(earliest).or_insert(place);
        }
        if let Some(address) = address {
            self.addresses.entry(address.clone()).and_modify(earliest).or_insert(place);
        }
    }
}
