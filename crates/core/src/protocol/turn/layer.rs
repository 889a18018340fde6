//! Uncommitted changes, in layers: a message's upon its envelope's upon the turn's. Dropping a layer undoes it.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    address::Address,
    effects::DeadLetter,
    id::EnvelopeId,
    record::{LiveToken, StoredValue},
    time::Timestamp,
    type_name::TypeName,
    typed_value::TypedValue,
};

/// Something to be sent, before it is known which commit sends it.
#[derive(Debug, Clone)]
pub(super) enum Staged {
    Send(Parcel),
    Schedule { timer: EnvelopeId, due: Timestamp, parcel: Parcel },
    Cancel { timer: EnvelopeId, due: Timestamp },
    Egress { egress: TypeName, value: TypedValue },
    DeadLetter(Box<DeadLetter>),
}

/// A message on its way into an envelope.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    pub(super) to: Address,
    pub(super) hops: u32,
    pub(super) trace: Option<Arc<str>>,
    pub(super) value: TypedValue,
}

/// Changes on top of something; `None` is a removal.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    pub(super) state: BTreeMap<Arc<str>, Option<StoredValue>>,
    pub(super) tokens: BTreeMap<String, Option<LiveToken>>,
    pub(super) effects: Vec<Staged>,
    pub(super) bytes: usize,
    pub(super) invoked: bool,
}

impl Layer {
    /// Puts `upper` on top of this one for good.
    pub(super) fn absorb(&mut self, mut upper: Self) {
        self.state.append(&mut upper.state);
        self.tokens.append(&mut upper.tokens);
        self.effects.append(&mut upper.effects);
        self.bytes += upper.bytes;
        self.invoked |= upper.invoked;
    }
}
