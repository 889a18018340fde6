//! The judge. It knows what was put in and looks at what came out (state, egress, dead letters); of the engine it knows nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use statefun_core::{DeadLetter, Reason, Record};

use crate::{
    workload::{FLOOD, FLOOD_PARTS, Kind, LOG, Log, MAX_HOPS, Payload, address, letter},
    world::WorldState,
};

type Message = (u32, u32);

/// What is known of the input.
pub(crate) struct Input {
    /// Where each record went, and its messages.
    pub(crate) records: Vec<(char, Vec<Payload>)>,
    /// Whether the queue's own dead-letter queue may have reordered messages.
    pub(crate) reordered: bool,
    /// Loops started at L.
    pub(crate) loops: usize,
}

/// Everything that is wrong with the world after a trial.
pub(crate) fn judge(input: &Input, world: &WorldState) -> Vec<String> {
    let mut judge = Judge { world, problems: world.problems.clone() };
    let logs: BTreeMap<char, Log> = ['A', 'B', 'C', 'D', 'T', 'L'].into_iter().map(|name| (name, judge.log(name))).collect();
    let from = |at: char, sender: char| -> Vec<Message> {
        logs[&at].0.iter().filter(|(from, ..)| *from == sender).map(|(_, number, part)| (*number, *part)).collect()
    };
    for target in ['A', 'B'] {
        let put_in: Vec<Message> = input
            .records
            .iter()
            .filter(|(to, _)| *to == target)
            .flat_map(|(_, payloads)| payloads.iter().map(|payload| (payload.number, payload.part)))
            .collect();
        // The router sends late and again: its records have no order, but those of one envelope have.
        judge.once(target, '-', &put_in, &from(target, '-'), false);
        judge.terminal_never_applied(input, target, &from(target, '-'));
    }
    let (a, b, c) = (from('A', '-'), from('B', '-'), [from('C', 'A'), from('C', 'B')]);
    judge.once('C', 'A', &a, &c[0], !input.reordered);
    judge.once('C', 'B', &b, &c[1], !input.reordered);
    let parts: Vec<Message> = b.iter().flat_map(|(number, part)| (0..3).map(move |index| (*number, part * 3 + index))).collect();
    judge.once('D', 'B', &parts, &from('D', 'B'), !input.reordered);
    let all: Vec<Message> = logs[&'C'].0.iter().map(|(_, number, part)| (*number, *part)).collect();
    judge.once('D', 'C', &all, &from('D', 'C'), !input.reordered);
    judge.egress(input, &all);
    judge.timers(input, &a, &from('T', 'A'));
    judge.loops(input, &logs[&'L']);
    judge.only_the_slow_run_out_of_time();
    judge.drained();
    judge.problems
}

struct Judge<'a> {
    world: &'a WorldState,
    problems: Vec<String>,
}

