//! A record of an ingress, as a router sees it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use statefun_core::Timestamp;

use crate::{Origin, RouteError};

/// A record of an ingress.
///
/// [`ingress`](Self::ingress), [`source`](Self::source) and [`position`](Self::position) together are its identity: the ids of
/// the envelopes that it becomes are made of them, so a record that is delivered again has to have the same ones.
#[derive(Clone)]
pub struct IngressRecord {
    /// The ingress's name.
    pub ingress: Arc<str>,
    /// The name of the stream or queue.
    pub source: Arc<str>,
    /// What distinguishes the record from all others of its source: shard and sequence number, or the message's id.
    pub position: String,
    /// When its source took it.
    pub arrived: Timestamp,
    /// Records of the same key stay in order. Absent where the source has no order.
    pub order: Option<Arc<str>>,
    /// What only its kind of source says of it.
    pub origin: Origin,
    /// W3C's `traceparent`: see [`traceparent`](crate::traceparent).
    pub trace: Option<String>,
    /// The record's bytes.
    pub body: Bytes,
}

impl IngressRecord {
    /// A record of these; what else there is belongs into the fields.
    pub fn new(
        ingress: impl Into<Arc<str>>,
        source: impl Into<Arc<str>>,
        position: impl Into<String>,
        arrived: Timestamp,
        body: impl Into<Bytes>,
    ) -> Self {
        Self {
            ingress: ingress.into(),
            source: source.into(),
            position: position.into(),
            arrived,
            order: None,
            origin: Origin::Plain,
            trace: None,
            body: body.into(),
        }
    }

    /// The record as text.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn text(&self) -> Result<&str, RouteError> {
        std::str::from_utf8(&self.body).map_err(|error| RouteError::new(format!("the record is not UTF-8: {error}")))
    }

    /// The record, which is JSON, as a type of serde's.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, RouteError> {
        serde_json::from_slice(&self.body).map_err(|error| RouteError::new(format!("the record cannot be read as JSON: {error}")))
    }

    /// The value at a JSON pointer (RFC 6901) in the record.
    ///
    /// # Errors
    /// If the record is not JSON, or nothing is there.
    pub fn pointer(&self, pointer: &str) -> Result<serde_json::Value, RouteError> {
        let mut value: serde_json::Value =
            serde_json::from_slice(&self.body).map_err(|error| RouteError::new(format!("the record is not JSON: {error}")))?;
        let found = value.pointer_mut(pointer).map(serde_json::Value::take);
        found.ok_or_else(|| RouteError::new(format!("nothing is at `{pointer}`")))
    }
}

/// Shows where the record is from and its size, never what is in it: that may be private.
impl fmt::Debug for IngressRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngressRecord")
            .field("ingress", &self.ingress)
            .field("source", &self.source)
            .field("arrived", &self.arrived)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
