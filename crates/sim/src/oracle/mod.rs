//! The judge. It knows what was put in and looks at what came out (state, egress, dead letters); of the engine it knows nothing.

mod egress;
mod end;
mod letters;
mod timers;

use std::collections::{BTreeMap, BTreeSet};

use statefun_core::{Address, DeadLetter, EnvelopeId, OnFailure, Reason};

use crate::{
    dials::Router,
    faults::Struck,
    input::LOOPS,
    trial::Trial,
    workload::{Kind, LOG, Log, MAX_HOPS, Payload, address, letter},
    world::WorldState,
};

type Message = (u32, u32);

/// Everything that is wrong with the world after a trial.
pub(crate) fn judge(trial: &Trial, world: &WorldState) -> Vec<String> {
    let logs = world.stored.table.iter().map(|(address, record)| {
        let log = record.state.get(LOG.name()).and_then(|stored| stored.value.get().ok().flatten());
        (address.clone(), log.unwrap_or_default())
    });
    let mut judge = Judge { trial, world, logs: logs.collect(), problems: world.problems.clone() };
    judge.ingress();
    let (a, b) = (judge.applied_by('A'), judge.applied_by('B'));
    let parts = |messages: &Vec<Message>| -> Vec<Message> {
        messages.iter().flat_map(|(number, part)| (0..3).map(move |index| (*number, part * 3 + index))).collect()
    };
    let ordered = !trial.dials.reorders();
    judge.once(&address('C'), 'A', &a, ordered);
    judge.once(&address('C'), 'B', &b, ordered);
    judge.once(&address('D'), 'B', &b.iter().map(parts).collect::<Vec<_>>(), ordered);
    let all: Vec<Message> = judge.log(&address('C')).iter().map(|(_, number, part)| (*number, *part)).collect();
    judge.once(&address('D'), 'C', std::slice::from_ref(&all), ordered);
    judge.egress(&all);
    judge.timers(&a);
    judge.loops();
    judge.letters();
    judge.killers();
    judge.end();
    judge.problems.extend(crate::foreign::judge(world));
    judge.problems
}

struct Judge<'a> {
    trial: &'a Trial,
    world: &'a WorldState,
    logs: BTreeMap<Address, Log>,
    problems: Vec<String>,
}

