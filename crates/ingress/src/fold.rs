//! What the user records of one record of Kinesis become: for each address as few envelopes as hold their messages.
//!
//! A mapping can only deliver the whole record again. With an envelope for each user record, of which a call takes one per address,
//! one that packs thousands for one address would not get through within an invocation, and would begin anew each time.

use std::{collections::HashMap, sync::Arc};

use statefun_core::{Address, Envelope, limits::MAX_ENVELOPE_MESSAGES};

use crate::{
    envelopes::{MAX_CONTENT_BYTES, content_bytes},
    work::Work,
};

/// Where an envelope is cut: never change it. An envelope has the id of its first user record. Of a record that is routed before and
/// after a change, what an envelope holds only since would be lost, or what it holds no more would take effect twice.
const FOLDED_MESSAGES: usize = 1_000;
const FOLDED_BYTES: usize = (1_024 - 16) << 10;
const _: () = assert!(FOLDED_MESSAGES <= MAX_ENVELOPE_MESSAGES && FOLDED_BYTES <= MAX_CONTENT_BYTES);

/// Folds the envelopes of one arrival. What comes of it depends on the arrival alone: neither on the rest of the batch nor on what
/// was sent before.
pub(crate) struct Fold {
    arrival: usize,
    works: Vec<Work>,
    /// The envelope of each address that still takes messages: its place among the works, and its bytes.
    open: HashMap<Address, (usize, usize)>,
}

impl Fold {
    pub(crate) fn new(arrival: usize) -> Self {
        Self { arrival, works: Vec::new(), open: HashMap::new() }
    }

    /// Adds what the next user record becomes. Its messages for one address stay together. One with a deduplication key of its
    /// producer's keeps envelopes of its own, since their ids say which record they are of.
    pub(crate) fn add(&mut self, order: Option<&Arc<str>>, envelopes: Vec<Envelope>) {
        for mut envelope in envelopes {
            let bytes = content_bytes(&envelope);
            if envelope.keyed {
                // What comes later must not get in front of it.
                self.open.remove(&envelope.to);
            } else if let Some((place, taken)) = self.open.get_mut(&envelope.to)
                && let Some(work) = self.works.get_mut(*place)
                && work.envelope.messages.len() + envelope.messages.len() <= FOLDED_MESSAGES
                && *taken + bytes <= FOLDED_BYTES
            {
                *taken += bytes;
                work.envelope.messages.append(&mut envelope.messages);
                work.orders.extend(order.filter(|order| work.orders.last() != Some(order)).cloned());
                continue;
            } else {
                self.open.insert(envelope.to.clone(), (self.works.len(), bytes));
            }
            self.works.push(Work { arrival: self.arrival, orders: order.cloned().into_iter().collect(), envelope });
        }
    }

    /// The envelopes, in the order of their first messages.
    pub(crate) fn into_works(self) -> Vec<Work> {
        self.works
    }
}
