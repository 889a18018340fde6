//! From a record to messages: what a router is.

use std::{error::Error, fmt};

use statefun_core::{Address, ToAddress, TypedValue, Value, chain};

use crate::IngressRecord;

/// Says which messages a record becomes.
///
/// A closure is one, and [`ModuleRouter`](crate::ModuleRouter) is one that follows `module.yaml`:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use statefun_core::{Json, TypeName, Value};
/// use statefun_ingress::{IngressRecord, Routed, Router};
///
/// #[derive(Serialize, Deserialize)]
/// struct Greet { name: String }
/// impl Value for Greet {
///     const TYPE_NAME: TypeName = TypeName::from_static("example/greet");
///     type Codec = Json;
/// }
///
/// fn router() -> impl Router {
///     |record: &IngressRecord| {
///         let greet: Greet = record.json()?;
///         Ok(vec![Routed::new(("example/greeter", &greet.name), &greet)?])
///     }
/// }
/// # let record = IngressRecord::new("names", "names", "1", Default::default(), r#"{"name":"Bob"}"#);
/// # assert_eq!(router().route(&record).unwrap()[0].to.id(), "Bob");
/// ```
///
/// A router looks at the record only: the same record has to become the same messages however often it is delivered.
pub trait Router: Send + Sync {
    /// The record's messages. Those to one address travel together, in their order; none is fine.
    ///
    /// # Errors
    /// Why the record cannot become messages. It then goes to the dead letters with that reason: no other try would help. (A
    /// panic does the same.)
    fn route(&self, record: &IngressRecord) -> Result<Vec<Routed>, RouteError>;

    /// The producer's own name for the record, if it has one: another record of the same source and name then has no effect at
    /// the same address within the retention horizon (21 days).
    ///
    /// # Errors
    /// As [`route`](Self::route).
    fn deduplication_key(&self, record: &IngressRecord) -> Result<Option<String>, RouteError> {
        let _ = record;
        Ok(None)
    }
}

impl<F> Router for F
where
    F: Fn(&IngressRecord) -> Result<Vec<Routed>, RouteError> + Send + Sync,
{
    fn route(&self, record: &IngressRecord) -> Result<Vec<Routed>, RouteError> {
        self(record)
    }
}

/// A message that a record becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The receiver.
    pub to: Address,
    /// The message.
    pub value: TypedValue,
}

impl Routed {
    /// `value` for `to`, which is an address or a pair such as `("example/greeter", "Bob")`.
    ///
    /// # Errors
    /// If that is not an address, or the value cannot be written.
    pub fn new<T: Value>(to: impl ToAddress, value: &T) -> Result<Self, RouteError> {
        Ok(Self { to: to.to_address()?, value: TypedValue::of(value)? })
    }
}

/// Why a record cannot become messages. Any error becomes one with `?`.
#[derive(Clone)]
pub struct RouteError(String);

impl RouteError {
    /// For this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// The reason, with all of its causes, on one line.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0
    }

    pub(crate) fn within(self, what: impl fmt::Display) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl<E: Error> From<E> for RouteError {
    fn from(error: E) -> Self {
        Self(chain(&error))
    }
}

impl fmt::Debug for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
