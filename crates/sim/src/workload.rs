//! The simulated application. Its handlers write into their *state* what they applied, so that the table itself is the evidence.
//!
//! Ingress → A, B. A → C; B → C and three messages at a time → D; C → D and the egress. A also sends delayed messages to T, some
//! of which it cancels. L sends to itself without end. There may be several instances of A and B.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use statefun_core::{
    Address, Context, EnvelopeId, FunctionError, FunctionSpec, Json, OnFailure, Timestamp, TypeName, TypedValue, Value, ValueSpec,
};
use statefun_engine::{Functions, Invoke};

use crate::{
    calls::{Calls, End},
    dials::{CALM, Dials},
    executor::EnvId,
    faults::Struck,
    world::{Killer, World},
};

/// Hops before a loop is assumed.
pub(crate) const MAX_HOPS: u32 = 12;

/// The egress of C.
pub(crate) const EGRESS: TypeName = TypeName::from_static("sim/out");

/// What a message asks of whoever handles it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Nothing special.
    Plain,
    /// Fails its first `n` calls, after it touched state and sent messages.
    Flaky(u32),
    /// Panics at its first call.
    Panics,
    /// Fails with a terminal error, after it touched state and sent messages.
    Terminal,
    /// Fails always, with an error that may be retried.
    Hopeless,
    /// Takes the environment with it, always.
    Deadly,
    /// Does not return in time at its first call.
    Slow,
    /// Takes 12 s, so that an invocation has time for two.
    Lengthy,
    /// Makes C write more egress records than one invocation has time to send.
    Floods,
    /// Also sends a delayed message to T.
    Delays,
    /// As `Delays`, with a token.
    DelaysWithToken,
    /// Cancels what the payload before it may have delayed.
    Cancels,
}

/// Records of a flood, and the milliseconds that each takes to send beside a call's latency: an invocation has 28 s.
pub(crate) const FLOOD: u32 = 250;
pub(crate) const FLOOD_PAUSE: u64 = 150;
/// The first part that is a record of a flood.
pub(crate) const FLOOD_PARTS: u32 = 1_000_000;

/// A message: a number that names its ingress record, a place among several, and what it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payload {
    pub(crate) number: u32,
    pub(crate) part: u32,
    pub(crate) kind: Kind,
    /// At which function the kind strikes: `A`, `B`, `C` or `D`.
    pub(crate) at: char,
}

impl Value for Payload {
    const TYPE_NAME: TypeName = TypeName::from_static("sim/payload");
    type Codec = Json;
}

/// What an instance applied, in order: from whom, and what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Log(pub(crate) Vec<(char, u32, u32)>);

impl Value for Log {
    const TYPE_NAME: TypeName = TypeName::from_static("sim/log");
    type Codec = Json;
}

pub(crate) const LOG: ValueSpec<Log> = ValueSpec::new("log");

/// The log in a form that no version has stored.
#[derive(Serialize, Deserialize)]
struct OtherLog {
    entries: Vec<u64>,
}

impl Value for OtherLog {
    const TYPE_NAME: TypeName = Log::TYPE_NAME;
    type Codec = Json;
}

const OTHER_LOG: ValueSpec<OtherLog> = ValueSpec::new("log");

/// C's value that expires, and when it was last written.
const RECENT: ValueSpec<u64> = ValueSpec::new("recent").expire_after_write(RECENT_FOR);
const WRITTEN: ValueSpec<u64> = ValueSpec::new("written");
const RECENT_FOR: Duration = Duration::from_secs(100);

/// B's value that has items of its own in DynamoDB.
const BIG: ValueSpec<String> = ValueSpec::new("big");

/// The letters of the functions.
pub(crate) const LETTERS: [char; 6] = ['A', 'B', 'C', 'D', 'T', 'L'];

/// The only instance of this letter, or the first.
pub(crate) fn address(letter: char) -> Address {
    instance(letter, 0)
}

/// An instance of this letter.
pub(crate) fn instance(letter: char, number: u32) -> Address {
    let name = TypeName::parse(&format!("sim/{}", letter.to_ascii_lowercase()));
    match name.map(|name| Address::new(name, (number + 1).to_string())) {
        Ok(Ok(address)) => address,
        _ => unreachable!("letters make good names"),
    }
}

