//! Somebody else who may send to a function's queue: messages that are not envelopes, and envelopes in groups that are not their addresses'.

use std::collections::BTreeSet;

use statefun_core::{Envelope, EnvelopeId, Timestamp, TypedValue, group_id};

use crate::{
    dials::{CALM, QUIET, SECOND, START},
    executor::WORLD,
    faults::{Service, Struck},
    fifo::Posted,
    trial::{SharedRng, Trial, lock},
    workload::{Kind, Payload, instance},
    world::WorldState,
};

/// The number of the first message; no record has one like it.
const FIRST: u32 = 500_000;

impl Trial {
    /// Sends a few messages at any time, the last of them when nothing may fail any more.
    pub(crate) fn send_foreign(&self, rng: &SharedRng) {
        for number in 0..self.dials.foreign {
            let last = number + 1 == self.dials.foreign;
            let at = if last { QUIET + 50 * SECOND } else { lock(rng).u64(START..START + 2_500 * SECOND) };
            let (trial, rng) = (self.clone(), rng.clone());
            self.world.executor.spawn(WORLD, async move {
                trial.world.executor.sleep_until(at).await;
                while trial.is_out(Service::Sending) {
                    trial.world.executor.sleep(10 * SECOND).await;
                }
                let queue = trial.dials.queue_at(at, &mut lock(&rng));
                let posted = posted(FIRST + number, trial.dials.instances, &mut lock(&rng));
                let mut world = trial.world.lock();
                world.struck(Struck::Foreign);
                world.foreign.insert(FIRST + number);
                world.stored.queues[queue].post(posted, trial.world.executor.now());
            });
        }
    }
}

/// A message: half of them are not envelopes, in groups that have others.
fn posted(number: u32, instances: u32, rng: &mut fastrand::Rng) -> Posted {
    let letter = ['A', 'B', 'C', 'D'][rng.usize(0..4)];
    let to = instance(letter, if matches!(letter, 'A' | 'B') { rng.u32(0..instances) } else { 0 });
    let payload = Payload { number, part: 0, kind: Kind::Plain, at: letter };
    let envelope = Envelope {
        id: EnvelopeId::of_ingress("foreign", &number.to_be_bytes(), to.function()),
        to: to.clone(),
        from: None,
        sent_at: Timestamp(CALM),
        keyed: false,
        hops: 0,
        trace: None,
        messages: TypedValue::of(&payload).into_iter().collect(),
    };
    let mark = mark(number);
    let malformed = |body: String| (body, group_id(&to));
    let (body, group) = match rng.u8(0..6) {
        0 => malformed(mark),
        1 => malformed(format!("{{\"v\":1,\"id\":\"{mark}\"}}")),
        2 => malformed(envelope.to_wire().replace("\"v\":1", &format!("\"{mark}\":1,\"v\":0"))),
        3 => (envelope.to_wire(), "by-hand".to_owned()),
        4 => (envelope.to_wire(), group_id(&instance('C', 7))),
        _ => (envelope.to_wire(), group_id(&instance(if letter == 'D' { 'C' } else { 'D' }, 0))),
    };
    Posted { body: body.into(), group: group.into(), id: mark_of_id(number).into() }
}

fn mark(number: u32) -> String {
    format!("foreign-{number}-")
}

/// Not the form of an envelope's id.
fn mark_of_id(number: u32) -> String {
    format!("by hand {number}")
}

/// What is wrong with the letters of what should not have come: each such message has one, and nothing else has.
pub(crate) fn judge(world: &WorldState) -> Vec<String> {
    let malformed = world.stored.malformed.values();
    let mut parked: BTreeSet<Option<u32>> =
        malformed.map(|record| world.foreign.iter().copied().find(|number| record.raw.contains(&mark(*number)))).collect();
    let strays = world.stored.strays.values();
    parked.extend(strays.map(|letter| {
        let payload = letter.envelope.messages.first().and_then(|message| message.get::<Payload>().ok().flatten());
        payload.map(|payload| payload.number).filter(|number| world.foreign.contains(number))
    }));
    let lost = world.foreign.iter().filter(|number| !parked.contains(&Some(**number)));
    let mut problems: Vec<_> = lost.map(|number| format!("the foreign message {number} is lost")).collect();
    if parked.contains(&None) {
        problems.push("a message was parked as malformed that is not".to_owned());
    }
    problems
}
