//! Messages from inside the process: what tests, benchmarks and your own ingresses use.

use std::cell::RefCell;

use statefun_core::{Address, Envelope, EnvelopeId, ToAddress, TypedValue, Value};
use statefun_embedded::{Ingested, Op, Repeats};

use crate::{
    accept::{check, find},
    error::{Refusal, SendError, chain},
    host::{Host, Inner},
};

/// Names the ingress in ids that are derived from a sender's own key.
const KEYED_INGRESS: &str = "key";

/// A message from outside.
#[derive(Debug, Clone)]
pub struct Message {
    /// The receiver.
    pub to: Address,
    /// The message.
    pub value: TypedValue,
    /// The sender's own name for it: a message of the same key to the same address has no effect within the retention horizon, and is
    /// refused if it is another message.
    pub key: Option<String>,
    /// W3C `traceparent`.
    pub trace: Option<String>,
}

impl Message {
    /// A message without key and trace.
    #[must_use]
    pub fn new(to: Address, value: TypedValue) -> Self {
        Self { to, value, key: None, trace: None }
    }
}

/// Messages that were taken in, but may not be durable yet: see [`Host::durable`].
#[derive(Debug, Clone)]
pub struct Submitted {
    /// Their envelopes' ids, in order.
    pub ids: Vec<EnvelopeId>,
    /// Which are new; the others were taken in before under the same key.
    pub accepted: Vec<bool>,
    pub(crate) op: Op,
}

impl Host {
    /// Takes a message in; when it returns the message is durable, and its effects come about exactly once. Waits while too
    /// much waits to be worked on.
    ///
    /// # Errors
    /// [`SendError`] if the message does not fit or the host stops.
    pub async fn send<T: Value>(&self, to: impl ToAddress, value: &T) -> Result<EnvelopeId, SendError> {
        let value = TypedValue::of(value).map_err(|error| Refusal::Unreadable(chain(&error)))?;
        let submitted = self.submit(vec![Message::new(to.to_address()?, value)]).await?;
        self.durable(&submitted).await?;
        submitted.ids.first().copied().ok_or(SendError::Stopping)
    }

    /// Takes messages in, all or none, in order, without waiting until they are durable. Many can be on their way at a time: the
    /// order of calls is the order of messages.
    ///
    /// # Errors
    /// [`SendError`] if one does not fit or the host stops.
    pub async fn submit(&self, messages: Vec<Message>) -> Result<Submitted, SendError> {
        let inner = self.inner();
        for message in &messages {
            inner.check(message)?;
        }
        if inner.store.waiting().messages >= inner.options.max_waiting {
            tokio::select! {
                () = inner.ends() => return Err(SendError::Stopping),
                below = inner.store.waiting_below(inner.options.max_waiting) => below?,
            }
        }
        inner.take_in(messages).await
    }

    /// Returns once what was [submitted](Self::submit) is durable.
    ///
    /// # Errors
    /// If the store failed: the messages may be lost.
    pub async fn durable(&self, submitted: &Submitted) -> Result<(), SendError> {
        Ok(self.inner().store.durable(submitted.op).await?)
    }
}

impl Inner {
    fn check(&self, message: &Message) -> Result<(), SendError> {
        let name = message.to.function();
        let functions = self.engine.functions();
        let function = match functions.get(name) {
            Some(function) => function,
            None => find(functions, name.as_str())?,
        };
        Ok(check(&function.spec, &message.value)?)
    }

    /// Appends checked messages, one envelope each.
    pub(crate) async fn take_in(&self, messages: Vec<Message>) -> Result<Submitted, SendError> {
        let sent_at = self.clock.now();
        let keyed = messages.iter().any(|message| message.key.is_some());
        let repeats = if keyed { Repeats::DropIfSame } else { Repeats::Take };
        let mut envelopes = Vec::with_capacity(messages.len());
        for Message { to, value, key, trace } in messages {
            let id = match &key {
                // The target of an ingress id is a function type alone: the instance's id belongs to the record.
                Some(key) => {
                    let record = [&(key.len() as u64).to_be_bytes(), key.as_bytes(), to.id().as_bytes()].concat();
                    EnvelopeId::of_ingress(KEYED_INGRESS, &record, to.function())
                }
                None => random_id()?,
            };
            // The store refuses a key it took before in the same step, so whatever it takes is a first copy: the ledger need not be asked.
            envelopes.push(Envelope { id, to, from: None, sent_at, keyed: false, hops: 0, trace, messages: vec![value] });
        }
        self.take_envelopes(envelopes, repeats).await
    }

    /// Appends envelopes.
    pub(crate) async fn take_envelopes(&self, envelopes: Vec<Envelope>, repeats: Repeats) -> Result<Submitted, SendError> {
        if self.is_stopping() {
            return Err(SendError::Stopping);
        }
        let Ingested { op, accepted, ids, differs } = self.store.ingest_with(envelopes, None, repeats).await?;
        if differs {
            // Nobody learns of a first use that a crash could still undo.
            self.store.durable(op).await?;
            return Err(SendError::KeyReused);
        }
        Ok(Submitted { ids, accepted, op })
    }
}

/// Ids that are asked of the system at a time: each call of it costs as much as a small message.
const IDS: usize = 64;

thread_local! {
    /// Random bytes that are left.
    static RANDOM: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
}

/// An id that nobody else has.
pub(crate) fn random_id() -> Result<EnvelopeId, SendError> {
    RANDOM.with_borrow_mut(|left| {
        if left.is_empty() {
            let mut ids = [[0; 16]; IDS];
            getrandom::fill(ids.as_flattened_mut()).map_err(|error| SendError::Random(error.to_string()))?;
            left.extend(ids);
        }
        left.pop().map(EnvelopeId).ok_or_else(|| SendError::Random("the system gave no random bytes".to_owned()))
    })
}
