//! Exhaustive exploration of the machine that ships (`statefun_core::protocol`): two addresses, two environments, three messages, and at most
//! so many faults, each at every point where it can strike. States that were seen are not gone on from, so the search ends, and says so.
//!
//! | question | file |
//! |---|---|
//! | what is there? | `world.rs`, its parts `known.rs` |
//! | who is in it, and what comes from outside? | `setting.rs` |
//! | what must hold of it? | `holds.rs` |
//! | what can happen next? | `moves.rs` |
//! | one step of a run, with its fault | `steps.rs` |
//! | which safeguards' absence is noticed? | `mutations.rs` |

mod holds;
mod known;
mod moves;
mod search;
mod setting;
mod steps;
mod world;

#[cfg(feature = "mutations")]
mod mutations;

#[cfg(feature = "mutations")]
pub use mutations::Expected;
pub use search::{Found, Limits, Report, explore};
