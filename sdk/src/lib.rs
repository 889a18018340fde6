//! Stateful functions: handlers with an address, private durable state, and messages between them, whose effects count exactly
//! once. The same program runs on a laptop and on AWS Lambda.
//!
//! # A function
//!
//! ```
//! use std::time::Duration;
//! use lambda_statefun::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Greet { name: String }
//!
//! impl Value for Greet {
//!     const TYPE_NAME: TypeName = TypeName::from_static("example/greet");
//!     type Codec = Json;
//! }
//!
//! const SEEN: ValueSpec<u64> = ValueSpec::new("seen").expire_after_write(Duration::from_secs(86_400));
//!
//! async fn greet(ctx: &mut Context, message: Greet) -> Result<(), FunctionError> {
//!     let seen = ctx.get(&SEEN)?.unwrap_or(0) + 1;
//!     ctx.set(&SEEN, seen)?;
//!     ctx.egress("example/greetings", &format!("hello {}, {seen}", message.name))?;
//!     Ok(())
//! }
//!
//! let app = Application::new().function(Function::new("example/greeter", greet).state(&SEEN));
//! # app.build().unwrap();
//! ```
//!
//! A message for `example/greeter/Bob` runs `greet` on the instance *Bob*: its own state, one message at a time. State came with
//! the message, so `get` needs no `await`. What the handler does to its [`Context`] takes effect together, exactly once, after
//! it returned `Ok`; a handler that fails leaves no trace. It may *run* more than once, so keep what it does outside of the
//! context (calls to other services) repeatable.
//!
//! # Messages
//!
//! - [`Context::send`] to any address; from one instance to another they arrive in the order sent.
//! - [`Context::send_after`] later, with a token to [`cancel`](Context::cancel) it.
//! - [`Context::egress`] out of the system, with a stable id for consumers that deduplicate.
//! - A reply goes to [`Context::caller`].
//!
//! Message and state types implement [`Value`]: a name and a codec ([`Json`] for serde types, [`Protobuf`] for prost messages).
//! `bool`, `i32`, `i64`, `u32`, `u64`, `f32`, `f64` and `String` are StateFun's built-in types.
//!
//! A function that takes several message types takes an enum that implements [`FromMessage`], or a [`TypedValue`] and asks it:
//!
//! ```
//! use lambda_statefun::prelude::*;
//!
//! async fn any(ctx: &mut Context, message: TypedValue) -> Result<(), FunctionError> {
//!     if message.is::<String>() {
//!         let name: Option<String> = message.get()?;
//!         ctx.send(("example/inbox", "all"), &name.unwrap_or_default())?;
//!     }
//!     Ok(())
//! }
//! # Application::new().function(Function::new("example/any", any)).build().unwrap();
//! ```
//!
//! # Clients
//!
//! A handler that needs an HTTP client, a database pool or settings takes them by reference as its first argument; they are made
//! once and given to [`Function::with_clients`]. A call to another service may happen more than once for a message: give it a key
//! that it deduplicates by, such as [`MessageInfo::envelope`] with [`MessageInfo::index`].
//!
//! ```
//! use lambda_statefun::prelude::*;
//!
//! # mod payments {
//! #     pub struct Client;
//! #     impl Client {
//! #         pub fn new(_: &str) -> Self { Self }
//! #         pub async fn charge(&self, _key: &str, _cents: u64) -> std::io::Result<()> { Ok(()) }
//! #     }
//! # }
//! async fn charge(payments: &payments::Client, ctx: &mut Context, cents: u64) -> Result<(), FunctionError> {
//!     let info = ctx.message();
//!     let key = format!("{}-{}", info.envelope, info.index);
//!     payments.charge(&key, cents).await?;
//!     Ok(())
//! }
//!
//! let payments = payments::Client::new("https://payments.example");
//! let app = Application::new().function(Function::with_clients("example/charge", payments, charge));
//! # app.build().unwrap();
//! ```
//!
//! # Failure
//!
//! `?` on any error, `anyhow::Error` and `Box<dyn Error + Send + Sync>` included, makes a *retryable* [`FunctionError`]: the message is
//! delivered again after a growing pause. Mistakes in the use of the context, and [`FunctionError::terminal`], are *terminal*: no other try. After 5 tries, or at once for a terminal
//! error, the message goes to the dead letters and its address goes on; [`Function::on_failure`] changes that.
//!
//! ```
//! use lambda_statefun::prelude::*;
//!
//! async fn parse(_: &mut Context, text: String) -> Result<(), FunctionError> {
//!     let number: i64 = text.parse().map_err(FunctionError::terminal)?;
//!     if number == 0 {
//!         return Err(FunctionError::retryable("not yet"));
//!     }
//!     Ok(())
//! }
//! # Application::new().function(Function::new("example/parse", parse)
//! #     .on_failure(OnFailure::DeadLetter { max_attempts: 3 })).build().unwrap();
//! ```
//!
//! # Running it
//!
//! ```no_run
//! # use lambda_statefun::prelude::*;
//! # async fn greet(_: &mut Context, _: String) -> Result<(), FunctionError> { Ok(()) }
//! # fn application() -> Application { Application::new().function(Function::new("example/greeter", greet)) }
//! #[tokio::main]
//! async fn main() -> Result<(), lambda_statefun::Error> {
//!     lambda_statefun::run(application()).await
//! }
//! ```
//!
//! On a laptop [`run`] (feature `local`, on by default) hosts the application in one process: messages come by `POST /<namespace>/<name>/<id>` or from files, state
//! is durable in a folder, and a `kill -9` at any moment loses and doubles nothing.
//!
//! With the feature `lambda` the same program is a Lambda function: it serves its SQS FIFO queues, keeps state in DynamoDB, and is
//! finds in its environment and `module.yaml` where everything is. Records get in through a router Lambda: `run_module_router`
//! does what `module.yaml` says, `run_router` what your own [`Router`] does.
//!
//! # Tests
//!
//! [`TestContext`] runs a handler on an instance that lives in the test; state and effects can then be looked at.

mod application;
mod handler;
mod run;
mod test_context;

pub use application::{Application, BuiltApplication, Function, InvalidApplication};
pub use handler::{Handler, HandlerWithClients};
pub use run::{Error, run, run_with};
#[cfg(feature = "lambda")]
pub use run::{run_module_router, run_router};
pub use statefun_core::chain as error_chain;
pub use statefun_core::{
    Accepted, Address, Builtin, Codec, CodecError, Context, ContextError, DecodeError, EncodeError, EnvelopeId, Expiration,
    FromMessage, FunctionError, Holds, InvalidAddress, InvalidTypeName, Json, MatchType, MessageInfo, OnFailure, Protobuf,
    Timestamp, ToAddress, TypeName, TypedValue, UnreadableState, Value, ValueSpec, delay_from_millis, limits,
};
pub use statefun_ingress::{IngressRecord, Origin, RouteError, Routed, Router, SqsOrigin};
pub use test_context::{Delayed, Effects, TestContext};

#[cfg(feature = "local")]
/// The local host as a library: for programs that read an input to its end, look at state afterwards, or embed functions.
pub mod local {
    pub use statefun_host::*;
}

/// What a program with functions imports.
pub mod prelude {
    pub use crate::{
        Accepted, Address, Application, Context, FromMessage, Function, FunctionError, Json, MatchType, OnFailure, Protobuf,
        TestContext, TypeName, TypedValue, Value, ValueSpec,
    };
}
