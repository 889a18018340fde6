//! One turn of an address: messages handled on one view of the state, made into one commit. No IO, no clock.

mod context;
mod layer;
mod outbox;

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

pub use context::{Context, Holds, MessageInfo, Unreadable};

use crate::{
    address::Address,
    effects::{DeadLetter, Reason},
    envelope::Envelope,
    error::truncate,
    function_spec::FunctionSpec,
    id::{EnvelopeId, IdKind},
    limits::{EFFECT_BYTES, MAX_REASON_BYTES},
    protocol::ledger::Segment,
    record::{LastSeq, Lease, Note, Partial, Record, Trial},
    rules::Rules,
    safeguard::Safeguard,
    stored::record_bytes,
    time::Timestamp,
    value_spec::Expiration,
};
use context::Current;
use layer::{Layer, Staged};

/// The work of one commit while it grows. The engine calls, in this order:
/// [`open`](Self::open) an envelope; per message [`begin`](Self::begin), then [`keep`](Self::keep) or [`undo`](Self::undo) (and
/// perhaps [`park`](Self::park)); then one of [`close`](Self::close), [`leave`](Self::leave), [`abandon`](Self::abandon).
#[derive(Debug, Clone)]
pub struct Turn {
    context: Context,
    closed: Vec<EnvelopeId>,
    last_seq: Option<LastSeq>,
    left: Option<Partial>,
    trials: Vec<Trial>,
    letters: usize,
}

/// One conditional write: the record as it is to be, and what must be found unchanged.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Whose record.
    pub address: Address,
    /// The version that must be found; zero if there must be no record.
    pub expect: u64,
    /// The record after the commit.
    pub record: Record,
    /// Names of state values that were set or removed.
    pub changed: Vec<Arc<str>>,
    /// Ledger entries that leave the record, stored in the same transaction.
    pub segment: Option<Segment>,
}

impl Turn {
    /// A turn on a record as it was loaded (its outbox already sent).
    #[must_use]
    pub fn new(function: Arc<FunctionSpec>, rules: Arc<Rules>, address: Address, record: Record, first: &Arc<Envelope>) -> Self {
        let current = Current { envelope: first.clone(), index: 0, attempt: 1, now: Timestamp::ZERO, trace: None };
        let context = Context {
            function,
            rules,
            address,
            record,
            turn: Layer::default(),
            envelope: Layer::default(),
            message: Layer::default(),
            current,
            timers: 0,
            unreadable: OnceLock::new(),
        };
        Self { context, closed: Vec::new(), last_seq: None, left: None, trials: Vec::new(), letters: 0 }
    }

