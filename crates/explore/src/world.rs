//! A small world: records, queues, environments, and what must hold of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use statefun_core::{
    Address, Budget, Commit, Delivered, Effect, Envelope, EnvelopeId, FunctionSpec, LastSeq, LedgerShape, Moment, OnFailure,
    Outbox, Owner, Protocol, Record, Rules, Safeguard, Safeguards, Timestamp, TypeName, TypedValue, ValueSpec,
    protocol::{At, Batch, Leasing, Marks, Pace},
};

pub(crate) const SEEN: ValueSpec<String> = ValueSpec::new("seen");
/// Takes messages from outside, and sends each on to the second.
const FIRST: TypeName = TypeName::from_static("explore/first");
const SECOND: TypeName = TypeName::from_static("explore/second");

/// A real date: at zero some things mean never.
const START: u64 = 1_780_000_000;
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a queue refuses a second copy.
const DEDUP: u64 = 300;
/// Deliveries are counted up to this: more make no difference.
const MOST_RECEIVES: u32 = 4;

/// Addresses, by number.
pub(crate) const ADDRESSES: usize = 2;
pub(crate) const ENVIRONMENTS: usize = 2;
/// Messages from outside: two to the first address, one to the second.
const INGRESS: [(u8, usize); 3] = [(1, 0), (2, 0), (3, 1)];

/// Everything there is.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// Seconds since the start.
    pub(crate) now: u64,
    /// Faults that may still strike.
    pub(crate) faults: u8,
    pub(crate) records: [Option<Record>; ADDRESSES],
    /// Spilled ids, each with when its segment was the newest.
    pub(crate) segments: [BTreeMap<EnvelopeId, Timestamp>; ADDRESSES],
    pub(crate) queues: [Vec<Waiting>; ADDRESSES],
    /// What the queues refuse, since when.
    taken: BTreeMap<EnvelopeId, u64>,
    last_seq: u64,
    pub(crate) environments: [Environment; ENVIRONMENTS],
    /// Requests whose callers gave up, and which take effect in any order, or together with what comes later.
    pub(crate) late: Vec<Late>,
    /// A run took an event that does not answer its step.
    pub(crate) broken: bool,
    /// An outbox left its record, and not all of it was sent.
    unsent: bool,
}

/// A message in a queue.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) seq: u64,
    enqueued_at: u64,
    receives: u32,
    /// The delivery that has it, if one has.
    pub(crate) receipt: Option<Owner>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub(crate) run: Option<Box<Run>>,
    /// Of own commits.
    pub(crate) cache: [Option<Box<Record>>; ADDRESSES],
}

/// A batch on its way.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) batch: Batch,
    pub(crate) address: usize,
    pub(crate) owner: Owner,
    /// Messages that were delivered to it, by number.
    pub(crate) deliveries: Vec<u64>,
}

/// A request that is still on its way.
#[derive(Debug, Clone)]
pub(crate) enum Late {
    Commit(Box<Commit>),
    Lease(usize, Leasing),
    Finish(usize, u64),
    Free(usize, Owner),
}

/// What holds for all worlds of a search.
pub(crate) struct Setting {
    addresses: [Address; ADDRESSES],
    functions: [Arc<FunctionSpec>; ADDRESSES],
    rules: Arc<Rules>,
    pace: Pace,
}

impl Setting {
    pub(crate) fn new(safeguards: Safeguards, marks: bool) -> Self {
        let addresses = [FIRST, SECOND].map(|name| Address::new(name, "x").unwrap_or_else(|error| unreachable!("{error}")));
        let function = |name| {
            let mut spec = FunctionSpec { on_failure: OnFailure::DeadLetter { max_attempts: 3 }, ..FunctionSpec::new(name) };
            spec.states.insert(SEEN.name(), SEEN.erase());
            Arc::new(spec)
        };
        let protocol = Protocol {
            // Ids leave the record at once, so that segments are asked all the time.
            ledger: LedgerShape { unit: 16, least: 0, most: 1 },
            marks: marks.then(|| Marks::of_retention(Duration::from_secs(14 * 86_400))),
            safeguards,
            ..Protocol::default()
        };
        let budget = Budget { envelope_messages: 1, ..Budget::default() };
        let pace = Pace {
            lease_after: Duration::from_millis(500),
            lease_margin: Duration::from_secs(10),
            reserve: Duration::from_secs(2),
            backoff: statefun_core::Backoff::default(),
            drain_at_once: 1,
        };
        let rules = Arc::new(Rules { protocol, budget, ..Rules::default() });
        Self { addresses, functions: [FIRST, SECOND].map(function), rules, pace }
    }

