//! The AWS adapters: instances, ledgers and timers in one DynamoDB table, envelopes in SQS FIFO queues, egress to SQS, SNS and
//! Kinesis. The only crate of the runtime that names `aws-sdk-*`.
//!
//! | port | module |
//! |---|---|
//! | [`InstanceStore`](statefun_engine::ports::InstanceStore) | [`store`]: one item per address, conditional writes |
//! | [`EnvelopeQueue`](statefun_engine::ports::EnvelopeQueue) | [`queues`]: FIFO queues, sharded by the address's hash |
//! | [`Timers`](statefun_engine::ports::Timers) | [`timers`]: rows, wake-ups by a delayed queue, a sweep |
//! | [`Egress`](statefun_engine::ports::Egress) | [`egress`] |
//! | outboxes that stand | [`Backend::sweep_outboxes`] |
//! | [`DeadLetters`](statefun_engine::ports::DeadLetters) | [`dead_letters`] |

mod backend;
mod calls;
mod clients;
pub mod dead_letters;
pub mod egress;
mod entries;
mod error;
pub mod queues;
mod requests;
#[cfg(test)]
mod script;
pub mod store;
mod sweep;
pub mod timers;

pub use backend::{Backend, Options, SystemClock};
pub use calls::{Calls, Count};
pub use clients::Clients;
pub use sweep::Outboxes;
