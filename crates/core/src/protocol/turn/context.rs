//! What a handler sees and does: its view of the state, and the effects it asks for. Nothing is durable before the commit.

use std::{
    borrow::Borrow,
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::{
    address::{Address, ToAddress},
    envelope::Envelope,
    error::{ContextError, UnreadableState},
    function_spec::FunctionSpec,
    id::{EnvelopeId, IdKind},
    limits::*,
    record::{LiveToken, Record, StoredValue},
    rules::Rules,
    safeguard::Safeguard,
    time::Timestamp,
    type_name::TypeName,
    typed_value::TypedValue,
    types::{DecodeError, Value},
    value_spec::ValueSpec,
};

use super::layer::{Layer, Parcel, Staged};

/// One invocation of a function, as its handler sees it.
///
/// State came with the message, so reading it needs no `await`. Everything a handler does here takes effect together, exactly
/// once, when the runtime commits it after the handler returned `Ok`; a handler that fails leaves no trace. A handler may run
/// more than once for a message: what it does *outside* of this context may happen more than once.
#[derive(Clone)]
pub struct Context {
    pub(super) function: Arc<FunctionSpec>,
    pub(super) rules: Arc<Rules>,
    pub(super) address: Address,
    pub(super) record: Record,
    pub(super) turn: Layer,
    pub(super) envelope: Layer,
    pub(super) message: Layer,
    pub(super) current: Current,
    pub(super) timers: usize,
    /// The first state value that this message asked for in vain.
    pub(super) unreadable: OnceLock<Unreadable>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { address, record, turn, envelope, message, current, timers, unreadable, .. } = self;
        f.debug_struct("Context")
            .field("address", address)
            .field("record", record)
            .field("layers", &(turn, envelope, message))
            .field("current", &(current.envelope.id, current.index, current.attempt, current.now))
            .field("timers", timers)
            .field("unreadable", unreadable)
            .finish_non_exhaustive()
    }
}

/// A stored value that could not be read.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// The state's name.
    pub state: &'static str,
    /// The type under which it is stored.
    pub stored: TypeName,
    /// The type asked for.
    pub wanted: TypeName,
}

/// The message being handled.
#[derive(Debug, Clone)]
pub(super) struct Current {
    pub(super) envelope: Arc<Envelope>,
    pub(super) index: usize,
    pub(super) attempt: u32,
    pub(super) now: Timestamp,
    pub(super) trace: Option<Arc<str>>,
}

/// What is known of the message being handled, beside its value.
#[derive(Debug, Clone, Copy)]
pub struct MessageInfo<'a> {
    /// The id of the envelope it came in: the same for every delivery of it.
    pub envelope: EnvelopeId,
    /// Its place in the envelope.
    pub index: usize,
    /// When it was sent, by the sender's clock; for a delayed message when it was due.
    pub sent_at: Timestamp,
    /// 1 for the first try that is known of.
    pub attempt: u32,
    /// Envelopes between the ingress record that caused it and this one.
    pub hops: u32,
    /// W3C `traceparent`, if its cause had one.
    pub trace: Option<&'a str>,
}

/// What [`Context::set`] takes for a state value of type `T`: a `T`, a `&T`, or whatever else borrows as one.
#[diagnostic::on_unimplemented(
    message = "the state holds `{T}`, not `{Self}`",
    label = "neither a `{T}` nor a `&{T}`",
    note = "a `ValueSpec<{T}>` was declared: set a `{T}`, or declare another type"
)]
pub trait Holds<T>: Borrow<T> {}

#[diagnostic::do_not_recommend]
impl<T, B: Borrow<T>> Holds<T> for B {}

#[expect(clippy::needless_maybe_sized, reason = "with it the compiler says what to do for a `str`, not that it has no size")]
impl Context {
    /// The address of this instance.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// A number that rises with every write of this instance's record. Within a run of a function that is
    /// [`exclusive`](crate::FunctionSpec::exclusive), no other run has the same or a lower one afterwards: give it to a system that refuses what
    /// comes with a lower number than it has seen. Other functions' runs may share one.
    #[must_use]
    pub fn fencing_token(&self) -> u64 {
        self.record.version
    }

