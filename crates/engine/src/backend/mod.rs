//! What adapters share: the parts of the protocol that a backend has to do by itself, behind the [`ports`](crate::ports).
//!
//! A store that cannot tell a repeated write from the first one repeats its commits with [`commit_with_retries`]. It makes its calls
//! through a small port of its own, so that the simulation runs the code that ships.

mod commit;

pub use commit::{ConditionalWrite, Tried, commit_with_retries};
