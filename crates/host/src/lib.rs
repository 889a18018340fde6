//! The local host: a whole application in one process, over one folder, with the same engine as on Lambda.
//!
//! It survives `kill -9` at any moment with nothing lost or doubled, and is meant for development, for tests, and for one machine
//! in production.
//!
//! | way in | |
//! |---|---|
//! | HTTP | `POST /<namespace>/<name>/<id>`, see [`Host::serve`] |
//! | ingresses of a `module.yaml` | `POST /_/ingress/<namespace>/<name>`, or rows of a file, see [`HostOptions::module`] |
//! | files and the standard input | rows of CSV or JSON lines, see [`FileIngress`] |
//! | this process | [`Host::send`], [`Host::submit`] |
//!
//! | way out | delivered |
//! |---|---|
//! | `file:PATH` (the default, below the data folder) | exactly once |
//! | `stdout` | at least once |
//! | `http://URL` | at least once, in order, with a stable `Idempotency-Key` |
//!
//! Addresses run at the same time, each in order, on threads that the host has for handlers alone: one per core, and one more for each
//! that a handler holds. A handler that computes for long or waits in a blocking call is named in the log after a second: such work belongs
//! into `tokio::task::spawn_blocking`. After [`HostOptions::handler_timeout`] it is given up.

mod accept;
mod access;
mod background;
mod cli;
mod clock;
mod dispatch;
mod egress;
mod error;
mod feed;
mod fingerprint;
mod host;
mod http;
mod ingress;
mod input;
mod letters;
mod options;
mod survey;
mod views;
mod workers;

pub use access::{Access, Token};
pub use cli::{App, run_cli, run_main};
pub use error::{ErrorKind, HostError, InputError, Refusal, SendError, UnknownFunction};
pub use host::{Host, erase};
pub use http::listen;
pub use ingress::{Message, Submitted};
/// For the fuzz targets alone: rows as they are read. It changes without notice.
#[doc(hidden)]
pub use input::fuzzing;
pub use input::{FileIngress, FileProgress, FileReport, Format, Mapping, Row};
pub use options::{EgressRoutes, HostOptions, SinkSpec};
/// The store beneath a host, as [`Host::store`] gives it.
pub use statefun_embedded as store;
/// What [`HostOptions::module`] takes.
pub use statefun_module as module;
