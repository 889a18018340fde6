//! One step of a run: done by the store, the queues or a handler, and how that may go wrong.

use std::collections::HashSet;

use statefun_core::{
    Commit, Context, Effect, Outbox, Owner, Record, Safeguard, TypedValue,
    protocol::{Batch, Committed, Event, Handled, Leased, Leasing, Loaded, Outcome, PortErrorKind, Progress, Step},
};

use crate::{
    known::Known,
    setting::{SEEN, Setting},
    world::{Late, Next, Run, World},
};

/// What a run did, and how that went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fate {
    pub(crate) step: &'static str,
    pub(crate) end: &'static str,
}

/// A request that changes something.
enum Request {
    Commit(Box<Commit>),
    Lease(Leasing),
    Finish(u64),
    Free(Owner),
}

/// What a run asks for.
enum Asked {
    Load { fresh: bool },
    LookUp(Vec<statefun_core::EnvelopeId>),
    Enter,
    Invoke(Option<Leasing>),
    Write(Request),
    Barrier,
    Send(Vec<Effect>),
    Pause,
    Done(Vec<Outcome>),
}

const FAILED: Event = Event::Failed(PortErrorKind::Unavailable);

/// Every way in which the next step of the environment's run may come out.
pub(crate) fn step(setting: &Setting, world: &World, environment: usize) -> Vec<(Fate, World)> {
    let mut base = world.clone();
    let Some(run) = base.environments[environment].run.take() else { return Vec::new() };
    let (address, mut run) = (run.address, (*run).clone());
    let mut worlds = Vec::new();
    let mut add = |step, end, mut world: World, mut run: Run, event| {
        let at = world.at();
        world.broken |= run.batch.on(event, at).is_err();
        run.batch.take_notices();
        if let Some(kept) = run.batch.take_kept() {
            world.environments[environment].cache[address] = Some(Known::new(*kept));
        }
        run.next = next(&mut run.batch);
        world.environments[environment].run = Some(Known::new(run));
        worlds.push((Fate { step, end }, world));
    };
    let fails = world.faults > 0;
    match asked(&mut run) {
        Asked::Load { fresh } => {
            if !fresh && let Some(record) = base.environments[environment].cache[address].clone() {
                let mut next = base.clone();
                next.environments[environment].cache[address] = None;
                add("takes its cached record", "", next, run.clone(), Event::Loaded(Loaded::Cached(boxed(&record))));
            }
            if fails {
                add("reads", ", which fails", base.with_fault(), run.clone(), FAILED);
            }
            base.environments[environment].cache[address] = None;
            let record = base.records[address].as_ref().map(boxed);
            add("reads", "", base, run, Event::Loaded(Loaded::Read(record)));
        }
        Asked::LookUp(ids) => {
            if fails {
                add("looks up", ", which fails", base.with_fault(), run.clone(), FAILED);
            }
            let found = ids.into_iter().filter(|id| base.segments[address].contains_key(id)).collect();
            add("looks up", "", base, run, Event::Found(found));
        }
        Asked::Enter => add("enters", "", base, run, Event::Entered),
        Asked::Invoke(leasing) => {
            let handled = |run: &mut Run| {
                let Step::Invoke { context, message, .. } = run.batch.step() else { return Handled::CutShort };
                handle(context, message, address)
            };
            if let (Some(leasing), true) = (leasing, fails) {
                // The handler is slow: a lease is taken while it runs.
                let (mut next, mut run) = (base.with_fault(), run.clone());
                let leased = lease(&mut next, address, &leasing);
                let handled = handled(&mut run);
                add("calls a slow handler", "", next.clone(), run.clone(), Event::Handled(handled, Some(Some(leased))));
            }
            if fails {
                // It is given up when it has done all of its work.
                let mut run = run.clone();
                handled(&mut run);
                let cut_short = Event::Handled(Handled::CutShort, None);
                add("calls its handler", ", which has no time left", base.with_fault(), run, cut_short);
            }
            let handled = handled(&mut run);
            add("calls its handler", "", base, run, Event::Handled(handled, None));
        }
        Asked::Write(request) => {
            let name = request.name();
            if fails {
                add(name, ", which fails before it takes effect", base.with_fault(), run.clone(), request.failed());
                let mut next = base.with_fault();
                request.carry_out(setting, &mut next, address);
                add(name, ", and the answer is lost", next, run.clone(), request.failed());
                let mut next = base.with_fault();
                next.late.push(Known::new(request.late(address)));
                add(name, ", which takes effect late", next, run.clone(), request.failed());
            }
            let mut next = base;
            let event = request.carry_out(setting, &mut next, address);
            add(name, "", next, run, event);
        }
        Asked::Barrier => add("waits at the barrier", "", base, run, Event::Durable),
        Asked::Send(outbox) => {
            if fails {
                let none = || Event::Sent(Progress { error: Some(PortErrorKind::Unavailable), ..Progress::default() });
                add("sends", ", which fails", base.with_fault(), run.clone(), none());
                let mut next = base.with_fault();
                send(setting, &mut next, &outbox);
                add("sends", ", and the answer is lost", next, run.clone(), none());
            }
            let mut next = base;
            send(setting, &mut next, &outbox);
            let sent: HashSet<usize> = (0..outbox.len()).collect();
            add("sends", "", next, run, Event::Sent(Progress { sent, ..Progress::default() }));
        }
        Asked::Pause => add("pauses", "", base, run, Event::Woken),
        Asked::Done(outcomes) => worlds.extend(ends(base, &run, &outcomes, fails)),
    }
    worlds
}

