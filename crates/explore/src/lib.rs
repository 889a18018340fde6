//! Exhaustive exploration of the machine that ships (`statefun_core::protocol`): two addresses, two environments, three messages, and at most
//! so many faults, each at every point where it can strike. States that were seen are not gone on from, so the search ends, and says so.
//!
//! | question | file |
//! |---|---|
//! | what is there, and what must hold of it? | `world.rs` |
//! | what can happen next? | `moves.rs` |
//! | one step of a run, with its fault | `steps.rs` |

mod moves;
mod search;
mod steps;
mod world;

pub use search::{Found, Limits, Report, explore};