impl Judge<'_> {
    /// What an instance applied, in order.
    fn log(&self, at: &Address) -> &[(char, u32, u32)] {
        self.logs.get(at).map_or(&[], |log| &log.0)
    }

    fn applied_from(&self, at: &Address, sender: char) -> Vec<Message> {
        self.log(at).iter().filter(|(from, ..)| *from == sender).map(|(_, number, part)| (*number, *part)).collect()
    }

    /// What each instance of a function applied.
    fn applied_by(&self, name: char) -> Vec<Vec<Message>> {
        let of_it = self.logs.iter().filter(|(address, _)| letter(Some(address)) == name);
        of_it.map(|(_, log)| log.0.iter().map(|(_, number, part)| (*number, *part)).collect()).collect()
    }

    fn policy(&self, at: &Address) -> OnFailure {
        self.trial.dials.policies.get(&letter(Some(at))).copied().unwrap_or_default()
    }

    fn ingress(&mut self) {
        let trial = self.trial;
        let targets: BTreeSet<&Address> =
            trial.entries.iter().filter(|entry| entry.target != 'L').map(|entry| &entry.to).collect();
        for to in targets {
            let entries = trial.entries.iter().filter(|entry| entry.to == *to);
            let sent: Vec<Message> =
                entries.flat_map(|entry| entry.payloads.iter().map(|payload| (payload.number, payload.part))).collect();
            // A careless router's records have no order, but those of one envelope have.
            let ordered = trial.dials.router == Router::InOrder && !trial.dials.reorders();
            self.once(to, '-', &[sent], ordered);
            self.never_applied(to);
        }
    }

    /// Messages of a sender that a receiver gave up: how often, by distinct letter. `true` for those that may be applied too.
    fn given_up(&self, at: &Address, sender: char) -> BTreeMap<Message, (u32, bool)> {
        let mut given_up: BTreeMap<Message, (u32, bool)> = BTreeMap::new();
        let matches = |parked: &&DeadLetter| parked.envelope.to == *at && letter(parked.envelope.from.as_ref()) == sender;
        for parked in self.world.stored.letters.values().filter(matches) {
            for payload in payloads(parked) {
                let entry = given_up.entry((payload.number, payload.part)).or_default();
                if parked.reason == Reason::TooOld { entry.1 = true } else { entry.0 += 1 }
            }
        }
        given_up
    }

    /// Each message sent is applied or given up, once; and those of each sending instance in the order sent.
    fn once(&mut self, at: &Address, sender: char, sent: &[Vec<Message>], ordered: bool) {
        let (given_up, applied) = (self.given_up(at, sender), self.applied_from(at, sender));
        let sent_set: BTreeSet<_> = sent.iter().flatten().collect();
        let mut counts: BTreeMap<Message, u32> = BTreeMap::new();
        for message in &applied {
            *counts.entry(*message).or_default() += 1;
            if !sent_set.contains(message) {
                self.problems.push(format!("{sender}→{at}: {message:?} was applied but never sent"));
            }
        }
        for message in sent_set {
            let applied = counts.get(message).copied().unwrap_or(0);
            let (parked, too_old) = given_up.get(message).copied().unwrap_or_default();
            if applied + parked > 1 {
                self.problems.push(format!("{sender}→{at}: {message:?} applied {applied} times, given up {parked} times"));
            }
            let excused = too_old || self.was_dropped(at, sender, *message) || self.was_removed(at, sender, *message);
            if applied + parked == 0 && !excused {
                self.problems.push(format!("{sender}→{at}: {message:?} is lost"));
            }
        }
        for sent in sent.iter().filter(|_| ordered) {
            let place: BTreeMap<_, _> = sent.iter().enumerate().map(|(place, message)| (message, place)).collect();
            if !applied.iter().filter_map(|message| place.get(message)).is_sorted() {
                self.problems.push(format!("{sender}→{at}: out of order"));
            }
        }
    }

    /// Whether the function's policy drops what it gives up, and it had reason to.
    fn was_dropped(&self, at: &Address, sender: char, message: Message) -> bool {
        let OnFailure::Drop { .. } = self.policy(at) else { return false };
        let envelope = self.world.stored.sent.get(&(letter(Some(at)), sender, message.0, message.1));
        envelope.is_some_and(|id| self.had_reason_to_give_up(at, *id))
    }

    /// Whether its queue kept it no longer.
    fn was_removed(&self, at: &Address, sender: char, message: Message) -> bool {
        let removed = |id: EnvelopeId| self.world.stored.queues.iter().any(|queue| queue.removed().contains(&id));
        if sender == '-' {
            let holds = |entry: &&crate::input::Entry| {
                entry.to == *at && entry.payloads.iter().any(|payload| (payload.number, payload.part) == message)
            };
            return self.trial.entries.iter().filter(holds).any(|entry| removed(entry.envelope().id));
        }
        let timer = self.world.stored.scheduled.iter().find(|(_, (_, payload))| (payload.number, payload.part) == message);
        let sent = self.world.stored.sent.get(&(letter(Some(at)), sender, message.0, message.1));
        sent.copied().or(timer.map(|(id, _)| *id)).is_some_and(removed)
    }

    fn deaths(&self, at: &Address, id: EnvelopeId) -> u32 {
        self.world.deaths.get(&(at.clone(), id)).copied().unwrap_or_default()
    }

    fn had_reason_to_give_up(&self, at: &Address, id: EnvelopeId) -> bool {
        let ends = self.trial.calls.of_envelope(at, id);
        let failures = ends.failed + ends.cut + self.deaths(at, id);
        ends.terminal > 0 || self.policy(at).max_attempts().is_some_and(|attempts| failures >= attempts)
    }

    fn never_applied(&mut self, at: &Address) {
        let applied = self.applied_from(at, '-');
        for payload in self.trial.entries.iter().flat_map(|entry| &entry.payloads) {
            let never = matches!(payload.kind, Kind::Terminal | Kind::Hopeless | Kind::Deadly) && payload.at == letter(Some(at));
            if never && applied.contains(&(payload.number, payload.part)) {
                self.problems.push(format!("{at}: {payload:?} failed and was applied"));
            }
        }
    }

    /// A loop goes on message by message, each once, and ends as a dead letter: at the hop limit, or where a message was given up.
    fn loops(&mut self) {
        let at = address('L');
        let mut given_up = self.given_up(&at, 'L');
        given_up.extend(self.given_up(&at, '-'));
        for started in 0..LOOPS {
            let mut parts: Vec<u32> =
                self.log(&at).iter().filter(|(_, number, _)| *number == started).map(|(.., part)| *part).collect();
            parts.sort_unstable();
            let applied = parts.len() as u32;
            let whole = parts.iter().copied().eq(0..applied);
            let sender = if applied == 0 { '-' } else { 'L' };
            if whole && self.was_removed(&at, sender, (started, applied)) {
                continue;
            }
            if !whole || applied > MAX_HOPS + 1 || !given_up.contains_key(&(started, applied)) {
                self.problems.push(format!("L: loop {started} applied {parts:?}, and did not end with the next one"));
            }
        }
    }
}

fn payloads(letter: &DeadLetter) -> Vec<Payload> {
    letter.envelope.messages.iter().filter_map(|message| message.get::<Payload>().ok().flatten()).collect()
}

/// Messages that a policy dropped: nothing else says so.
pub(crate) fn count_dropped(trial: &Trial, world: &mut WorldState) {
    let judge = Judge { trial, world, logs: BTreeMap::new(), problems: Vec::new() };
    let sent = world.stored.sent.iter().filter(|((to, ..), id)| {
        let at = address(*to);
        matches!(judge.policy(&at), OnFailure::Drop { .. }) && judge.had_reason_to_give_up(&at, **id)
    });
    let dropped = sent.count();
    (0..dropped).for_each(|_| world.struck(Struck::Dropped));
}
