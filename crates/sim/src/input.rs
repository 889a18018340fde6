//! What is put into a world: records with a time, a target and what they ask of their handlers.

use std::sync::Arc;

use statefun_core::{Address, Envelope, OnFailure, Timestamp};
use statefun_ingress::{IngressRecord, RouteError, Routed, Router, envelopes};

use crate::{
    dials::{Dials, Keys, QUIET, SECOND, START, World},
    workload::{Kind, Payload, instance},
};

/// Records in the time of faults; the others come after it, and are plain.
pub(crate) const FAULTY: u32 = 90;
/// All records.
const ALL: u32 = 110;
/// Loops started at L. Their records come last.
pub(crate) const LOOPS: u32 = 2;
/// In a burst come so many records at a time.
const BURST: u32 = 5;
/// After so many records their keys come again, for other records.
const KEYS: u32 = 45;

/// A record as its source has it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) target: char,
    pub(crate) to: Address,
    /// When it arrived at its source.
    pub(crate) at: u64,
    /// What its id is derived from.
    pub(crate) key: u32,
    pub(crate) keyed: bool,
    pub(crate) payloads: Vec<Payload>,
}

impl Entry {
    /// The envelope that the shipped router makes of it.
    pub(crate) fn envelope(&self) -> Envelope {
        let router = Records(vec![self.clone()].into());
        match envelopes(&router, &self.record(0, None)).map(|mut made| made.pop()) {
            Ok(Some(envelope)) => envelope,
            _ => unreachable!("an entry has a message"),
        }
    }

    /// Its record, at a place among those of a router. Sent anew by its producer `at` another time, it is another record of the same key.
    pub(crate) fn record(&self, place: usize, at: Option<u64>) -> IngressRecord {
        let number = self.payloads.first().map_or(0, |payload| payload.number);
        let position = format!("{} {number} {}", self.target, at.unwrap_or_default());
        let mut record = IngressRecord::new("sim/in", "sim", position, Timestamp(at.unwrap_or(self.at)), place.to_string());
        // Records of one address have one partition key; others share it.
        record.order = Some(self.target.to_string().into());
        record
    }
}

/// The records that a router knows, each by its place.
pub(crate) struct Records(pub(crate) Arc<[Entry]>);

impl Records {
    fn entry(&self, record: &IngressRecord) -> Result<&Entry, RouteError> {
        self.0.get(record.text()?.parse::<usize>()?).ok_or_else(|| RouteError::new("no such record"))
    }
}

impl Router for Records {
    fn route(&self, record: &IngressRecord) -> Result<Vec<Routed>, RouteError> {
        let entry = self.entry(record)?;
        entry.payloads.iter().map(|payload| Routed::new(entry.to.clone(), payload)).collect()
    }

    fn deduplication_key(&self, record: &IngressRecord) -> Result<Option<String>, RouteError> {
        let entry = self.entry(record)?;
        Ok(entry.keyed.then(|| entry.key.to_string()))
    }
}

/// The records of a world.
pub(crate) fn entries(dials: &Dials, rng: &mut fastrand::Rng) -> Vec<Entry> {
    let mut entries: Vec<Entry> = (0..ALL).map(|number| entry(number, dials, rng)).collect();
    // Late, so that C is not kept from everything else. While faults end most invocations it gets nowhere: a queue that gives messages
    // up after a few receives would do so.
    let floods = rng.u8(0..4) == 0 && !dials.reorders() && dials.world == World::Mixed;
    if let Some(last) = entries.get_mut(FAULTY as usize - 1).filter(|_| floods) {
        let payload = Payload { number: FAULTY - 1, part: 0, kind: Kind::Floods, at: 'C' };
        (last.target, last.to, last.payloads) = ('A', instance('A', 0), vec![payload]);
    }
    entries.extend((0..LOOPS).map(|number| {
        let payload = Payload { number, part: 0, kind: Kind::Plain, at: 'L' };
        let (to, at) = (instance('L', 0), START + 5 * SECOND);
        Entry { target: 'L', to, at, key: 1_000 + number, keyed: false, payloads: vec![payload] }
    }));
    entries
}

