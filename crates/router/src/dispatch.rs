//! Sends what records become, in order, as far as it goes.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use statefun_core::{Address, Envelope, Timestamp};
use statefun_engine::ports::{EnvelopeQueue, PortError};

use crate::{IngressRecord, MalformedRecord, MalformedSink, Outcome, Router, envelopes, malformed::malformed, route::chain};

/// What arrives in a batch.
#[derive(Debug, Clone)]
pub enum Arrival {
    /// A record.
    Record(IngressRecord),
    /// What could not even be read as one.
    Malformed(MalformedRecord),
}

/// Takes batches of records, routes them and sends what they become.
#[derive(Clone)]
pub struct Dispatcher {
    router: Arc<dyn Router>,
    queue: Arc<dyn EnvelopeQueue>,
    malformed: Arc<dyn MalformedSink>,
}

/// A record whose envelopes are on their way.
struct Work {
    /// Its place in the batch.
    record: usize,
    order: Option<String>,
    /// Those still to be sent, each for another address.
    waiting: Vec<Envelope>,
}

/// What is not to be sent any more, because a record before it was not: from which record on.
#[derive(Default)]
struct Blocked {
    orders: HashMap<String, usize>,
    addresses: HashMap<Address, usize>,
}

impl Blocked {
    fn concerns(&self, work: &Work) -> bool {
        let from = |from: Option<&usize>| from.is_some_and(|from| *from <= work.record);
        let order = work.order.as_ref().and_then(|order| self.orders.get(order));
        from(order) || work.waiting.iter().any(|envelope| from(self.addresses.get(&envelope.to)))
    }

    fn block(&mut self, work: &Work, address: Option<Address>) {
        let earliest = |from: &mut usize| *from = work.record.min(*from);
        if let Some(order) = work.order.clone() {
            self.orders.entry(order).and_modify(earliest).or_insert(work.record);
        }
        if let Some(address) = address {
            self.addresses.entry(address).and_modify(earliest).or_insert(work.record);
        }
    }
}

impl Dispatcher {
    /// A dispatcher of these.
    pub fn new(router: Arc<dyn Router>, queue: Arc<dyn EnvelopeQueue>, malformed: Arc<dyn MalformedSink>) -> Self {
        Self { router, queue, malformed }
    }

    /// Routes and sends a batch; says for each record, in their order, what became of it. Whatever is not
    /// [`Failed`](Outcome::Failed) is durable.
    ///
    /// Records of one [`order`](IngressRecord::order), and envelopes to one address, are sent in the order of the batch: a later
    /// one only in the same call or after the earlier one was accepted. After a failure nothing later of the same order or
    /// address is sent. A call to the queue has at most one envelope per address, and otherwise all that may be sent.
    ///
    /// `now` is when malformed records are said to be found.
    pub async fn dispatch(&self, batch: Vec<Arrival>, now: Timestamp) -> Vec<Outcome> {
        let mut outcomes = vec![Outcome::Done; batch.len()];
        let (mut works, mut letters) = (Vec::new(), Vec::new());
        for (index, arrival) in batch.into_iter().enumerate() {
            let letter = match arrival {
                Arrival::Malformed(letter) => letter,
                Arrival::Record(record) => match envelopes(&*self.router, &record) {
                    Ok(waiting) => {
                        works.push(Work { record: index, order: record.order, waiting });
                        continue;
                    }
                    Err(error) => malformed(&record, &error, now),
                },
            };
            letters.push((index, letter));
        }
        for (index, letter) in letters {
            outcomes[index] = self.park(&letter).await;
        }
        self.send_all(works, &mut outcomes).await;
        outcomes
    }

    async fn park(&self, letter: &MalformedRecord) -> Outcome {
        match self.malformed.park(letter).await {
            Ok(()) => {
                tracing::warn!(source = letter.source, "a malformed record went to the dead letters");
                Outcome::Parked
            }
            Err(error) => {
                tracing::warn!(
                    source = letter.source,
                    error = chain(&error),
                    "a malformed record could not be kept; it comes again"
                );
                Outcome::Failed
            }
        }
    }

    async fn send_all(&self, mut works: Vec<Work>, outcomes: &mut [Outcome]) {
        let mut blocked = Blocked::default();
        loop {
            works.retain(|work| {
                if work.waiting.is_empty() {
                    return false;
                }
                let stop = blocked.concerns(work);
                if stop {
                    outcomes[work.record] = Outcome::Failed;
                    blocked.block(work, None);
                }
                !stop
            });
            let chosen = choose(&works);
            if chosen.is_empty() {
                return;
            }
            let call: Vec<&Envelope> = chosen.iter().map(|(work, envelope)| &works[*work].waiting[*envelope]).collect();
            let mut results = self.queue.send(&call).await.into_iter();
            let mut errors: Vec<PortError> = Vec::new();
            let mut sent: HashMap<usize, HashSet<Address>> = HashMap::new();
            for (work, envelope) in chosen {
                let address = works[work].waiting[envelope].to.clone();
                match results.next() {
                    Some(Ok(())) => drop(sent.entry(work).or_default().insert(address)),
                    failed => {
                        errors.extend(failed.and_then(Result::err));
                        blocked.block(&works[work], Some(address));
                    }
                }
            }
            for (work, addresses) in sent {
                works[work].waiting.retain(|envelope| !addresses.contains(&envelope.to));
            }
            if let Some(first) = errors.first() {
                tracing::warn!(
                    failed = errors.len(),
                    error = chain(first),
                    "envelopes could not be sent; their records come again"
                );
            }
        }
    }
}

/// What may be sent now: record and envelope. Everything before it of the same order or address is sent, or in this choice.
fn choose(works: &[Work]) -> Vec<(usize, usize)> {
    let mut chosen = Vec::new();
    let mut addresses: HashSet<&Address> = HashSet::new();
    // Orders of which something has to wait for another call.
    let mut held: HashSet<&str> = HashSet::new();
    for (index, work) in works.iter().enumerate() {
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

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}
