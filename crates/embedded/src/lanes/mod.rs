//! The lanes in memory: who waits, who runs, and who is next. Without IO and clocks.
//!
//! A lane that is held here knows whether there is more of it on disk. A lane that is not held has nothing on disk, unless
//! [`Lanes::unseen`] says that there may be lanes which are not held; a walk over the table then finds them. So memory is
//! bounded by the number of lanes and bytes held, however much waits.

mod lane;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use statefun_core::{Address, EgressRecord, Envelope, Timestamp, TypeName};
use statefun_engine::ports::Moment;

pub(crate) use lane::{Entry, Lane};

use crate::{batch::Key, options::Options};

/// A waiting envelope.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) enqueued_at: Timestamp,
    /// Deliveries so far, and unclean starts that may have been one.
    pub(crate) receives: u32,
}

/// Where a held lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the ready queue.
    Ready,
    /// Taken.
    Running,
    /// Not before this moment. A pause is for this process alone: it is not stored.
    Delayed(Moment),
}

#[derive(Debug)]
pub(crate) struct FunctionLane {
    pub(crate) lane: Lane<Held>,
    place: Place,
}

#[derive(Debug)]
pub(crate) struct Lanes {
    functions: HashMap<Address, FunctionLane>,
    /// Lanes take turns: a lane that was run goes to the end.
    ready: VecDeque<Address>,
    delayed: BTreeSet<(Moment, Address)>,
    pub(crate) egress: BTreeMap<TypeName, Lane<Arc<EgressRecord>>>,
    /// Lanes taken.
    pub(crate) running: usize,
    /// Memory of the entries that are held.
    pub(crate) held_bytes: usize,
    /// Whether there may be lanes on disk that are not held.
    pub(crate) unseen: bool,
    pub(crate) walk: Walk,
    max_lanes: usize,
    lane_envelopes: usize,
    lane_bytes: usize,
}

/// The walk over the table's lanes.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// Where it goes on; empty at the start.
    pub(crate) from: Key,
    /// Whether this round left lanes behind.
    pub(crate) missed: bool,
    /// Whether somebody is walking.
    pub(crate) busy: bool,
    /// Lanes taken since the last step.
    pub(crate) taken: u32,
}

