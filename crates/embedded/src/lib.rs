//! The local host's backend: instance store, FIFO queues, timers, egress and dead letters, durable in one folder.
//!
//! All changes go through one write-behind log (`log`): a call changes memory and returns, and a thread (`flusher`) writes what
//! gathered in one durable transaction, again and again. So many changes share one flush, a queue's entry that is gone before
//! the next flush never costs a write, and a crash leaves a prefix of all changes. Nothing leaves the process (an
//! acknowledgement, an egress record) before [`Embedded::durable`] says that what it follows from is on stable storage.
//!
//! | question | module |
//! |---|---|
//! | what is on disk? | `tables`, one module per table |
//! | which storage engine? | `disk`, and only there |
//! | whose turn is it? | `lanes` |
//! | what does the host call? | [`Embedded`] |

mod append;
mod batch;
mod clock;
mod consumer;
mod deliver;
mod disk;
mod durable;
mod egress;
mod embedded;
mod erase;
mod flusher;
mod folder;
mod heads;
mod instances;
mod lanes;
mod letters;
mod log;
pub mod names;
mod options;
mod queue;
mod shared;
mod sweep;
mod tables;
mod timers;

pub use clock::SystemClock;
pub use egress::EgressBatch;
pub use embedded::{Embedded, Waiting};
pub use erase::erase;
pub use folder::OpenError;
pub use instances::Instances;
pub use letters::Replayed;
pub use log::Op;
pub use options::Options;
pub use queue::{Cursor, Ingested, Repeats};
pub use statefun_core::stored::{Letter, MalformedRecord};

#[cfg(test)]
mod tests;
