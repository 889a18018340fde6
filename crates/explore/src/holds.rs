//! What has to hold of a world, at any moment and at the end.

use statefun_core::{Effect, Outbox};

use crate::world::{ADDRESSES, World};

impl World {
    /// The outbox of an address is replaced by another one, or cleared.
    pub(crate) fn goes(&mut self, address: usize, stays: &Outbox) {
        let Some(record) = &self.records[address] else { return };
        self.unsent |= record.outbox.entries.iter().any(|entry| self.is_unsent(entry) && !stays.entries.contains(entry));
    }

    fn is_unsent(&self, effect: &Effect) -> bool {
        matches!(effect, Effect::Send(envelope) if !self.taken.contains_key(&envelope.id))
    }

    /// Messages in the order in which an address applied them.
    pub(crate) fn seen(&self, address: usize) -> String {
        let stored = self.records[address].as_ref().and_then(|record| record.state.get("seen"));
        stored.and_then(|stored| stored.value.get::<String>().ok().flatten()).unwrap_or_default()
    }

    /// What is wrong at any moment.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.broken {
            return Some("the machine refuses an answer to its own step".to_owned());
        }
        if self.unsent {
            return Some("an outbox is gone, and not all of it was sent".to_owned());
        }
        for address in 0..ADDRESSES {
            let seen = self.seen(address);
            if let Some(twice) = seen.chars().find(|one| seen.matches(*one).count() > 1) {
                return Some(format!("message {twice} was applied twice: address {address} saw {seen}"));
            }
        }
        let (first, second) = (self.seen(0), self.seen(1));
        if self.reordered {
            return None;
        }
        if first.contains("21") {
            return Some(format!("out of order: {first}"));
        }
        let of_first: String = second.chars().filter(|one| *one != '3').collect();
        (!first.starts_with(&of_first)).then(|| format!("the second saw {second}, and the first applied {first}"))
    }

    /// What is wrong once nothing can happen any more.
    pub(crate) fn problem_at_the_end(&self) -> Option<String> {
        let (first, second) = (self.seen(0), self.seen(1));
        if first.len() != 2 || second.len() != 3 {
            return Some(format!("something is lost: the first saw {first}, the second {second}"));
        }
        for outbox in self.records.iter().flatten().map(|record| &record.outbox).filter(|outbox| !outbox.is_empty()) {
            if outbox.mark.is_none() {
                return Some("an outbox stands, and nothing comes".to_owned());
            }
            if outbox.entries.iter().any(|entry| self.is_unsent(entry)) {
                return Some("an outbox stands that was never sent, and nothing comes".to_owned());
            }
        }
        None
    }
}
