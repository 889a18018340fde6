//! The engine: runs the protocol of `docs/protocol.md` over small [`ports`]. It decides nothing by itself that
//! `statefun-core` can decide, has no clock of its own, and knows no backend.

pub mod backend;
mod batcher;
mod cache;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod cut;
mod drain;
mod drain_egress;
mod drive;
mod engine;
mod functions;
mod gate;
mod invoke;
pub mod metrics;
pub mod ports;
pub mod receive;
mod report;
mod watch;

pub use batcher::{Batcher, InFlight, Write};
pub use cache::CacheUse;
pub use config::Config;
pub use engine::{Engine, Permit, Ports};
pub use functions::{Functions, Invoke, Registered};
pub use receive::Receiver;
pub use statefun_core::{
    Backoff,
    protocol::{Lost, Outcome},
};
pub use watch::Watch;
