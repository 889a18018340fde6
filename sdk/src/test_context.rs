//! Unit tests of handlers: run one on an instance that lives in the test, then look at state and effects.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use statefun_core::{
    Address, Effect, Envelope, EnvelopeId, FunctionError, FunctionSpec, InvalidAddress, LastSeq, Record, Rules, Timestamp,
    ToAddress, Turn, TypeName, TypedValue, Value, ValueSpec,
};
use statefun_engine::Invoke;

use crate::application::{Application, Function};

/// One instance of a function under test. It keeps its state from one [`invoke`](Self::invoke) to the next, as the runtime would:
/// a message that fails leaves no trace.
///
/// ```
/// use lambda_statefun::prelude::*;
///
/// const SEEN: ValueSpec<i64> = ValueSpec::new("seen");
///
/// async fn count(ctx: &mut Context, name: String) -> Result<(), FunctionError> {
///     let seen = ctx.get(&SEEN)?.unwrap_or(0) + 1;
///     ctx.set(&SEEN, seen)?;
///     ctx.egress("example/greetings", &format!("{name} {seen}"))?;
///     Ok(())
/// }
///
/// let mut bob = TestContext::new(Function::new("example/greeter", count).state(&SEEN), "Bob");
/// bob.invoke(&"Bob".to_owned()).unwrap();
/// let effects = bob.invoke(&"Bob".to_owned()).unwrap();
/// assert_eq!(bob.get(&SEEN), Some(2));
/// assert_eq!(effects.egress_of::<String>("example/greetings"), ["Bob 2"]);
/// ```
pub struct TestContext {
    spec: Arc<FunctionSpec>,
    handler: Arc<dyn Invoke>,
    rules: Arc<Rules>,
    address: Address,
    caller: Option<Address>,
    record: Record,
    now: Timestamp,
    delivered: u128,
}

/// What an invocation caused.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// Messages sent, in order.
    pub sent: Vec<(Address, TypedValue)>,
    /// Delayed messages, in order.
    pub delayed: Vec<Delayed>,
    /// Tokens whose delayed messages were cancelled, in order.
    pub cancelled: Vec<String>,
    /// Records to egresses, in order.
    pub egress: Vec<(TypeName, TypedValue)>,
}

/// A delayed message.
#[derive(Debug, Clone, PartialEq)]
pub struct Delayed {
    /// How much later it is due.
    pub delay: Duration,
    /// Its receiver.
    pub to: Address,
    /// The message.
    pub value: TypedValue,
    /// Its cancellation token.
    pub token: Option<String>,
}

impl Effects {
    /// The messages sent to an address, read as `T`.
    ///
    /// # Panics
    /// If the address is not well formed, or one of them is not a `T`.
    #[must_use]
    pub fn sent_to<T: Value>(&self, to: impl ToAddress) -> Vec<T> {
        let to = to.to_address().unwrap_or_else(|error| panic!("{error}"));
        self.sent.iter().filter(|(receiver, _)| *receiver == to).map(|(_, value)| read(value)).collect()
    }

    /// The records sent to an egress, read as `T`.
    ///
    /// # Panics
    /// If one of them is not a `T`.
    #[must_use]
    pub fn egress_of<T: Value>(&self, egress: &str) -> Vec<T> {
        self.egress.iter().filter(|(name, _)| name.as_str() == egress).map(|(_, value)| read(value)).collect()
    }

    /// Whether nothing was caused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn read<T: Value>(value: &TypedValue) -> T {
    match value.get() {
        Ok(Some(value)) => value,
        Ok(None) => panic!("the value is absent"),
        Err(error) => panic!("{}: {}", error, error.source),
    }
}

impl TestContext {
    /// An instance without state.
    ///
    /// # Panics
    /// If the function would not build, or the id is not one.
    #[must_use]
    pub fn new(function: Function, id: &str) -> Self {
        let built = Application::new().function(function).build().unwrap_or_else(|error| panic!("{error}"));
        let Some(function) = built.functions.iter().next() else { panic!("there is no function") };
        let address = Address::new(function.spec.name.clone(), id).unwrap_or_else(|error| panic!("{error}"));
        Self {
            spec: function.spec.clone(),
            handler: function.handler.clone(),
            rules: Arc::new(built.rules),
            address,
            caller: None,
            record: Record::default(),
            now: Timestamp(1_700_000_000_000),
            delivered: 0,
        }
    }

