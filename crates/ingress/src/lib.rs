//! From records of an ingress to envelopes in the queues of functions: what a record becomes, the ids that make a second
//! delivery of it harmless, order, malformed records, and what a Lambda answers about a batch.
//!
//! | | |
//! |---|---|
//! | [`IngressRecord`] | a record, wherever it is from; [`Origin`] says where that is |
//! | [`Router`], [`ModuleRouter`] | which messages it becomes: in Rust, or as `module.yaml` says |
//! | [`envelopes`] | these messages as envelopes, one per address |
//! | [`Dispatcher`] | a batch of records into the queues; those that arrived packed share envelopes |
//! | [`kinesis_failures`], [`sqs_failures`] | what is to be delivered again |
//! | [`deaggregate`] | records that the Kinesis Producer Library packed |

mod dispatch;
mod envelopes;
mod failures;
mod fold;
mod kpl;
mod malformed;
mod module_router;
mod origin;
mod record;
mod route;
#[cfg(test)]
mod tests;
mod trace;
mod work;

pub use dispatch::{Arrival, Dispatcher};
pub use envelopes::envelopes;
pub use failures::{Outcome, kinesis_failures, sqs_failures};
pub use kpl::{UserRecord, deaggregate};
pub use malformed::MalformedSink;
pub use module_router::{ModuleRouter, NOT_WHOLE, whole};
pub use origin::{Origin, SqsOrigin};
pub use record::IngressRecord;
pub use route::{RouteError, Routed, Router};
/// What a [`MalformedSink`] keeps.
pub use statefun_core::stored::MalformedRecord;
pub use trace::traceparent;
