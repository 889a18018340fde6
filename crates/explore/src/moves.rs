//! What can happen next: each move is a world that may follow.

use statefun_core::{Lease, Owner};

use crate::{
    setting::Setting,
    steps::{self, Fate},
    world::{ADDRESSES, ENVIRONMENTS, Late, Next, Run, STEP, World},
};

/// What is waited for until a lease ends.
const WAIT: u64 = 41;

/// A world that may follow, and how it came about.
pub(crate) struct Move {
    pub(crate) what: What,
    pub(crate) world: World,
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    Receives { address: usize, owner: Owner, count: usize },
    Steps { address: usize, owner: Owner, fate: Fate },
    Late { address: usize, what: &'static str },
    ComesAgain { address: usize },
    LeaseEnds,
    Dies { address: usize, owner: Owner },
    Freezes { address: usize, owner: Owner },
    Copied { message: u8 },
    Redriven { address: usize, place: usize },
    MinutesPass,
}

/// Everything that can happen next, and whether something can without a fault.
///
/// A step that neither sees nor changes anything of others comes first, alone, in all the ways in which it may end: whatever else can happen
/// can happen after it just as well, with the same outcome (a persistent set). See [`comes_first`].
pub(crate) fn moves(setting: &Setting, world: &World) -> (Vec<Move>, bool) {
    let mut moves = Vec::new();
    let mut add = |what, world| moves.push(Move { what, world });
    let first = (0..ENVIRONMENTS).find(|environment| !setting.every_order && comes_first(setting, world, *environment));
    if let Some(environment) = first {
        add_steps(setting, world, environment, &mut add);
        return (moves, true);
    }
    for environment in 0..ENVIRONMENTS {
        match &world.environments[environment].run {
            None => add_receives(setting, world, environment, &mut add),
            Some(_) => add_steps(setting, world, environment, &mut add),
        }
    }
    for place in 0..world.late.len() {
        let mut next = world.clone();
        let late = next.late.remove(place);
        add(What::Late { address: late.address(), what: late.name() }, taking_effect(setting, next, &late));
    }
    add_what_time_brings(world, &mut add);
    let goes_on = !moves.is_empty();
    if world.faults > 0 {
        add_faults(setting, world, &mut |what, world| moves.push(Move { what, world }));
    }
    (moves, goes_on)
}

/// Whether the next step of the environment's run commutes with all that others may do until then.
///
/// - A step within the environment sees nothing but the time, so it waits for nothing where no fault can move the clock. A death of the
///   environment comes to the same before it and after it; so does a freeze, which concerns the queue.
/// - With no fault left, and nobody else at the address (no other run, no late request, and its queue held by this very run), nobody reads or
///   writes its record or its segments, and nobody receives of its queue, before this run ends. What is sent to the address meanwhile
///   comes behind what it has. So reads, leases, clearing and the end commute, too. Commits and sends would as well, but
///   [`World::problem`] looks at several records at once, and has to see them in each order.
///
/// A run makes only so many steps between two commits or ends, so no circle of worlds puts anything off for ever.
fn comes_first(setting: &Setting, world: &World, environment: usize) -> bool {
    let Some(run) = &world.environments[environment].run else { return false };
    match run.next {
        Next::Within => world.faults == 0 || (world.now >= STEP && !setting.redrives()),
        Next::Calls => world.faults == 0,
        Next::Concerns => world.faults == 0 && has_address_alone(world, run),
        Next::Shows => false,
    }
}

fn has_address_alone(world: &World, run: &Run) -> bool {
    let queue = &world.queues[run.address];
    let is_foreign = |owner: Owner| owner != run.owner;
    queue.iter().any(|waiting| waiting.receipt.is_some())
        && !queue.iter().filter_map(|waiting| waiting.receipt).chain(world.runs_of(run.address)).any(is_foreign)
        && world.late.iter().all(|late| late.address() != run.address)
}

fn add_steps(setting: &Setting, world: &World, environment: usize, add: &mut impl FnMut(What, World)) {
    let Some(run) = &world.environments[environment].run else { return };
    let (address, owner) = (run.address, run.owner);
    for (fate, next) in steps::step(setting, world, environment) {
        add(What::Steps { address, owner, fate }, next);
    }
}

/// While one message of a group is with somebody, nothing of it is delivered.
fn add_receives(setting: &Setting, world: &World, environment: usize, add: &mut impl FnMut(What, World)) {
    let may_be_received = |address: &usize| {
        let queue = &world.queues[*address];
        !queue.is_empty() && queue.iter().all(|waiting| waiting.receipt.is_none())
    };
    for address in (0..ADDRESSES).filter(may_be_received) {
        let most = world.queues[address].len();
        for count in setting.received().filter(|count| *count <= most.max(*setting.received().start())) {
            let mut next = world.clone();
            let owner = next.receive(setting, environment, address, count);
            add(What::Receives { address, owner, count }, next);
        }
    }
}

/// What a dead environment received comes again; leases end.
fn add_what_time_brings(world: &World, add: &mut impl FnMut(What, World)) {
    let lives = |address, owner| world.runs_of(address).any(|living| living == owner);
    for address in 0..ADDRESSES {
        let is_orphan = |receipt: &Option<Owner>| receipt.is_some_and(|owner| !lives(address, owner));
        if world.queues[address].iter().any(|waiting| is_orphan(&waiting.receipt)) {
            let mut next = world.clone();
            for waiting in &mut next.queues[address] {
                waiting.receipt.take_if(|owner| !lives(address, *owner));
            }
            add(What::ComesAgain { address }, next);
        }
    }
    let now = world.at().now;
    let is_leased = |lease: Lease| lease.until > now;
    let orphans = world.records.iter().flatten().any(|record| record.lease.is_some_and(is_leased));
    if orphans && world.environments.iter().all(|one| one.run.is_none()) {
        let mut next = world.clone();
        next.now += WAIT;
        add(What::LeaseEnds, next);
    }
}

fn add_faults(setting: &Setting, world: &World, add: &mut impl FnMut(What, World)) {
    let fault = || world.with_fault();
    for environment in 0..ENVIRONMENTS {
        let Some(run) = &world.environments[environment].run else { continue };
        let (address, owner) = (run.address, run.owner);
        let mut next = fault();
        next.environments[environment] = Default::default();
        add(What::Dies { address, owner }, next);
        // It is frozen, and thaws at any moment; meanwhile others get what it has.
        let mut next = fault();
        for waiting in &mut next.queues[address] {
            waiting.receipt.take_if(|receipt| *receipt == owner);
        }
        add(What::Freezes { address, owner }, next);
    }
    for (message, copy) in setting.copies() {
        let mut next = fault();
        next.enqueue(setting, &copy);
        if next.queues.iter().map(Vec::len).sum::<usize>() > world.queues.iter().map(Vec::len).sum() {
            add(What::Copied { message }, next);
        }
    }
    for address in (0..ADDRESSES).filter(|_| setting.redrives()) {
        for place in 0..world.queues[address].len() {
            let waiting = &world.queues[address][place];
            if waiting.receives > 0 && waiting.receipt.is_none() {
                let mut next = fault();
                next.redrive(address, place);
                add(What::Redriven { address, place }, next);
            }
        }
    }
    if world.now < STEP {
        let mut next = fault();
        next.now += STEP;
        add(What::MinutesPass, next);
    }
}

fn taking_effect(setting: &Setting, mut world: World, late: &Late) -> World {
    match late {
        Late::Commit(_, commit) => _ = steps::commit(setting, &mut world, commit),
        Late::Lease(address, leasing) => _ = steps::lease(&mut world, *address, leasing),
        Late::Finish(address, expect) => _ = steps::finish(setting, &mut world, *address, *expect),
        Late::Free(address, owner) => steps::free(&mut world, *address, *owner),
    }
    world
}

impl Late {
    const fn name(&self) -> &'static str {
        match self {
            Self::Commit(..) => "a commit",
            Self::Lease(..) => "a lease",
            Self::Finish(..) => "the clearing of an outbox",
            Self::Free(..) => "the freeing of a lease",
        }
    }
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Receives { address, owner, count } => write!(f, "address {address}, run {}: receives {count} at most", owner.0),
            Self::Steps { address, owner, fate: Fate { step, end } } => {
                write!(f, "address {address}, run {}: {step}{end}", owner.0)
            }
            Self::Late { address, what } => write!(f, "address {address}: {what} takes effect late"),
            Self::ComesAgain { address } => write!(f, "address {address}: what was received comes again"),
            Self::LeaseEnds => f.write_str("a lease ends"),
            Self::Dies { address, owner } => write!(f, "address {address}, run {}: dies", owner.0),
            Self::Freezes { address, owner } => {
                write!(f, "address {address}, run {}: is frozen, and thaws at any moment", owner.0)
            }
            Self::Copied { message } => write!(f, "a copy of message {message} is sent"),
            Self::Redriven { address, place } => write!(f, "address {address}: message {place} of its queue is redriven"),
            Self::MinutesPass => f.write_str("minutes pass"),
        }
    }
}