/// The letter of an instance; `-` for the ingress.
pub(crate) fn letter(address: Option<&Address>) -> char {
    address.and_then(|address| address.function().name().chars().next()).map_or('-', |letter| letter.to_ascii_uppercase())
}

/// The functions, as one environment has them.
pub(crate) fn functions(world: &World, env: EnvId, calls: &Calls, dials: &Dials, variant: Variant) -> Functions {
    let mut functions = Functions::default();
    for letter in LETTERS {
        let name = match (letter, variant) {
            ('D', Variant::WithoutD) => continue,
            ('D', Variant::RenamedD) => TypeName::from_static("sim/x"),
            _ => address(letter).function().clone(),
        };
        let mut spec = FunctionSpec::new(name);
        for state in [LOG.erase(), RECENT.erase(), WRITTEN.erase(), BIG.erase()] {
            spec.states.insert(state.name, state);
        }
        let on_failure = dials.policies.get(&letter).copied().unwrap_or_default();
        spec.on_failure = on_failure;
        let unreadable = dials.unreadable.filter(|_| matches!(letter, 'A' | 'C'));
        let (world, calls, skew) = (world.clone(), calls.clone(), dials.skew_millis());
        let handler = Handler { letter, world, env, calls, on_failure, skew, unreadable };
        functions.add(spec, Arc::new(handler));
    }
    functions
}

/// Which functions a deployment has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    All,
    WithoutD,
    RenamedD,
}

struct Handler {
    letter: char,
    world: World,
    env: EnvId,
    calls: Calls,
    on_failure: OnFailure,
    /// By how much clocks may be ahead.
    skew: u64,
    /// From when to when it asks for state in a form that is not the stored one.
    unreadable: Option<(u64, u64)>,
}

#[async_trait]
impl Invoke for Handler {
    async fn invoke(&self, context: &mut Context, message: &TypedValue) -> Result<(), FunctionError> {
        let Some(payload) = message.get::<Payload>()? else { return Err(FunctionError::terminal("no payload")) };
        let info = context.message();
        let envelope = (context.address(), info.envelope);
        if self.letter == 'T' && self.world.executor.now() + self.skew < info.sent_at.0 {
            let problem = format!("T: {payload:?} came before it was due");
            self.world.lock().problems.push(problem);
        }
        self.misread(context)?;
        let message = (self.letter, payload.number, payload.part);
        let (count, call) = self.calls.begin((&self.world, self.env), message, envelope.clone(), info.attempt);
        let result = self.handle(context, payload, count, envelope).await;
        let end = match &result {
            Ok(()) => End::Kept,
            Err(error) if error.is_terminal() => End::Terminal,
            Err(_) => End::Failed,
        };
        call.end(end);
        if result.is_err() && self.on_failure == OnFailure::RetryForever {
            self.world.lock().struck(Struck::RetriedForever);
        }
        if payload.kind == Kind::Panics && payload.at == self.letter && count == 1 {
            panic_now();
        }
        result
    }
}

impl Handler {
    /// As a version whose type does not fit the stored state.
    fn misread(&self, context: &Context) -> Result<(), FunctionError> {
        let now = self.world.executor.now();
        if self.unreadable.is_some_and(|(from, until)| (from..until).contains(&now))
            && let Err(error) = context.get(&OTHER_LOG)
        {
            self.world.lock().struck(Struck::UnreadableState);
            // Half of the authors lose what kind of error it was.
            return Err(if now.is_multiple_of(2) { error.into() } else { FunctionError::terminal("no log") });
        }
        Ok(())
    }

