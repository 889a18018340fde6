//! What the engine needs from a backend: small traits, split by who needs them. Each method says what is durable when it returns.
//!
//! *Durable* means: it survives the loss of every machine that may be lost. A backend whose writes become durable in one order
//! (a single log) may return earlier, as long as nothing that follows from a write can leave the backend before the write is
//! durable; every effect on the outside then waits for the log. [`InstanceStore`], [`EnvelopeQueue`] and [`Timers`] allow that.

mod clock;
mod error;
mod outlets;
mod queue;
mod receiving;
mod requests;
mod store;

pub use clock::{Clock, Moment};
pub use error::{PortError, PortErrorKind};
pub use outlets::{DeadLetters, DueTimers, Egress, Timers};
pub use queue::{Delivery, EnvelopeQueue, QueueConsumer, Receipt};
pub use receiving::{Failed, Letterbox, Message, Visibility};
pub use requests::{Outgoing, Requests};
pub use store::{Committed, Found, InstanceStore, Leased, Leasing};
