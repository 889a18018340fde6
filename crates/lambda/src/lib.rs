//! The Lambda entry points: SQS FIFO events into the engine, and Kinesis, SQS and timer events into the router.
//!
//! | Lambda | events | service |
//! |---|---|---|
//! | a function's | its FIFO queues | [`serve_functions`] |
//! | the router's | Kinesis streams, SQS queues, the timers' queue, the minute's sweep, operators' commands | [`serve_router`] |
//!
//! Both answer with the messages that have to come again (`ReportBatchItemFailures` must be set on every event source mapping),
//! both serve any number of invocations in one process, and both start without a call to any service. What they get from the
//! environment is in [`Settings`].

mod adapters;
mod command;
mod emf;
mod events;
mod functions;
/// For the fuzz targets alone: events as they are read. It changes without notice.
#[doc(hidden)]
pub mod fuzzing;
mod log;
mod ports;
mod router;
mod serve;
mod settings;
mod shutdown;
#[cfg(test)]
mod test_ports;

pub use serve::{ServeError, serve_functions, serve_module_router, serve_router};
pub use settings::{InvalidSettings, Settings};