    async fn handle(
        &self,
        context: &mut Context,
        payload: Payload,
        call: u32,
        envelope: (Address, EnvelopeId),
    ) -> Result<(), FunctionError> {
        let from = letter(context.caller().as_ref());
        let attempt = context.message().attempt;
        self.world.note(self.env, "handle", &format!("{} {payload:?} attempt {attempt}", context.address()), "");
        self.apply(context, from, payload)?;
        let think = self.world.lock().rng.u64(0..80);
        self.world.executor.sleep(think).await;
        if payload.at != self.letter {
            return Ok(());
        }
        match payload.kind {
            Kind::Flaky(times) if call <= times => Err(FunctionError::retryable("flaky")),
            Kind::Hopeless => Err(FunctionError::retryable("hopeless")),
            Kind::Panics if call == 1 => Err(FunctionError::retryable("about to panic")),
            Kind::Terminal => Err(FunctionError::terminal("never")),
            Kind::Deadly => {
                self.world.crash(self.env, "handler", Killer::Handler(envelope.0, envelope.1)).await;
                Ok(())
            }
            Kind::Lengthy if self.world.executor.now() < CALM => {
                self.world.executor.sleep(12_000).await;
                Ok(())
            }
            Kind::Slow if call == 1 => {
                self.world.executor.sleep(3_600_000).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn apply(&self, context: &mut Context, from: char, payload: Payload) -> Result<(), FunctionError> {
        let mut log = context.get(&LOG)?.unwrap_or_default();
        log.0.push((from, payload.number, payload.part));
        context.set(&LOG, &log)?;
        match self.letter {
            'A' => {
                context.send(address('C'), &payload)?;
                self.delay(context, &payload)?;
            }
            'B' => {
                context.send(address('C'), &payload)?;
                for part in 0..3 {
                    context.send(address('D'), &Payload { part: payload.part * 3 + part, ..payload })?;
                }
                match payload.number % 16 {
                    3 => context.set(&BIG, "x".repeat(9_000 + payload.number as usize))?,
                    9 => context.remove(&BIG)?,
                    _ => {}
                }
            }
            'C' => {
                self.recent(context, payload)?;
                context.send(address('D'), &payload)?;
                context.egress(EGRESS.as_str(), &payload)?;
                if payload.kind == Kind::Floods {
                    for number in 0..FLOOD {
                        context.egress(EGRESS.as_str(), &Payload { part: FLOOD_PARTS + number, ..payload })?;
                    }
                }
            }
            'L' => context.send(context.address(), &Payload { part: payload.part + 1, ..payload })?,
            _ => {}
        }
        Ok(())
    }

    /// A value is visible until it expires, and no longer.
    fn recent(&self, context: &mut Context, payload: Payload) -> Result<(), FunctionError> {
        let (found, written, now) = (context.get(&RECENT)?, context.get(&WRITTEN)?, context.now());
        let visible = written.is_some_and(|written| now < Timestamp(written).plus(RECENT_FOR));
        // An environment whose clock is ahead may have seen it expire.
        let ahead = Duration::from_millis(2 * self.skew);
        let sure = written.is_some_and(|written| now.plus(ahead) < Timestamp(written).plus(RECENT_FOR));
        if found.is_some() && !visible || found.is_none() && sure {
            let problem = format!("C: a value that was written at {written:?} is {found:?} at {now}");
            self.world.lock().problems.push(problem);
        }
        if written.is_some() && !visible {
            self.world.lock().struck(Struck::Expired);
        }
        if payload.number.is_multiple_of(3) {
            context.set(&RECENT, now.0)?;
            context.set(&WRITTEN, now.0)?;
        }
        Ok(())
    }

    fn delay(&self, context: &mut Context, payload: &Payload) -> Result<(), FunctionError> {
        let token = |number: u32| format!("t{number}");
        let delay = Duration::from_secs([0, 40, 160, 400, 160, 400, 1_500][payload.number as usize % 7]);
        match payload.kind {
            Kind::Delays => context.send_after(delay, address('T'), payload, None)?,
            Kind::DelaysWithToken => context.send_after(delay, address('T'), payload, token(payload.number).as_str())?,
            Kind::Cancels => context.cancel(&token(payload.number.wrapping_sub(1)))?,
            _ => {}
        }
        Ok(())
    }
}

/// A panic that is caught and expected, without the message on standard error.
fn panic_now() -> ! {
    std::panic::resume_unwind(Box::new("simulated panic"))
}