fn entry(number: u32, dials: &Dials, rng: &mut fastrand::Rng) -> Entry {
    let faulty = number < FAULTY;
    let burst = number / BURST;
    let (key, target) = match dials.keys {
        // Both uses of a key are for one instance.
        Keys::Reused => (number % KEYS, if (number % KEYS).is_multiple_of(2) { 'A' } else { 'B' }),
        _ if matches!(dials.world, World::Sparse | World::Late) => (number, 'A'),
        _ => (number, if rng.bool() { 'A' } else { 'B' }),
    };
    let place = if dials.world == World::Sparse { burst / 2 } else { number };
    let at = match (faulty, dials.world) {
        (true, World::Sparse) => START + u64::from(burst) * 100 * SECOND,
        (true, _) => START + u64::from(number) * 20 * SECOND,
        (false, _) => QUIET + u64::from(number) * SECOND,
    };
    let count = if rng.u8(0..4) == 0 && dials.world != World::Sparse { rng.u32(2..6) } else { 1 };
    let (first, strikes) = if faulty { strike(number, target, dials, rng) } else { (Kind::Plain, target) };
    let payloads = (0..count).map(|part| {
        let (kind, at) = if part == 0 || first == Kind::Lengthy { (first, strikes) } else { (Kind::Plain, target) };
        Payload { number, part, kind, at }
    });
    let payloads = payloads.collect();
    let keyed = match dials.keys {
        Keys::Never => false,
        Keys::Some => faulty && rng.u8(0..4) == 0,
        Keys::All | Keys::Reused => faulty,
    };
    // In the sparse world nobody comes by later: what is left behind there is not found by chance.
    let place = if !faulty && dials.world == World::Sparse { 100 } else { place % dials.instances };
    Entry { target, to: instance(target, place), at, key, keyed, payloads }
}

/// What a record asks, and where.
fn strike(number: u32, target: char, dials: &Dials, rng: &mut fastrand::Rng) -> (Kind, char) {
    if dials.world == World::Sparse || dials.keys == Keys::Reused {
        return (Kind::Plain, target);
    }
    // One record schedules, the next one cancels.
    match (dials.world, number % 4) {
        (World::Late, 0) => return (Kind::DelaysWithToken, target),
        (World::Late, 1) => return (Kind::Cancels, target),
        _ => {}
    }
    let at = [target, 'C', 'D'][rng.usize(0..3)];
    if dials.world == World::Twins {
        let kind = if rng.bool() { gives_up(dials.poison, at, dials) } else { Kind::Plain };
        return (kind, at);
    }
    let (deadly, lengthy) = if dials.world == World::Suspicious { (15, 30) } else { (1, 1) };
    match rng.u8(0..100) {
        roll if roll < deadly => return (gives_up(Kind::Deadly, at, dials), at),
        roll if roll < deadly + lengthy => return (Kind::Lengthy, at),
        _ => {}
    }
    match rng.u8(0..40) {
        0 => (Kind::Flaky(1), at),
        1 => (Kind::Flaky(2), at),
        2 => (Kind::Panics, at),
        3 => (gives_up(Kind::Terminal, at, dials), at),
        4 => (gives_up(Kind::Hopeless, at, dials), at),
        5 => (Kind::Slow, at),
        6..=10 if target == 'A' => (Kind::Delays, target),
        11..=16 if target == 'A' => (Kind::DelaysWithToken, target),
        17..=22 if target == 'A' => (Kind::Cancels, target),
        _ => (Kind::Plain, target),
    }
}

/// What nobody survives would keep a function busy for ever that retries for ever.
fn gives_up(kind: Kind, at: char, dials: &Dials) -> Kind {
    match dials.policies.get(&at) {
        Some(OnFailure::RetryForever) => Kind::Flaky(6),
        _ => kind,
    }
}