impl Judge<'_> {
    fn log(&self, name: char) -> Log {
        let state = self.world.table.get(&address(name)).and_then(|record: &Record| record.state.get(LOG.name()));
        state.and_then(|stored| stored.value.get().ok().flatten()).unwrap_or_default()
    }

    /// Messages of a sender that a receiver gave up: how often, by distinct letter. `true` for those that may be applied too.
    fn given_up(&self, at: char, sender: char) -> BTreeMap<Message, (u32, bool)> {
        let mut given_up: BTreeMap<Message, (u32, bool)> = BTreeMap::new();
        let matches =
            |letter_: &&DeadLetter| letter_.envelope.to == address(at) && letter(letter_.envelope.from.as_ref()) == sender;
        for parked in self.world.letters.values().filter(matches) {
            for message in &parked.envelope.messages {
                if let Ok(Some(payload)) = message.get::<Payload>() {
                    let entry = given_up.entry((payload.number, payload.part)).or_default();
                    if parked.reason == Reason::TooOld {
                        entry.1 = true;
                    } else {
                        entry.0 += 1;
                    }
                }
            }
        }
        given_up
    }

    /// Each message sent is applied or given up, once; and in the order sent.
    fn once(&mut self, at: char, sender: char, sent: &[Message], applied: &[Message], ordered: bool) {
        let given_up = self.given_up(at, sender);
        let sent_set: BTreeSet<_> = sent.iter().collect();
        let mut counts: BTreeMap<Message, u32> = BTreeMap::new();
        for message in applied {
            *counts.entry(*message).or_default() += 1;
            if !sent_set.contains(message) {
                self.problems.push(format!("{sender}→{at}: {message:?} was applied but never sent"));
            }
        }
        for message in sent {
            let applied = counts.get(message).copied().unwrap_or(0);
            let (parked, too_old) = given_up.get(message).copied().unwrap_or_default();
            if applied + parked > 1 {
                self.problems.push(format!("{sender}→{at}: {message:?} applied {applied} times, given up {parked} times"));
            }
            if applied + parked == 0 && !too_old {
                self.problems.push(format!("{sender}→{at}: {message:?} is lost"));
            }
        }
        if ordered {
            let place: BTreeMap<_, _> = sent.iter().enumerate().map(|(place, message)| (message, place)).collect();
            let places: Vec<_> = applied.iter().filter_map(|message| place.get(message)).collect();
            if !places.is_sorted() {
                self.problems.push(format!("{sender}→{at}: out of order"));
            }
        }
    }

    fn terminal_never_applied(&mut self, input: &Input, at: char, applied: &[Message]) {
        for payload in input.records.iter().flat_map(|(_, payloads)| payloads) {
            let never = matches!(payload.kind, Kind::Terminal | Kind::Deadly) && payload.at == at;
            if never && applied.contains(&(payload.number, payload.part)) {
                self.problems.push(format!("{at}: {payload:?} failed and was applied"));
            }
        }
    }

    /// One record id per message that C applied, however often it was emitted; and the floods that some of them cause.
    fn egress(&mut self, input: &Input, applied: &[Message]) {
        let mut ids: BTreeMap<Message, HashSet<_>> = BTreeMap::new();
        for record in &self.world.egress {
            if let Ok(Some(payload)) = record.value.get::<Payload>() {
                ids.entry((payload.number, payload.part)).or_default().insert(record.id);
            }
        }
        let mut expected: BTreeSet<_> = applied.iter().copied().collect();
        let floods = input.records.iter().flat_map(|(_, payloads)| payloads).filter(|payload| payload.kind == Kind::Floods);
        for flood in floods.filter(|flood| applied.contains(&(flood.number, flood.part))) {
            expected.extend((0..FLOOD).map(|number| (flood.number, FLOOD_PARTS + number)));
        }
        for message in expected.iter().filter(|message| !ids.contains_key(*message)) {
            self.problems.push(format!("egress: {message:?} is lost"));
        }
        for (message, ids) in ids {
            if ids.len() != 1 || !expected.contains(&message) {
                self.problems.push(format!("egress: {message:?} has {} ids", ids.len()));
            }
        }
    }

    /// Delayed messages arrive once; cancelled ones at most once.
    fn timers(&mut self, input: &Input, sent_by_a: &[Message], at_t: &[Message]) {
        let kinds: BTreeMap<Message, Kind> = input
            .records
            .iter()
            .filter(|(to, _)| *to == 'A')
            .flat_map(|(_, payloads)| payloads.iter().map(|payload| ((payload.number, payload.part), payload.kind)))
            .collect();
        let kind = |message: &Message| kinds.get(message).copied();
        let cancelled = |message: &Message| kind(&(message.0 + 1, 0)) == Some(Kind::Cancels);
        let delayed = |message: &&Message| matches!(kind(message), Some(Kind::Delays | Kind::DelaysWithToken));
        let sent: Vec<Message> = sent_by_a.iter().filter(delayed).copied().collect();
        let sure: Vec<Message> =
            sent.iter().filter(|message| kind(message) == Some(Kind::Delays) || !cancelled(message)).copied().collect();
        let maybe: HashSet<Message> = sent.iter().filter(|message| !sure.contains(message)).copied().collect();
        let applied: Vec<Message> = at_t.iter().filter(|message| !maybe.contains(message)).copied().collect();
        self.once('T', 'A', &sure, &applied, false);
        for message in maybe {
            if at_t.iter().filter(|applied| **applied == message).count() > 1 {
                self.problems.push(format!("A→T: {message:?} was cancelled and still applied twice"));
            }
        }
        if !self.world.timers.is_empty() {
            self.problems.push(format!("{} timers never fired", self.world.timers.len()));
        }
    }

    /// A loop ends at the hop limit, as a dead letter. (Copies that came too late are dead letters beside that.)
    fn loops(&mut self, input: &Input, log: &Log) {
        let ends: Vec<_> =
            [self.given_up('L', 'L'), self.given_up('L', '-')].into_iter().flat_map(BTreeMap::into_values).collect();
        let ended = ends.iter().filter(|(parked, _)| *parked > 0).count();
        let longest = input.loops * (MAX_HOPS as usize + 1);
        if log.0.len() > longest || ended > input.loops || ends.len() < input.loops {
            self.problems.push(format!("L: {} loops went on for {} messages, {ended} were ended", input.loops, log.0.len()));
        }
    }

    /// Work that needs several invocations is not given up for that.
    fn only_the_slow_run_out_of_time(&mut self) {
        let late = self.world.letters.values().filter(|letter| letter.error.contains("before the deadline"));
        for message in late.flat_map(|letter| &letter.envelope.messages) {
            if let Ok(Some(payload)) = message.get::<Payload>()
                && !matches!(payload.kind, Kind::Slow | Kind::Deadly)
            {
                self.problems.push(format!("{payload:?} was given up because other work took the time"));
            }
        }
    }

    fn drained(&mut self) {
        let waiting = self.world.queue.len();
        if waiting > 0 {
            self.problems.push(format!("{waiting} messages are stuck in the queue"));
        }
    }
}