    /// The record as it was loaded.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.context.record
    }

    /// The record as it was loaded, of a turn that is not committed.
    #[must_use]
    pub fn into_record(self) -> Record {
        self.context.record
    }

    /// Whether this envelope was closed in this turn: a second copy in the same batch.
    #[must_use]
    pub fn has_closed(&self, id: EnvelopeId) -> bool {
        self.closed.contains(&id)
    }

    /// Starts on an envelope.
    pub fn open(&mut self, envelope: &Arc<Envelope>, attempt: u32) {
        let trace = envelope.trace.as_deref().map(Arc::from);
        self.context.current = Current { envelope: envelope.clone(), index: 0, attempt, now: Timestamp::ZERO, trace };
        (self.context.envelope, self.context.message) = (Layer::default(), Layer::default());
    }

    /// Starts on the envelope's `index`-th message at the moment `now`; the handler may then use the [`context`](Self::context).
    pub fn begin(&mut self, index: usize, now: Timestamp) {
        (self.context.current.index, self.context.current.now) = (index, now);
        self.context.message = Layer { invoked: true, ..Layer::default() };
        self.context.unreadable = OnceLock::new();
        self.expire(now);
    }

    /// The state value that the message asked for and that could not be read, if there is one.
    #[must_use]
    pub fn unreadable(&self) -> Option<&Unreadable> {
        self.context.unreadable.get()
    }

    /// What the handler works on.
    pub fn context(&mut self) -> &mut Context {
        &mut self.context
    }

    /// The message succeeded: what it did belongs to its envelope.
    pub fn keep(&mut self) {
        let message = std::mem::take(&mut self.context.message);
        self.context.envelope.absorb(message);
    }

    /// The message failed: what it did is gone.
    pub fn undo(&mut self) {
        if !self.holds(Safeguard::Rollback) {
            self.keep();
        }
        self.context.message = Layer::default();
    }

    /// Gives messages of the open envelope up: a copy goes to the dead letters with this commit. Returns the letter's id.
    pub fn park(&mut self, messages: Range<usize>, reason: Reason, error: &str, attempts: u32, now: Timestamp) -> EnvelopeId {
        let Context { address, record, current, .. } = &self.context;
        let id = EnvelopeId::of_commit(IdKind::DeadLetter, address, record.born, record.next_version(), self.letters);
        self.letters += 1;
        let envelope = Envelope { messages: current.envelope.messages[messages].to_vec(), ..(*current.envelope).clone() };
        // What the simulation has to notice.
        let reason = match reason {
            Reason::Exhausted if !self.holds(Safeguard::LetterReason) => Reason::Terminal,
            reason => reason,
        };
        let attempts = attempts + u32::from(!self.holds(Safeguard::LetterAttempts));
        let mut error = error.to_owned();
        truncate(&mut error, MAX_REASON_BYTES);
        self.context.envelope.bytes += letter_bytes(&envelope) + error.len();
        let letter = DeadLetter { id, at: now, reason, error, attempts, envelope };
        self.context.envelope.effects.push(Staged::DeadLetter(Box::new(letter)));
        id
    }

    /// The envelope is dealt with: its effects belong to the commit, its id to the ledger.
    pub fn close(&mut self, seq: LastSeq) {
        let envelope = std::mem::take(&mut self.context.envelope);
        self.context.turn.absorb(envelope);
        self.closed.push(self.context.current.envelope.id);
        self.pass(seq);
    }

    /// A duplicate: nothing to do but to move the mark on.
    pub fn pass(&mut self, seq: LastSeq) {
        let moves =
            self.last_seq.or(self.context.record.last_seq).is_none_or(|last| last.queue != seq.queue || last.seq < seq.seq);
        if moves {
            self.last_seq = Some(seq);
        }
    }

    /// The envelope is left after its first `done` messages, which belong to the commit; the rest come with its next delivery.
    pub fn leave(&mut self, done: u32) {
        let envelope = std::mem::take(&mut self.context.envelope);
        self.context.turn.absorb(envelope);
        let id = self.context.current.envelope.id;
        self.left = Some(Partial { id, done });
        // It did not die.
        self.take_back(id);
    }

    /// The process lives: what was noted of the envelope before it ran is taken back ([`Note::taken_back`]).
    pub fn take_back(&mut self, id: EnvelopeId) {
        let trial = self.context.record.trial_of(id);
        if trial.note != Note::None {
            self.note(trial.taken_back());
        }
    }

    /// The envelope failed: nothing of it belongs to the commit but the note of its failure.
    pub fn abandon(&mut self, trial: Trial) {
        let envelope = std::mem::take(&mut self.context.envelope);
        if !self.holds(Safeguard::Rollback) {
            self.context.turn.absorb(envelope);
        }
        self.note(trial);
    }

    /// The envelope was not run after all: nothing of it belongs to the commit.
    pub fn discard(&mut self) {
        self.context.envelope = Layer::default();
    }

    /// Notes how often an envelope failed, without anything else of it.
    pub fn note(&mut self, trial: Trial) {
        self.trials.push(trial);
    }

    /// The record's mark is wrong ([`Verdict::WrongLastSeq`](crate::Verdict::WrongLastSeq)): the next envelope sets it anew, and until then, and for
    /// what was sent before, only the ledger can tell a copy from a first one.
    pub fn forget_last_seq(&mut self, now: Timestamp) {
        let record = &mut self.context.record;
        record.moved_at = record.moved_at.max(record.ledger.newest).max(now);
        record.last_seq = None;
    }

    /// Whether the commit should take no further message.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let Context { turn, envelope, .. } = &self.context;
        let budget = &self.context.rules.budget;
        turn.bytes + envelope.bytes >= budget.commit_bytes || turn.effects.len() + envelope.effects.len() >= budget.commit_effects
    }

    /// Whether there is anything to commit. Passing duplicates alone is not worth a write.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.closed.is_empty() || self.left.is_some() || !self.trials.is_empty()
    }

    /// The run took a lease meanwhile.
    pub fn leased(&mut self, lease: Lease) {
        let record = &mut self.context.record;
        (record.version, record.lease) = (record.next_version(), Some(lease));
    }

    /// The commit: everything closed so far, or left, or noted. It frees the lease.
    #[must_use]
    pub fn commit(self, now: Timestamp) -> Commit {
        let Self { context, closed, last_seq, left, trials, .. } = self;
        let Context { rules, address, mut record, turn: Layer { state, tokens, effects, invoked, .. }, .. } = context;
        let expect = record.version;
        (record.version, record.lease) = (record.next_version(), None);
        let changed: Vec<_> = state.keys().cloned().collect();
        for (name, change) in state {
            match change {
                Some(value) => record.state.insert(name, value),
                None => record.state.remove(&name),
            };
        }
        for (token, change) in tokens {
            match change {
                Some(live) => record.tokens.insert(token, live),
                None => record.tokens.remove(&token),
            };
        }
        record.tokens.retain(|_, live| live.due > now);
        record.partial.retain(|partial| !closed.contains(&partial.id) && left.is_none_or(|left| left.id != partial.id));
        record.partial.extend(left);
        if !trials.is_empty() && !rules.protocol.safeguards.on(Safeguard::TrialEach) {
            record.trials.clear();
        }
        record.trials.retain(|trial| !closed.contains(&trial.id));
        trials.into_iter().filter(|trial| !closed.contains(&trial.id)).for_each(|trial| record.put_trial(trial));
        if record.last_seq.zip(last_seq).is_some_and(|(old, new)| old.queue != new.queue) {
            record.moved_at = record.ledger.newest.max(now);
        }
        if last_seq.is_some() {
            record.last_seq = last_seq;
            record.last_at = record.last_at.max(now);
        }
        if invoked {
            record.invoked_at = record.invoked_at.max(now);
        }
        record.outbox = outbox::build(&address, &record, now, effects, rules.budget.envelope_messages).into();
        let protocol = &rules.protocol;
        let keyed = record.ledger.has_keys() || closed.iter().any(|id| id.is_keyed());
        let room = protocol.ledger.room(record_bytes(&address, &record), closed.len(), keyed);
        let segment = record.ledger.accept(closed, now, room, protocol.kept());
        Commit { address, expect, record, changed, segment }
    }

    fn holds(&self, safeguard: Safeguard) -> bool {
        self.context.rules.protocol.safeguards.on(safeguard)
    }

    /// Takes expired values out of sight. That is a fact of time, not of the message: it stays if the message fails.
    fn expire(&mut self, now: Timestamp) {
        let context = &mut self.context;
        // Every message of this turn counts as an invocation once it is kept; `now` never lies before the record's.
        let invoked_now = context.turn.invoked || context.envelope.invoked;
        let invoked_at = if invoked_now { now } else { context.record.invoked_at };
        let function = context.function.clone();
        for spec in function.states.values().filter(|spec| spec.expiration != Expiration::None) {
            if !context.visible(spec.name).is_some_and(|stored| spec.is_expired(stored, invoked_at, now)) {
                continue;
            }
            let layer = match context.envelope.state.contains_key(spec.name) {
                true => &mut context.envelope,
                false => &mut context.turn,
            };
            layer.state.insert(spec.name.into(), None);
        }
    }
}

/// What a dead letter counts towards its commit beside its error: its envelope, stored whole.
fn letter_bytes(envelope: &Envelope) -> usize {
    let address = |address: &Address| address.function().as_str().len() + address.id().len();
    let messages: usize = envelope.messages.iter().map(|message| message.len() + message.type_name.as_str().len() + 16).sum();
    messages + address(&envelope.to) + envelope.from.as_ref().map_or(0, address) + EFFECT_BYTES
}

#[cfg(test)]
mod tests;