fn asked(run: &mut Run) -> Asked {
    match run.batch.step() {
        Step::Load { fresh, .. } => Asked::Load { fresh },
        Step::Lease(leasing) => Asked::Write(Request::Lease(leasing)),
        Step::LookUp { ids, .. } => Asked::LookUp(ids.to_vec()),
        Step::Enter(_) => Asked::Enter,
        Step::Invoke { lease, .. } => Asked::Invoke(lease.map(|(_, leasing)| leasing)),
        Step::Commit { commit, .. } => Asked::Write(Request::Commit(Box::new(commit.clone()))),
        Step::Barrier { .. } => Asked::Barrier,
        Step::Send { outbox, .. } => Asked::Send(outbox.to_vec()),
        Step::Finish { expect } => Asked::Write(Request::Finish(expect)),
        Step::Free(owner) => Asked::Write(Request::Free(owner)),
        Step::Pause { .. } => Asked::Pause,
        Step::Done(outcomes) => Asked::Done(outcomes.to_vec()),
    }
}

/// How far what a batch does now may be noticed.
fn next(batch: &mut Batch) -> Next {
    match batch.step() {
        Step::Enter(_) | Step::Barrier { .. } | Step::Pause { .. } | Step::Invoke { lease: None, .. } => Next::Within,
        Step::Invoke { .. } => Next::Calls,
        Step::Load { .. } | Step::LookUp { .. } | Step::Lease(_) | Step::Finish { .. } | Step::Free(_) | Step::Done(_) => {
            Next::Concerns
        }
        Step::Commit { .. } | Step::Send { .. } => Next::Shows,
    }
}

/// The batch is over: what is done is deleted, the rest comes again. An acknowledgement may be lost.
fn ends(mut world: World, run: &Run, outcomes: &[Outcome], fails: bool) -> Vec<(Fate, World)> {
    let queue = &mut world.queues[run.address];
    for waiting in queue.iter_mut().filter(|waiting| waiting.receipt == Some(run.owner)) {
        waiting.receipt = None;
    }
    let mut worlds = Vec::new();
    if fails && outcomes.contains(&Outcome::Done) {
        worlds.push((Fate { step: "ends", end: ", and its answer is lost" }, world.with_fault()));
    }
    let done: Vec<u64> =
        run.deliveries.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Outcome::Done).map(|(seq, _)| *seq).collect();
    // A receipt that is out of date deletes nothing.
    let others = |waiting: &crate::world::Waiting| waiting.receipt.is_some();
    world.queues[run.address].retain(|waiting| !done.contains(&waiting.seq) || others(waiting));
    worlds.push((Fate { step: "ends", end: "" }, world));
    worlds
}

