//! A small world: records, queues, environments.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use statefun_core::{
    Commit, Delivered, Envelope, EnvelopeId, LastSeq, Moment, Owner, Record, Timestamp,
    protocol::{At, Batch, Event, Leasing},
};

use crate::{
    known::{Known, digest},
    setting::Setting,
};

/// A real date: at zero some things mean never.
pub(crate) const START: u64 = 1_780_000_000;
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a queue refuses a second copy.
const DEDUP: u64 = 300;
/// How far a clock step goes: beyond the queue's deduplication, and beyond every deadline.
pub(crate) const STEP: u64 = 400;
/// Deliveries are counted up to this: more make no difference.
const MOST_RECEIVES: u32 = 4;

/// Addresses, by number.
pub(crate) const ADDRESSES: usize = 2;
pub(crate) const ENVIRONMENTS: usize = 2;

/// Everything there is.
#[derive(Clone)]
pub(crate) struct World {
    /// Seconds since the start.
    pub(crate) now: u64,
    /// Faults that may still strike.
    pub(crate) faults: u8,
    pub(crate) records: [Option<Known<Record>>; ADDRESSES],
    /// Spilled ids, each with when its segment was the newest.
    pub(crate) segments: [Known<BTreeMap<EnvelopeId, Timestamp>>; ADDRESSES],
    pub(crate) queues: [Vec<Waiting>; ADDRESSES],
    /// What the queues refuse, since when.
    pub(crate) taken: Known<BTreeMap<EnvelopeId, u64>>,
    /// By address, as nothing compares those of two.
    last_seq: [u64; ADDRESSES],
    pub(crate) environments: [Environment; ENVIRONMENTS],
    /// Requests whose callers gave up, and which take effect in any order, or together with what comes later.
    pub(crate) late: Vec<Known<Late>>,
    /// A run took an event that does not answer its step.
    pub(crate) broken: bool,
    /// An outbox left its record, and not all of it was sent.
    pub(crate) unsent: bool,
    /// A message was redriven: it comes again behind those that were sent later.
    pub(crate) reordered: bool,
}

/// A message in a queue.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) envelope: Known<Arc<Envelope>>,
    pub(crate) seq: u64,
    enqueued_at: u64,
    pub(crate) receives: u32,
    /// The delivery that has it, if one has.
    pub(crate) receipt: Option<Owner>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub(crate) run: Option<Known<Run>>,
    /// Of own commits.
    pub(crate) cache: [Option<Known<Record>>; ADDRESSES],
}

/// A batch on its way.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) batch: Batch,
    pub(crate) address: usize,
    pub(crate) owner: Owner,
    /// Messages that were delivered to it, by number.
    pub(crate) deliveries: Vec<u64>,
    pub(crate) next: Next,
}

/// What a run does next, as far as others may notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Something within its environment.
    Within,
    /// Calls its handler, which takes a lease if it is slow.
    Calls,
    /// Something that concerns its address alone: reads, takes or frees its lease, clears its outbox, ends.
    Concerns,
    /// Commits, or sends.
    Shows,
}

/// A request that is still on its way.
#[derive(Debug, Clone)]
pub(crate) enum Late {
    Commit(usize, Box<Commit>),
    Lease(usize, Leasing),
    Finish(usize, u64),
    Free(usize, Owner),
}

impl World {
    /// Before anything happened.
    pub(crate) fn first(setting: &Setting, faults: u8) -> Self {
        let mut world = Self {
            now: 0,
            faults,
            records: [None, None],
            segments: [(); ADDRESSES].map(|()| Known::new(BTreeMap::new())),
            queues: [Vec::new(), Vec::new()],
            taken: Known::new(BTreeMap::new()),
            last_seq: [0; ADDRESSES],
            environments: Default::default(),
            late: Vec::new(),
            broken: false,
            unsent: false,
            reordered: false,
        };
        for (_, envelope) in setting.ingress() {
            world.enqueue(setting, &envelope);
        }
        world
    }

    /// The same with one fault less to come.
    pub(crate) fn with_fault(&self) -> Self {
        Self { faults: self.faults.saturating_sub(1), ..self.clone() }
    }

    pub(crate) fn at(&self) -> At {
        let elapsed = Duration::from_secs(self.now);
        At { now: Timestamp((START + self.now) * 1_000), moment: Moment::after_start(elapsed), cut: false }
    }

    /// Appends a message, unless the queue still knows its id.
    pub(crate) fn enqueue(&mut self, setting: &Setting, envelope: &Envelope) {
        let now = self.now;
        if self.taken.get(&envelope.id).is_some_and(|at| now < at + DEDUP) {
            return;
        }
        let mut taken = (*self.taken).clone();
        taken.insert(envelope.id, now);
        self.taken = Known::new(taken);
        self.append(setting.number_of(&envelope.to), Known::new(Arc::new(envelope.clone())));
    }

    fn append(&mut self, address: usize, envelope: Known<Arc<Envelope>>) {
        self.last_seq[address] += 1;
        let (seq, enqueued_at) = (self.last_seq[address], self.now);
        self.queues[address].push(Waiting { envelope, seq, enqueued_at, receives: 0, receipt: None });
    }

