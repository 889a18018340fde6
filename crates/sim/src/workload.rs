//! The simulated application. Its handlers write into their *state* what they applied, so that the table itself is the evidence.
//!
//! Ingress → A, B. A → C; B → C and three messages at a time → D; C → D and the egress. A also sends delayed messages to T, some
//! of which it cancels. L sends to itself without end.

use std::sync::{Arc, Mutex, PoisonError};
use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use statefun_core::{Address, Context, FunctionError, FunctionSpec, Json, OnFailure, TypeName, TypedValue, Value, ValueSpec};
use statefun_engine::{Functions, Invoke};

use crate::{executor::EnvId, trial::CALM, world::World};

/// Tries before a message is given up.
pub(crate) const MAX_ATTEMPTS: u32 = 3;

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

/// The instance called by this letter.
pub(crate) fn address(letter: char) -> Address {
    let name = TypeName::parse(&format!("sim/{}", letter.to_ascii_lowercase()));
    match name.map(|name| Address::new(name, "1")) {
        Ok(Ok(address)) => address,
        _ => unreachable!("letters make good names"),
    }
}

/// The letter of an instance; `-` for the ingress.
pub(crate) fn letter(address: Option<&Address>) -> char {
    address.and_then(|address| address.function().name().chars().next()).map_or('-', |letter| letter.to_ascii_uppercase())
}

/// How often each message's handler was called: outside of everything that is rolled back.
pub(crate) type Calls = Arc<Mutex<HashMap<(char, u32, u32), u32>>>;

/// The functions, as one environment has them.
pub(crate) fn functions(world: &World, env: EnvId, calls: &Calls) -> Functions {
    let mut functions = Functions::default();
    for letter in ['A', 'B', 'C', 'D', 'T', 'L'] {
        let mut spec = FunctionSpec::new(address(letter).function().clone());
        spec.states.insert(LOG.name(), LOG.erase());
        spec.on_failure = OnFailure::DeadLetter { max_attempts: MAX_ATTEMPTS };
        let handler = Handler { letter, world: world.clone(), env, calls: calls.clone() };
        functions.add(spec, Arc::new(handler));
    }
    functions
}

struct Handler {
    letter: char,
    world: World,
    env: EnvId,
    calls: Calls,
}

#[async_trait]
impl Invoke for Handler {
    async fn invoke(&self, context: &mut Context, message: &TypedValue) -> Result<(), FunctionError> {
        let Some(payload) = message.get::<Payload>()? else { return Err(FunctionError::terminal("no payload")) };
        let from = letter(context.caller().as_ref());
        let call = self.count(&payload);
        self.world.note(self.env, "handle", &format!("{} {payload:?}", self.letter), "");
        self.apply(context, from, payload)?;
        let think = self.world.lock().rng.u64(0..80);
        self.world.executor.sleep(think).await;
        if payload.at != self.letter {
            return Ok(());
        }
        match payload.kind {
            Kind::Flaky(times) if call <= times => Err(FunctionError::retryable("flaky")),
            Kind::Panics if call == 1 => panic_now(),
            Kind::Terminal => Err(FunctionError::terminal("never")),
            Kind::Deadly => {
                self.world.crash(self.env, "handler").await;
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
}

impl Handler {
    /// Which call of this message's handler this is.
    fn count(&self, payload: &Payload) -> u32 {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let count = calls.entry((self.letter, payload.number, payload.part)).or_default();
        *count += 1;
        *count
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
            }
            'C' => {
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

    fn delay(&self, context: &mut Context, payload: &Payload) -> Result<(), FunctionError> {
        let token = |number: u32| format!("t{number}");
        let delay = Duration::from_millis(u64::from(payload.number % 7) * 40_000);
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
