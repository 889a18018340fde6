//! What can happen next: each move is a world that may follow.

use crate::{
    steps::{self, Fate},
    world::{ADDRESSES, ENVIRONMENTS, Late, Setting, World},
};

/// How far a clock step goes: beyond the queue's deduplication, and beyond every deadline.
const STEP: u64 = 400;
/// What is waited for until a lease ends.
const WAIT: u64 = 41;

/// A world that may follow, and how it came about.
pub(crate) struct Move {
    pub(crate) what: String,
    pub(crate) world: World,
}

/// Everything that can happen next, and whether something can without a fault.
pub(crate) fn moves(setting: &Setting, world: &World) -> (Vec<Move>, bool) {
    let mut moves = Vec::new();
    let mut add = |what: String, world: World| moves.push(Move { what, world });
    for environment in 0..ENVIRONMENTS {
        match &world.environments[environment].run {
            None => {
                for address in (0..ADDRESSES).filter(|address| may_be_received(world, *address)) {
                    let most = world.queues[address].len();
                    for count in setting.received().filter(|count| *count <= most.max(*setting.received().start())) {
                        let mut next = world.clone();
                        next.receive(setting, environment, address, count);
                        add(format!("env {environment} receives {count} of address {address}"), next);
                    }
                }
            }
            Some(_) => {
                for (fate, next) in steps::step(setting, world, environment) {
                    add(format!("env {environment} {fate}"), next);
                }
            }
        }
    }
    for place in 0..world.late.len() {
        let mut next = world.clone();
        let late = next.late.remove(place);
        add(format!("late: {late:.60?}"), taking_effect(setting, next, late));
    }
    add_what_time_brings(world, &mut add);
    let goes_on = !moves.is_empty();
    if world.faults > 0 {
        add_faults(setting, world, &mut |what, world| moves.push(Move { what, world }));
    }
    (moves, goes_on)
}

/// While one message of a group is with somebody, nothing of it is delivered.
fn may_be_received(world: &World, address: usize) -> bool {
    let queue = &world.queues[address];
    !queue.is_empty() && queue.iter().all(|waiting| waiting.receipt.is_none())
}

/// What a dead environment received comes again; leases end.
fn add_what_time_brings(world: &World, add: &mut impl FnMut(String, World)) {
    let lives =
        |world: &World, owner| world.environments.iter().any(|one| one.run.as_ref().is_some_and(|run| run.owner == owner));
    for address in 0..ADDRESSES {
        let abandoned = world.queues[address].iter().filter_map(|waiting| waiting.receipt).any(|owner| !lives(world, owner));
        if abandoned {
            let mut next = world.clone();
            let orphans: Vec<_> =
                next.queues[address].iter().filter_map(|waiting| waiting.receipt).filter(|owner| !lives(world, *owner)).collect();
            for waiting in &mut next.queues[address] {
                waiting.receipt = waiting.receipt.filter(|owner| !orphans.contains(owner));
            }
            add(format!("address {address}: what was received comes again"), next);
        }
    }
    let now = world.at().now;
    let orphan = |lease: statefun_core::Lease| lease.until > now && !lives(world, lease.owner);
    if world.records.iter().flatten().any(|record| record.lease.is_some_and(orphan))
        && world.environments.iter().all(|one| one.run.is_none())
    {
        let mut next = world.clone();
        next.now += WAIT;
        add("a lease ends".to_owned(), next);
    }
}

fn add_faults(setting: &Setting, world: &World, add: &mut impl FnMut(String, World)) {
    let fault = || world.with_fault();
    for environment in 0..ENVIRONMENTS {
        let Some(run) = &world.environments[environment].run else { continue };
        let mut next = fault();
        next.environments[environment] = Default::default();
        add(format!("env {environment} dies"), next);
        // It is frozen, and thaws at any moment; meanwhile others get what it has.
        let mut next = fault();
        let owner = run.owner;
        for waiting in &mut next.queues[run.address] {
            waiting.receipt = waiting.receipt.filter(|receipt| *receipt != owner);
        }
        add(format!("env {environment} is frozen"), next);
    }
    for copy in setting.copies() {
        let mut next = fault();
        next.enqueue(setting, &copy);
        if next.queues.iter().map(Vec::len).sum::<usize>() > world.queues.iter().map(Vec::len).sum() {
            add(format!("a copy of {} is sent", copy.id), next);
        }
    }
    if world.now < STEP {
        let mut next = fault();
        next.now += STEP;
        add("minutes pass".to_owned(), next);
    }
}

fn taking_effect(setting: &Setting, mut world: World, late: Late) -> World {
    match late {
        Late::Commit(commit) => _ = steps::commit(setting, &mut world, &commit),
        Late::Lease(address, leasing) => _ = steps::lease(&mut world, address, &leasing),
        Late::Finish(address, expect) => _ = steps::finish(&mut world, address, expect),
        Late::Free(address, owner) => steps::free(&mut world, address, owner),
    }
    world
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { step, end } = self;
        write!(f, "{step}{end}")
    }
}