    /// Messages come from this instance from now on; at first they come from an ingress.
    ///
    /// # Errors
    /// If it is not an address.
    pub fn set_caller(&mut self, caller: impl ToAddress) -> Result<(), InvalidAddress> {
        self.caller = Some(caller.to_address()?);
        Ok(())
    }

    /// Time passes.
    pub fn advance(&mut self, by: Duration) {
        self.now = self.now.plus(by);
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The state value, as the next message would see it.
    ///
    /// # Panics
    /// If the function does not declare it like this.
    #[must_use]
    pub fn get<T: Value>(&self, spec: &ValueSpec<T>) -> Option<T> {
        let mut turn = self.turn(&self.envelope(TypedValue::absent(T::TYPE_NAME)));
        turn.begin(0, self.now);
        turn.context().get(spec).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sets a state value, as an earlier message would have.
    ///
    /// # Panics
    /// If the function does not declare it like this, or the value cannot be written.
    pub fn set<T: Value>(&mut self, spec: &ValueSpec<T>, value: T) {
        let envelope = self.envelope(TypedValue::absent(T::TYPE_NAME));
        let mut turn = self.turn(&envelope);
        turn.begin(0, self.now);
        turn.context().set(spec, value).unwrap_or_else(|error| panic!("{error}"));
        self.apply(turn);
    }

    /// Delivers a message and runs the handler to its end, on this thread.
    ///
    /// # Errors
    /// What the handler fails with; state and time are then as before.
    pub fn invoke<T: Value>(&mut self, message: &T) -> Result<Effects, FunctionError> {
        block_on(self.invoke_async(message))
    }

    /// [`invoke`](Self::invoke) for handlers that need the test's own runtime.
    ///
    /// # Errors
    /// What the handler fails with.
    pub async fn invoke_async<T: Value>(&mut self, message: &T) -> Result<Effects, FunctionError> {
        let value = TypedValue::of(message)?;
        self.invoke_value(value).await
    }

    /// [`invoke`](Self::invoke) for a value that already has its bytes.
    ///
    /// # Errors
    /// What the handler fails with.
    pub async fn invoke_value(&mut self, value: TypedValue) -> Result<Effects, FunctionError> {
        let envelope = self.envelope(value);
        let mut turn = self.turn(&envelope);
        turn.begin(0, self.now);
        self.handler.invoke(turn.context(), &envelope.messages[0]).await?;
        Ok(self.apply(turn))
    }

    fn envelope(&self, value: TypedValue) -> Arc<Envelope> {
        Arc::new(Envelope {
            id: EnvelopeId((self.delivered + 1).to_be_bytes()),
            to: self.address.clone(),
            from: self.caller.clone(),
            sent_at: self.now,
            keyed: false,
            hops: 0,
            trace: None,
            messages: vec![value],
        })
    }

    fn turn(&self, envelope: &Arc<Envelope>) -> Turn {
        let mut turn = Turn::new(self.spec.clone(), self.rules.clone(), self.address.clone(), self.record.clone(), envelope);
        turn.open(envelope, 1);
        turn
    }

    /// Commits the turn to the instance and returns its effects.
    fn apply(&mut self, mut turn: Turn) -> Effects {
        self.delivered += 1;
        turn.keep();
        turn.close(LastSeq { queue: 0, seq: self.delivered });
        let tokens_before = std::mem::take(&mut self.record.tokens);
        let mut record = turn.commit(self.now).record;
        let mut effects = Effects::default();
        for effect in std::mem::take(&mut record.outbox.entries) {
            match effect {
                Effect::Send(envelope) => {
                    effects.sent.extend(envelope.messages.into_iter().map(|value| (envelope.to.clone(), value)));
                }
                Effect::Schedule(timer) => {
                    let token = record.tokens.iter().find(|(_, live)| live.timer == timer.envelope.id);
                    effects.delayed.extend(timer.envelope.messages.into_iter().map(|value| Delayed {
                        delay: timer.due.since(self.now),
                        to: timer.envelope.to.clone(),
                        value,
                        token: token.map(|(token, _)| token.clone()),
                    }));
                }
                Effect::Cancel { timer, .. } => {
                    let token = tokens_before.iter().find(|(_, live)| live.timer == timer);
                    effects.cancelled.extend(token.map(|(token, _)| token.clone()));
                }
                Effect::Egress(record) => effects.egress.push((record.egress, record.value)),
                Effect::DeadLetter(_) => {}
            }
        }
        self.record = record;
        effects
    }
}

impl std::fmt::Debug for TestContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestContext").field("address", &self.address).field("now", &self.now).finish_non_exhaustive()
    }
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = TaskContext::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