impl Lanes {
    /// No lanes are held; there may be some on disk.
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            functions: HashMap::new(),
            ready: VecDeque::new(),
            delayed: BTreeSet::new(),
            egress: BTreeMap::new(),
            running: 0,
            held_bytes: 0,
            unseen: true,
            walk: Walk::default(),
            max_lanes: options.max_lanes.max(1),
            lane_envelopes: options.lane_envelopes.max(1),
            lane_bytes: options.lane_bytes,
        }
    }

    /// Adds an envelope whose row is written. Returns whether its lane became ready by it.
    pub(crate) fn append(&mut self, to: &Address, entry: Entry<Held>) -> bool {
        let bytes = entry.memory();
        let bytes_fit = self.held_bytes + bytes <= self.lane_bytes;
        if let Some(FunctionLane { lane, .. }) = self.functions.get_mut(to) {
            let room = bytes_fit && lane.entries.len() < self.lane_envelopes;
            self.held_bytes += if lane.push(entry, room) { bytes } else { 0 };
            return false;
        }
        if self.functions.len() >= self.max_lanes {
            self.overlook();
            return false;
        }
        let mut lane = Lane::new(self.unseen);
        self.held_bytes += if lane.push(entry, bytes_fit) { bytes } else { 0 };
        self.hold(to.clone(), lane);
        true
    }

    /// Adds an egress record whose row is written.
    pub(crate) fn append_egress(&mut self, egress: &TypeName, entry: Entry<Arc<EgressRecord>>) {
        let bytes = entry.memory();
        if !self.egress.contains_key(egress) {
            self.egress.insert(egress.clone(), Lane::new(false));
        }
        if let Some(lane) = self.egress.get_mut(egress) {
            let room = self.held_bytes + bytes <= self.lane_bytes && lane.entries.len() < self.lane_envelopes;
            self.held_bytes += if lane.push(entry, room) { bytes } else { 0 };
        }
    }

    fn hold(&mut self, address: Address, lane: Lane<Held>) {
        self.ready.push_back(address.clone());
        self.functions.insert(address, FunctionLane { lane, place: Place::Ready });
    }

    /// There is a lane on disk that is not held.
    fn overlook(&mut self) {
        if self.unseen {
            self.walk.missed = true;
        } else {
            self.unseen = true;
            (self.walk.from, self.walk.missed) = (Key::default(), false);
        }
    }

    /// The walk came past a lane. Returns whether it is held now (or was already).
    pub(crate) fn found(&mut self, address: Address) -> Found {
        if self.functions.contains_key(&address) {
            return Found::Known;
        }
        if self.functions.len() >= self.max_lanes {
            return Found::NoRoom;
        }
        self.hold(address, Lane::new(true));
        Found::New
    }

    /// The walk came to the end.
    pub(crate) fn walked_round(&mut self) {
        self.unseen = self.walk.missed;
        (self.walk.from, self.walk.missed) = (Key::default(), false);
    }

    /// Whether a step of the walk is due: at once if nothing else is to be done, else every so often.
    pub(crate) fn walk_is_due(&self) -> bool {
        const TURNS: u32 = 64;
        self.unseen
            && !self.walk.busy
            && self.functions.len() < self.max_lanes
            && (self.ready.is_empty() || self.walk.taken >= TURNS)
    }

    /// Makes lanes ready whose delay is over. Returns how many.
    pub(crate) fn wake(&mut self, now: Moment) -> usize {
        let mut woken = 0;
        while let Some((until, _)) = self.delayed.first()
            && *until <= now
        {
            let Some((_, address)) = self.delayed.pop_first() else { break };
            if let Some(lane) = self.functions.get_mut(&address) {
                lane.place = Place::Ready;
                self.ready.push_back(address);
                woken += 1;
            }
        }
        woken
    }

    /// When the next delayed lane becomes ready.
    pub(crate) fn next_wake(&self) -> Option<Moment> {
        self.delayed.first().map(|(until, _)| *until)
    }

    /// Takes the next ready lane; it is running now.
    pub(crate) fn take(&mut self) -> Option<Address> {
        let address = self.ready.pop_front()?;
        if let Some(lane) = self.functions.get_mut(&address) {
            lane.place = Place::Running;
            self.running += 1;
            self.walk.taken = self.walk.taken.saturating_add(1);
        }
        Some(address)
    }

    /// A running lane.
    pub(crate) fn running(&mut self, address: &Address) -> Option<&mut Lane<Held>> {
        let lane = self.functions.get_mut(address).filter(|lane| lane.place == Place::Running)?;
        Some(&mut lane.lane)
    }

    /// Frees a running lane. Returns whether it is ready again.
    pub(crate) fn free(&mut self, address: &Address, not_before: Option<Moment>) -> bool {
        let Some(lane) = self.functions.get_mut(address).filter(|lane| lane.place == Place::Running) else { return false };
        self.running -= 1;
        if lane.lane.is_empty() {
            self.functions.remove(address);
            return false;
        }
        match not_before {
            Some(until) => {
                lane.place = Place::Delayed(until);
                self.delayed.insert((until, address.clone()));
                false
            }
            None => {
                lane.place = Place::Ready;
                self.ready.push_back(address.clone());
                true
            }
        }
    }

    /// How many entries a refill may read: what is asked for, and more while there is memory for it.
    pub(crate) fn refill(&self, asked: usize) -> usize {
        if self.held_bytes < self.lane_bytes { asked.max(self.lane_envelopes) } else { asked.max(1) }
    }

    /// Lanes held.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.functions.len()
    }
}

/// What [`Lanes::found`] made of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Known,
    New,
    NoRoom,
}

#[cfg(test)]
mod tests;
