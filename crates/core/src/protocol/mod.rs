//! The protocol as one machine: a batch of one address is a [`Batch`], whose steps a driver carries out.
//!
//! | question | file |
//! |---|---|
//! | what follows on what? | `batch.rs`, the table |
//! | what can be asked, and answered? | `event.rs` |
//! | what does a turn take of the deliveries? | `turns.rs` |
//! | is an envelope new? | `classify.rs`, `ledger.rs` |
//! | what becomes of a failure, of a refused record? | `failure.rs`, `refusal.rs` |
//! | what may a handler do, what does a commit hold? | `turn/` |
//! | who is suspected of killing processes? | `alone.rs` |
//! | when may a cached record be used? | `cache.rs` |
//! | what is written, sent, cleared? | `commit.rs` |
//! | what proves that an outbox was sent, and who is nudged? | `proof.rs` |
//! | what may be sent now, what does a failure hold back? | `in_order.rs` |

mod alone;
mod batch;
mod cache;
pub(crate) mod classify;
mod commit;
mod event;
pub(crate) mod failure;
mod in_order;
pub(crate) mod ledger;
pub(crate) mod proof;
pub(crate) mod refusal;
mod state;
#[cfg(test)]
mod tests;
pub(crate) mod turn;
mod turns;

pub use batch::{Batch, Illegal, Pace};
pub use cache::HitRate;
pub use event::{
    At, Committed, Event, Halt, Handled, How, Leased, Leasing, Loaded, Lost, Notice, Outcome, PortErrorKind, Progress, Step,
};
pub use in_order::{InOrder, behind_failures};
pub use proof::Marks;