    /// A message was received in vain for longer than the queue refuses copies, went to a dead-letter queue, and comes back from there.
    pub(crate) fn redrive(&mut self, address: usize, place: usize) {
        let waiting = self.queues[address].remove(place);
        self.now = self.now.max(waiting.enqueued_at + STEP);
        self.append(address, waiting.envelope);
        self.reordered = true;
    }

    /// A number that no lease and no run of the address has: the lowest, so that worlds that differ by it only are one.
    fn free_owner(&self, address: usize) -> Owner {
        let lease = self.records[address].as_ref().and_then(|record| record.lease.map(|lease| lease.owner));
        let late = self.late.iter().filter(|late| late.address() == address).filter_map(|late| late.owner());
        let receipts = self.queues[address].iter().filter_map(|waiting| waiting.receipt);
        let known: Vec<Owner> = lease.into_iter().chain(self.runs_of(address)).chain(late).chain(receipts).collect();
        (1..).map(Owner).find(|owner| !known.contains(owner)).unwrap_or(Owner(0))
    }

    /// The runs that work on an address.
    pub(crate) fn runs_of(&self, address: usize) -> impl Iterator<Item = Owner> {
        let runs = self.environments.iter().filter_map(|environment| environment.run.as_ref());
        runs.filter(move |run| run.address == address).map(|run| run.owner)
    }

    /// What can be seen of the world. Which of the environments is the first makes no difference, for nothing names them, and all of them
    /// may do the same; nor does the order of requests that take effect at any time.
    pub(crate) fn hash(&mut self) -> u128 {
        self.environments.sort_by_cached_key(Environment::hashes);
        self.late.sort_by_key(Known::hash);
        let mut seen = Vec::with_capacity(48);
        let flags = [self.broken, self.unsent, self.reordered].map(u128::from);
        seen.extend([self.now.into(), self.faults.into()].into_iter().chain(flags).chain(self.last_seq.map(u128::from)));
        seen.extend(self.records.iter().map(|record| Known::hash_of(record.as_ref())));
        seen.extend(self.segments.iter().map(Known::hash));
        seen.push(self.taken.hash());
        seen.extend(self.environments.iter().flat_map(Environment::hashes));
        for queue in &self.queues {
            seen.push(queue.len() as u128);
            seen.extend(queue.iter().flat_map(Waiting::hashes));
        }
        seen.extend(self.late.iter().map(Known::hash));
        digest(&seen[..])
    }

    /// An environment receives the first messages of an address.
    pub(crate) fn receive(&mut self, setting: &Setting, environment: usize, address: usize, count: usize) -> Owner {
        let (owner, at) = (self.free_owner(address), self.at());
        let mut delivered = Vec::new();
        for waiting in self.queues[address].iter_mut().take(count) {
            waiting.receives = (waiting.receives + 1).min(MOST_RECEIVES);
            waiting.receipt = Some(owner);
            delivered.push(Delivered {
                envelope: (*waiting.envelope).clone(),
                seq: LastSeq { queue: 1, seq: waiting.seq.into() },
                enqueued_at: Timestamp((START + waiting.enqueued_at) * 1_000),
                receive_count: waiting.receives,
            });
        }
        let deliveries = self.queues[address].iter().take(count).map(|waiting| waiting.seq).collect();
        let mut batch = Batch::new(
            setting.functions[address].clone(),
            setting.rules.clone(),
            setting.pace,
            (setting.addresses[address].clone(), delivered.into()),
            at.moment.plus(DEADLINE),
            owner,
            None,
            at,
        );
        // That it begins changes nothing, whenever it does.
        self.broken |= batch.on(Event::Begin, at).is_err();
        self.environments[environment].run = Some(Known::new(Run { batch, address, owner, deliveries, next: Next::Concerns }));
        owner
    }
}

impl Environment {
    fn hashes(&self) -> [u128; 1 + ADDRESSES] {
        let [first, second] = &self.cache;
        [Known::hash_of(self.run.as_ref()), Known::hash_of(first.as_ref()), Known::hash_of(second.as_ref())]
    }
}

impl Waiting {
    fn hashes(&self) -> [u128; 3] {
        let Self { envelope, seq, enqueued_at, receives, receipt } = self;
        let receipt = receipt.map_or(0, |owner| owner.0);
        [envelope.hash(), u128::from(*seq) << 64 | u128::from(*enqueued_at), u128::from(*receives) << 64 | u128::from(receipt)]
    }
}

impl Late {
    pub(crate) fn address(&self) -> usize {
        let (Self::Commit(address, _) | Self::Lease(address, _) | Self::Finish(address, _) | Self::Free(address, _)) = self;
        *address
    }

    fn owner(&self) -> Option<Owner> {
        match self {
            Self::Commit(_, commit) => commit.record.lease.map(|lease| lease.owner),
            Self::Lease(_, leasing) => Some(leasing.lease.owner),
            Self::Free(_, owner) => Some(*owner),
            Self::Finish(..) => None,
        }
    }
}
