//! Deterministic simulation of the engine: the real one, over simulated ports and a virtual clock. One seed decides everything:
//! crashes before and after every call, lost replies, frozen environments, redelivery, late copies, throttling, partial batches,
//! dead letters and redrive, clocks that differ, and handlers that fail in every way. An oracle that knows nothing of the engine
//! judges what is left. `cargo xtask sim` runs it; `cargo xtask mutations` switches each safeguard off and sees it noticed.

mod executor;
mod fifo;
mod oracle;
mod ports;
mod trial;
mod workload;
mod world;

pub use trial::{Report, trial};
pub use world::Faults;

/// The command that replays a seed, for people.
#[must_use]
pub fn replay_command(seed: u64) -> String {
    format!("cargo xtask sim --seed {seed}")
}