    /// The instance that sent the message; absent for a message from an ingress.
    #[must_use]
    pub fn caller(&self) -> Option<Address> {
        self.current.envelope.from.clone()
    }

    /// The time of this invocation.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.current.now
    }

    /// What is known of the message, beside its value.
    #[must_use]
    pub fn message(&self) -> MessageInfo<'_> {
        let Current { envelope, index, attempt, trace, .. } = &self.current;
        MessageInfo {
            envelope: envelope.id,
            index: *index,
            sent_at: envelope.sent_at,
            attempt: *attempt,
            hops: envelope.hops,
            trace: trace.as_deref(),
        }
    }

    /// The state value, or `None` if it was never set, was removed, or has expired.
    ///
    /// # Errors
    /// If the state is not declared, or declared with another type. [`ContextError::UnreadableState`] if what is stored cannot be read, by
    /// this type or by those that the spec [reads](ValueSpec::reads). If the handler then fails, with this or any other error, the message waits, uncounted, for a version that
    /// can. A handler that goes on without the value, and sets it, overwrites it.
    pub fn get<T: Value>(&self, spec: &ValueSpec<T>) -> Result<Option<T>, ContextError> {
        self.check_declared(spec)?;
        let Some(stored) = self.visible(spec.name()) else { return Ok(None) };
        spec.read(&stored.value).map_err(|error| self.unreadable(spec, stored, error))
    }

    /// Sets the state value.
    ///
    /// # Errors
    /// If the state is not declared, or declared with another type, what is stored is of a type that the spec does not read, the value is over [`MAX_VALUE_BYTES`], or this
    /// message writes and sends more than [`MAX_EFFECT_BYTES`] altogether.
    pub fn set<T: Value>(&mut self, spec: &ValueSpec<T>, value: impl Holds<T>) -> Result<(), ContextError> {
        self.check_declared(spec)?;
        if let Some(stored) = self.visible(spec.name()).filter(|stored| !spec.knows(&stored.value.type_name)) {
            let mismatch = DecodeError::type_mismatch(&T::TYPE_NAME, &stored.value.type_name);
            return Err(self.unreadable(spec, stored, mismatch));
        }
        let value = TypedValue::of(value.borrow())?;
        check_size("the state value", value.len(), MAX_VALUE_BYTES)?;
        let replaced = self.message.state.get(spec.name()).and_then(Option::as_ref).map_or(0, |stored| stored.value.len());
        self.take_bytes(value.len(), replaced)?;
        let stored = StoredValue { value, written_at: self.current.now };
        self.message.state.insert(self.state_key(spec.name()), Some(stored));
        Ok(())
    }

    /// Removes the state value; nothing happens if there is none.
    ///
    /// # Errors
    /// If the state is not declared, or declared with another type.
    pub fn remove<T: Value>(&mut self, spec: &ValueSpec<T>) -> Result<(), ContextError> {
        self.check_declared(spec)?;
        if self.visible(spec.name()).is_some() {
            self.message.state.insert(self.state_key(spec.name()), None);
        }
        Ok(())
    }

    /// Sends a message to an address. Messages from one address to another arrive in the order sent.
    ///
    /// # Errors
    /// If the address is not well formed, no such function is known, the value cannot be written or is over
    /// [`MAX_MESSAGE_BYTES`], this message causes too much, or the hop limit is reached.
    pub fn send<T: Value + ?Sized>(&mut self, to: impl ToAddress, value: &T) -> Result<(), ContextError> {
        self.send_value(to, TypedValue::of(value)?)
    }

    /// [`send`](Self::send) for a value that already has its bytes.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_value(&mut self, to: impl ToAddress, value: TypedValue) -> Result<(), ContextError> {
        let parcel = self.parcel(to, value, Duration::ZERO)?;
        self.stage(Staged::Send(parcel))
    }

    /// Sends a message after a delay, which may be zero. Delayed messages are sent once they are due, without order towards direct
    /// ones. The local host keeps the order in which they fall due. On AWS those due within a second or two of each other may come in
    /// either order, and one whose wake-up was lost up to a minute late. With a `token` (a `&str`, else `None`) it can be [cancelled](Self::cancel) until it is due.
    ///
    /// # Errors
    /// As [`send`](Self::send); also if the delay is over [`MAX_DELAY`], or the token is empty, too long or in use.
    pub fn send_after<'t, T: Value + ?Sized>(
        &mut self,
        delay: Duration,
        to: impl ToAddress,
        value: &T,
        token: impl Into<Option<&'t str>>,
    ) -> Result<(), ContextError> {
        self.send_value_after(delay, to, TypedValue::of(value)?, token)
    }

    /// [`send_after`](Self::send_after) for a value that already has its bytes.
    ///
    /// # Errors
    /// As [`send_after`](Self::send_after).
    pub fn send_value_after<'t>(
        &mut self,
        delay: Duration,
        to: impl ToAddress,
        value: TypedValue,
        token: impl Into<Option<&'t str>>,
    ) -> Result<(), ContextError> {
        if delay > MAX_DELAY {
            return Err(ContextError::DelayTooLong(delay));
        }
        let token = token.into();
        if let Some(token) = token {
            self.check_new_token(token)?;
        }
        let parcel = self.parcel(to, value, delay)?;
        let due = self.current.now.plus(delay);
        let version = self.record.next_version();
        let timer = EnvelopeId::of_commit(IdKind::Timer, &self.address, self.record.born, version, self.timers);
        self.stage(Staged::Schedule { timer, due, parcel })?;
        self.timers += 1;
        if let Some(token) = token {
            self.message.tokens.insert(token.to_owned(), Some(LiveToken { timer, due }));
        }
        Ok(())
    }

    /// Cancels the delayed message that this instance sent with `token`. Nothing happens if there is none or it was due.
    ///
    /// # Errors
    /// If the token is empty or too long.
    pub fn cancel(&mut self, token: &str) -> Result<(), ContextError> {
        check_token(token)?;
        if let Some(LiveToken { timer, due }) = self.live_token(token) {
            self.stage(Staged::Cancel { timer, due })?;
            self.message.tokens.insert(token.to_owned(), None);
        }
        Ok(())
    }

    /// Sends a record to an egress. It carries a stable id, so that a consumer can tell a repeated one.
    ///
    /// # Errors
    /// If the egress's name is not a type name, no such egress is known, the value cannot be written or is over
    /// [`MAX_MESSAGE_BYTES`] (or over what this egress takes), or this message causes too much.
    pub fn egress<T: Value + ?Sized>(&mut self, egress: &str, value: &T) -> Result<(), ContextError> {
        self.egress_value(egress, TypedValue::of(value)?)
    }

    /// [`egress`](Self::egress) for a value that already has its bytes.
    ///
    /// # Errors
    /// As [`egress`](Self::egress).
    pub fn egress_value(&mut self, egress: &str, value: TypedValue) -> Result<(), ContextError> {
        let egress = TypeName::parse(egress)?;
        self.rules.egresses.check(&egress, value.len())?;
        self.take_bytes(value.len() + EFFECT_BYTES, 0)?;
        self.stage(Staged::Egress { egress, value })
    }

    fn parcel(&mut self, to: impl ToAddress, value: TypedValue, delay: Duration) -> Result<Parcel, ContextError> {
        let to = to.to_address()?;
        self.rules.targets.check(to.function())?;
        check_size("the message", value.len(), MAX_MESSAGE_BYTES)?;
        let hops = if delay >= HOPS_RESET_DELAY { 0 } else { self.current.envelope.hops + 1 };
        if hops > self.rules.max_hops && self.rules.protocol.safeguards.on(Safeguard::HopLimit) {
            return Err(ContextError::HopLimit { hops, limit: self.rules.max_hops });
        }
        self.take_bytes(value.len() + EFFECT_BYTES + to.function().as_str().len() + to.id().len(), 0)?;
        Ok(Parcel { to, hops, trace: self.current.trace.clone(), value })
    }

    fn stage(&mut self, effect: Staged) -> Result<(), ContextError> {
        if self.message.effects.len() >= MAX_EFFECTS {
            return Err(ContextError::TooManyEffects);
        }
        self.message.effects.push(effect);
        Ok(())
    }

    fn take_bytes(&mut self, more: usize, less: usize) -> Result<(), ContextError> {
        let bytes = self.message.bytes + more - less.min(self.message.bytes);
        if bytes > MAX_EFFECT_BYTES {
            return Err(ContextError::CommitTooBig { bytes });
        }
        self.message.bytes = bytes;
        Ok(())
    }

    fn check_declared<T: Value>(&self, spec: &ValueSpec<T>) -> Result<(), ContextError> {
        let (function, state) = (|| self.function.name.clone(), || spec.name().to_owned());
        match self.function.states.get(spec.name()) {
            None => Err(ContextError::UndeclaredState { function: function(), state: state() }),
            Some(declared) if declared.type_name != T::TYPE_NAME => Err(ContextError::StateType {
                function: function(),
                state: state(),
                wanted: T::TYPE_NAME,
                found: declared.type_name.clone(),
            }),
            Some(_) => Ok(()),
        }
    }

    /// The error for a value that cannot be read, which is also noted: whatever the handler makes of the error, its message is not to blame.
    fn unreadable<T: Value>(&self, spec: &ValueSpec<T>, stored: &StoredValue, source: DecodeError) -> ContextError {
        let error = UnreadableState {
            function: self.function.name.clone(),
            state: spec.name(),
            stored: stored.value.type_name.clone(),
            wanted: T::TYPE_NAME,
            source,
        };
        // What this very message has set is the handler's own doing, and no other version will read it.
        if !self.message.state.contains_key(spec.name()) {
            self.unreadable.get_or_init(|| Unreadable {
                state: error.state,
                stored: error.stored.clone(),
                wanted: error.wanted.clone(),
            });
        }
        ContextError::UnreadableState(Box::new(error))
    }

    /// The value as the handler may see it: the topmost layer that knows of it, then the record.
    pub(super) fn visible(&self, name: &str) -> Option<&StoredValue> {
        for layer in [&self.message, &self.envelope, &self.turn] {
            if let Some(change) = layer.state.get(name) {
                return change.as_ref();
            }
        }
        self.record.state.get(name)
    }

    /// The record's own copy of the name where it has one: names are shared, not copied per message.
    fn state_key(&self, name: &'static str) -> Arc<str> {
        self.record.state.get_key_value(name).map_or_else(|| name.into(), |(key, _)| key.clone())
    }

    fn live_token(&self, token: &str) -> Option<LiveToken> {
        for layer in [&self.message, &self.envelope, &self.turn] {
            if let Some(change) = layer.tokens.get(token) {
                return change.clone().filter(|live| live.due > self.current.now);
            }
        }
        self.record.tokens.get(token).cloned().filter(|live| live.due > self.current.now)
    }

    fn check_new_token(&self, token: &str) -> Result<(), ContextError> {
        check_token(token)?;
        if self.live_token(token).is_some() {
            return Err(ContextError::TokenInUse(token.to_owned()));
        }
        // Counting them takes time, so not while there cannot be too many.
        let layers = [&self.message, &self.envelope, &self.turn].map(|layer| &layer.tokens);
        let most = layers.iter().map(|tokens| tokens.len()).sum::<usize>() + self.record.tokens.len();
        if most >= MAX_LIVE_TOKENS {
            let names: BTreeSet<_> = layers.iter().flat_map(|tokens| tokens.keys()).chain(self.record.tokens.keys()).collect();
            let live = names.into_iter().filter(|token| self.live_token(token).is_some()).count();
            if live >= MAX_LIVE_TOKENS {
                return Err(ContextError::TooManyTokens);
            }
        }
        Ok(())
    }
}

fn check_size(what: &'static str, bytes: usize, limit: usize) -> Result<(), ContextError> {
    if bytes > limit { Err(ContextError::TooBig { what, bytes, limit }) } else { Ok(()) }
}

fn check_token(token: &str) -> Result<(), ContextError> {
    if (1..=MAX_TOKEN_BYTES).contains(&token.len()) { Ok(()) } else { Err(ContextError::Token(token.len())) }
}