    pub(crate) fn number_of(&self, address: &Address) -> usize {
        usize::from(*address == self.addresses[1])
    }

    /// The world before anything happened.
    pub(crate) fn first(&self, faults: u8) -> World {
        let mut world = World {
            now: 0,
            faults,
            records: [None, None],
            segments: [BTreeMap::new(), BTreeMap::new()],
            queues: [Vec::new(), Vec::new()],
            taken: BTreeMap::new(),
            last_seq: 0,
            environments: Default::default(),
            late: Vec::new(),
            broken: false,
            unsent: false,
        };
        for (number, to) in INGRESS {
            world.enqueue(self, &self.ingress(number, to));
        }
        world
    }

    /// The envelope of a message from outside.
    pub(crate) fn ingress(&self, number: u8, to: usize) -> Envelope {
        Envelope {
            id: EnvelopeId([number; 16]),
            to: self.addresses[to].clone(),
            from: None,
            sent_at: Timestamp(START * 1_000),
            keyed: false,
            hops: 0,
            trace: None,
            messages: vec![TypedValue::of(&number.to_string()).unwrap_or_else(|error| unreachable!("{error}"))],
        }
    }

    /// How many messages a delivery may have: as many as wait, or, where a later one may prove something, one after the other.
    pub(crate) fn received(&self) -> std::ops::RangeInclusive<usize> {
        if self.rules.protocol.marks.is_some() { 1..=2 } else { 2..=2 }
    }

    pub(crate) fn fences(&self) -> bool {
        self.rules.protocol.safeguards.on(Safeguard::Fence)
    }

    /// Copies that a producer may send again.
    pub(crate) fn copies(&self) -> impl Iterator<Item = Envelope> {
        INGRESS.iter().filter(|(number, _)| *number != 2).map(|(number, to)| self.ingress(*number, *to))
    }
}

impl World {
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
        self.taken.insert(envelope.id, now);
        self.last_seq += 1;
        let waiting =
            Waiting { envelope: Arc::new(envelope.clone()), seq: self.last_seq, enqueued_at: now, receives: 0, receipt: None };
        self.queues[setting.number_of(&envelope.to)].push(waiting);
    }

    /// A number that no lease and no run has: the lowest, so that worlds that differ by it only are one.
    fn free_owner(&self) -> Owner {
        let leases = self.records.iter().flatten().filter_map(|record| record.lease.map(|lease| lease.owner));
        let runs = self.environments.iter().filter_map(|environment| environment.run.as_ref().map(|run| run.owner));
        let late = self.late.iter().filter_map(|late| match late {
            Late::Commit(commit) => commit.record.lease.map(|lease| lease.owner),
            Late::Lease(_, leasing) => Some(leasing.lease.owner),
            Late::Free(_, owner) => Some(*owner),
            Late::Finish(..) => None,
        });
        let receipts = self.queues.iter().flatten().filter_map(|waiting| waiting.receipt);
        let known: Vec<Owner> = leases.chain(runs).chain(late).chain(receipts).collect();
        (1..).map(Owner).find(|owner| !known.contains(owner)).unwrap_or(Owner(0))
    }

    /// An environment receives the first messages of an address.
    pub(crate) fn receive(&mut self, setting: &Setting, environment: usize, address: usize, count: usize) {
        let (owner, at) = (self.free_owner(), self.at());
        let mut delivered = Vec::new();
        for waiting in self.queues[address].iter_mut().take(count) {
            waiting.receives = (waiting.receives + 1).min(MOST_RECEIVES);
            waiting.receipt = Some(owner);
            delivered.push(Delivered {
                envelope: waiting.envelope.clone(),
                seq: LastSeq { queue: 1, seq: waiting.seq.into() },
                enqueued_at: Timestamp((START + waiting.enqueued_at) * 1_000),
                receive_count: waiting.receives,
            });
        }
        let deliveries = self.queues[address].iter().take(count).map(|waiting| waiting.seq).collect();
        let batch = Batch::new(
            setting.functions[address].clone(),
            setting.rules.clone(),
            setting.pace,
            (setting.addresses[address].clone(), delivered.into()),
            at.moment.plus(DEADLINE),
            owner,
            None,
            at,
        );
        self.environments[environment].run = Some(Box::new(Run { batch, address, owner, deliveries }));
    }

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
