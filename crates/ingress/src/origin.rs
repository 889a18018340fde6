//! Where a record is from: what only one kind of source says of its records. A new source is a variant here, a reader of its event, and its
//! answer.

use std::{collections::BTreeMap, sync::Arc};

/// Where a record is from, with what only that kind of source says of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Origin {
    /// A source that says nothing more.
    #[default]
    Plain,
    /// A Kinesis stream. Records that were packed together share a partition key.
    Kinesis {
        /// Up to 256 characters. Source: "PutRecord" of Kinesis.
        partition_key: Arc<str>,
    },
    /// An SQS queue.
    Sqs(SqsOrigin),
    /// A file, or the standard input, of a local host. The body is the row as JSON.
    Row {
        /// Where the row begins, counted from 1, a header included.
        line: u64,
    },
}

/// What SQS says of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SqsOrigin {
    /// SQS's own id of the message: another one each time it is sent.
    pub message_id: String,
    /// Of FIFO queues, and of standard ones with fair queues.
    pub group_id: Option<String>,
    /// Of FIFO queues.
    pub deduplication_id: Option<String>,
    /// Message attributes that are strings or numbers.
    pub attributes: BTreeMap<String, String>,
}

impl Origin {
    /// A message of an SQS queue.
    #[must_use]
    pub const fn sqs(&self) -> Option<&SqsOrigin> {
        match self {
            Self::Sqs(origin) => Some(origin),
            Self::Plain | Self::Kinesis { .. } | Self::Row { .. } => None,
        }
    }

    /// The partition key of a record of Kinesis.
    #[must_use]
    pub fn partition_key(&self) -> Option<&str> {
        match self {
            Self::Kinesis { partition_key } => Some(partition_key),
            Self::Plain | Self::Sqs(_) | Self::Row { .. } => None,
        }
    }
}
