//! What adapters share: the parts of the protocol that a backend has to do by itself, behind the [`ports`](crate::ports).
//!
//! A store that cannot tell a repeated write from the first one repeats its commits with [`commit_with_retries`]. Timers that are
//! kept as rows are cancelled with [`cancel`] and fire with [`fire`]. Outboxes that stand, and that nothing comes to, are looked after with [`nudge`].
//! Each piece makes its calls through a small port of its own, so that a simulation can run the code that ships.

mod commit;
mod sweep;
mod timers;

pub use commit::{ConditionalWrite, Tag, Tried, commit_with_retries};
pub use sweep::{Nudged, Standing, nudge};
pub use timers::{Fired, TimerRows, cancel, fire};
