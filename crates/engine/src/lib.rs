//! The engine: runs the protocol of `docs/protocol.md` over small [`ports`]. It decides nothing by itself that
//! `statefun-core` can decide, has no clock of its own, and knows no backend.

mod alone;
pub mod backend;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod cut;
mod drain;
mod engine;
mod functions;
mod gate;
pub mod metrics;
mod outbox;
pub mod ports;
mod run;
mod sticky;
mod work;

pub use config::Config;
pub use engine::{Engine, Outcome, Permit, Ports};
pub use functions::{Functions, Invoke, Registered};
pub use statefun_core::Backoff;
