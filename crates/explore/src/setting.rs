//! What holds for all worlds of a search: functions, rules, and what comes from outside.

use std::{sync::Arc, time::Duration};

use statefun_core::{
    Address, Backoff, Budget, Envelope, EnvelopeId, FunctionSpec, LedgerShape, OnFailure, Protocol, Rules, Safeguard, Safeguards,
    Timestamp, TypeName, TypedValue, ValueSpec,
    protocol::{Marks, Pace},
};

use crate::{
    search::Limits,
    world::{ADDRESSES, START},
};

pub(crate) const SEEN: ValueSpec<String> = ValueSpec::new("seen");
/// Takes messages from outside, and sends each on to the second.
const FIRST: TypeName = TypeName::from_static("explore/first");
const SECOND: TypeName = TypeName::from_static("explore/second");

/// What holds for all worlds of a search.
pub(crate) struct Setting {
    pub(crate) addresses: [Address; ADDRESSES],
    pub(crate) functions: [Arc<FunctionSpec>; ADDRESSES],
    pub(crate) rules: Arc<Rules>,
    pub(crate) pace: Pace,
    together: bool,
    pub(crate) every_order: bool,
}

impl Setting {
    pub(crate) fn new(safeguards: Safeguards, limits: Limits) -> Self {
        let Limits { marks, together, every_order, .. } = limits;
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
            backoff: Backoff::default(),
            drain_at_once: 1,
        };
        let rules = Arc::new(Rules { protocol, budget, ..Rules::default() });
        Self { addresses, functions: [FIRST, SECOND].map(function), rules, pace, together, every_order }
    }

    pub(crate) fn number_of(&self, address: &Address) -> usize {
        usize::from(*address == self.addresses[1])
    }

    /// Envelopes from outside, each with the number of its first message.
    pub(crate) fn ingress(&self) -> Vec<(u8, Envelope)> {
        let envelope = |number: u8, messages: &[u8], to: usize| Envelope {
            id: EnvelopeId([number; 16]),
            to: self.addresses[to].clone(),
            from: None,
            sent_at: Timestamp(START * 1_000),
            keyed: false,
            hops: 0,
            trace: None,
            messages: messages.iter().map(|message| text(*message)).collect(),
        };
        let first = if self.together { vec![(1, &[1, 2][..])] } else { vec![(1, &[1][..]), (2, &[2][..])] };
        let mut all: Vec<_> = first.into_iter().map(|(number, messages)| (number, envelope(number, messages, 0))).collect();
        all.push((3, envelope(3, &[3], 1)));
        all
    }

    /// How many messages a delivery may have: as many as wait, or, where a later one may prove something, one after the other.
    pub(crate) fn received(&self) -> std::ops::RangeInclusive<usize> {
        if self.rules.protocol.marks.is_some() { 1..=2 } else { 2..=2 }
    }

    /// A redrive policy breaks order, and the proofs that marks rest on: a queue with marks must not have one.
    pub(crate) fn redrives(&self) -> bool {
        self.rules.protocol.marks.is_none()
    }

    /// Whether what the store and the queues do has this safeguard.
    pub(crate) fn has(&self, safeguard: Safeguard) -> bool {
        self.rules.protocol.safeguards.on(safeguard)
    }

    /// Copies that a producer may send again: of one message to each address.
    pub(crate) fn copies(&self) -> impl Iterator<Item = (u8, Envelope)> {
        self.ingress().into_iter().filter(|(number, _)| *number != 2)
    }
}

fn text(message: u8) -> TypedValue {
    TypedValue::of(&message.to_string()).unwrap_or_else(|error| unreachable!("{error}"))
}