/// What the functions do: the first sends each message on to the second.
fn handle(context: &mut Context, message: &TypedValue, address: usize) -> Handled {
    let mut work = || -> Result<(), statefun_core::FunctionError> {
        let text = message.get::<String>()?.unwrap_or_default();
        let seen = context.get(&SEEN)?.unwrap_or_default() + &text;
        context.set(&SEEN, seen)?;
        if address == 0 {
            context.send(("explore/second", "x"), &text)?;
        }
        Ok(())
    };
    match work() {
        Ok(()) => Handled::Kept,
        Err(error) => Handled::Failed(error),
    }
}

fn send(setting: &Setting, world: &mut World, outbox: &[Effect]) {
    for effect in outbox {
        if let Effect::Send(envelope) = effect {
            world.enqueue(setting, envelope);
        }
    }
}

pub(crate) fn commit(setting: &Setting, world: &mut World, commit: &Commit) -> Committed {
    let address = setting.number_of(&commit.address);
    let found = world.records[address].as_ref().map_or(0, |record| record.version);
    if found != commit.expect && setting.has(Safeguard::Fence) {
        return Committed::Fenced;
    }
    if let Some(segment) = &commit.segment {
        let mut segments = (*world.segments[address]).clone();
        segments.extend(segment.ids.iter().map(|spilled| (spilled.id, segment.newest)));
        world.segments[address] = Known::new(segments);
    }
    world.goes(address, &commit.record.outbox);
    put(world, address, Record { version: commit.record.version.max(found), ..commit.record.clone() });
    Committed::Stored
}

pub(crate) fn lease(world: &mut World, address: usize, leasing: &Leasing) -> Leased {
    let record = world.records[address].as_deref().cloned().unwrap_or_else(|| Record::new(leasing.born));
    let is_ours = record.version == leasing.makes && record.lease == Some(leasing.lease);
    if record.version != leasing.expect && !is_ours {
        return Leased::Refused;
    }
    put(world, address, Record { version: leasing.makes, lease: Some(leasing.lease), ..record });
    Leased::Taken
}

pub(crate) fn finish(setting: &Setting, world: &mut World, address: usize, expect: u64) -> bool {
    let Some(record) =
        world.records[address].clone().filter(|record| record.version == expect || !setting.has(Safeguard::FinishFence))
    else {
        return false;
    };
    world.goes(address, &Outbox::default());
    put(world, address, Record { version: record.version + 1, lease: None, outbox: Outbox::default(), ..(*record).clone() });
    true
}

pub(crate) fn free(world: &mut World, address: usize, owner: Owner) {
    let leased = |record: &Known<Record>| record.lease.is_some_and(|lease| lease.owner == owner);
    if let Some(record) = world.records[address].clone().filter(leased) {
        put(world, address, Record { version: record.version + 1, lease: None, ..(*record).clone() });
    }
}

fn put(world: &mut World, address: usize, record: Record) {
    world.records[address] = Some(Known::new(record));
}

fn boxed(record: &Known<Record>) -> Box<Record> {
    Box::new((**record).clone())
}

impl Request {
    fn name(&self) -> &'static str {
        match self {
            Self::Commit(_) => "commits",
            Self::Lease(_) => "takes a lease",
            Self::Finish(_) => "clears its outbox",
            Self::Free(_) => "frees its lease",
        }
    }

    fn carry_out(&self, setting: &Setting, world: &mut World, address: usize) -> Event {
        match self {
            Self::Commit(commit) => Event::Committed(self::commit(setting, world, commit)),
            Self::Lease(leasing) => Event::Leased(lease(world, address, leasing)),
            Self::Finish(expect) => Event::Finished(finish(setting, world, address, *expect)),
            Self::Free(owner) => {
                free(world, address, *owner);
                Event::Freed
            }
        }
    }

    /// Whoever frees a lease does not wait for the answer.
    fn failed(&self) -> Event {
        match self {
            Self::Free(_) => Event::Freed,
            _ => FAILED,
        }
    }

    fn late(&self, address: usize) -> Late {
        match self {
            Self::Commit(commit) => Late::Commit(address, commit.clone()),
            Self::Lease(leasing) => Late::Lease(address, *leasing),
            Self::Finish(expect) => Late::Finish(address, *expect),
            Self::Free(owner) => Late::Free(address, *owner),
        }
    }
}
