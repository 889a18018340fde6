//! What the handlers did, kept outside of everything that is rolled back: how often each message was handled, and how that ended.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use statefun_core::{Address, EnvelopeId};

use crate::{executor::EnvId, world::World};

/// How the calls for one envelope ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ends {
    pub(crate) calls: u32,
    /// An error that may be retried, or a panic.
    pub(crate) failed: u32,
    pub(crate) terminal: u32,
    /// The call did not come to its end: it was given up. (What died with its process is not counted here.)
    pub(crate) cut: u32,
    /// The highest attempt that a handler saw.
    pub(crate) attempt: u32,
}

#[derive(Debug, Default)]
struct Inner {
    messages: BTreeMap<(char, u32, u32), u32>,
    envelopes: BTreeMap<(Address, EnvelopeId), Ends>,
}

/// The calls of all handlers; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Inner>>);

/// A call under way. Dropped before it ended, it was cut.
pub(crate) struct Call {
    calls: Calls,
    envelope: (Address, EnvelopeId),
    world: World,
    env: EnvId,
    ended: bool,
}

/// How a handler ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Kept,
    Failed,
    Terminal,
}

impl Calls {
    /// A handler begins with a message. Also says which call of it this is.
    pub(crate) fn begin(
        &self,
        (world, env): (&World, EnvId),
        message: (char, u32, u32),
        envelope: (Address, EnvelopeId),
        attempt: u32,
    ) -> (u32, Call) {
        let mut inner = self.lock();
        let ends = inner.envelopes.entry(envelope.clone()).or_default();
        ends.calls += 1;
        ends.attempt = ends.attempt.max(attempt);
        let count = inner.messages.entry(message).or_default();
        *count += 1;
        (*count, Call { calls: self.clone(), envelope, world: world.clone(), env, ended: false })
    }

    pub(crate) fn of_envelope(&self, address: &Address, id: EnvelopeId) -> Ends {
        self.lock().envelopes.get(&(address.clone(), id)).copied().unwrap_or_default()
    }

    pub(crate) fn total(&self) -> u64 {
        self.lock().messages.values().map(|count| u64::from(*count)).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    pub(crate) fn end(mut self, end: End) {
        self.ended = true;
        let mut inner = self.calls.lock();
        let ends = inner.envelopes.entry(self.envelope.clone()).or_default();
        match end {
            End::Kept => {}
            End::Failed => ends.failed += 1,
            End::Terminal => ends.terminal += 1,
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended && !self.world.lock().dead.contains(&self.env) {
            self.calls.lock().envelopes.entry(self.envelope.clone()).or_default().cut += 1;
        }
    }
}
