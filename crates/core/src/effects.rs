//! What a commit causes outside its own record: the entries of an outbox.

use serde::{Deserialize, Serialize};

use crate::{
    address::Address, envelope::Envelope, error::truncate, id::EnvelopeId, limits::MAX_REASON_BYTES, time::Timestamp,
    type_name::TypeName, typed_value::TypedValue,
};

/// One entry of an outbox. Entries are sent in their order; each has an id that stays the same when it is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Messages to another address (or to itself).
    Send(Envelope),
    /// A delayed message.
    Schedule(Timer),
    /// The cancellation of a delayed message; nothing happens if it is unknown or was already delivered.
    Cancel {
        /// The timer's id.
        timer: EnvelopeId,
        /// When it was due.
        due: Timestamp,
    },
    /// A record to an egress.
    Egress(EgressRecord),
    /// A message that was given up.
    DeadLetter(Box<DeadLetter>),
}

/// A delayed message: an envelope that is sent when it is due. The timer's id is the envelope's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// When to send it.
    pub due: Timestamp,
    /// What to send; its `sent_at` is `due`.
    pub envelope: Envelope,
}

/// A record for an egress. The id is stable over repeated sends: consumers that deduplicate see each record once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRecord {
    /// Stable id.
    pub id: EnvelopeId,
    /// Which egress.
    pub egress: TypeName,
    /// The sending instance.
    pub from: Address,
    /// The sender's clock at the commit.
    pub at: Timestamp,
    /// The value.
    pub value: TypedValue,
}

/// A message (or a whole envelope) that was given up, with everything needed to understand it and to send it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Stable id.
    pub id: EnvelopeId,
    /// When it was given up.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
    /// The error's text, cut to [`MAX_REASON_BYTES`](crate::limits::MAX_REASON_BYTES).
    pub error: String,
    /// Tries that are known of.
    pub attempts: u32,
    /// The envelope, with the messages that were given up.
    pub envelope: Envelope,
}

/// An egress record that was given up, since its receiver does not take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Why it was given up.
    pub reason: NotTaken,
    /// When it was given up.
    pub at: Timestamp,
    /// What its receiver said, cut to [`MAX_REASON_BYTES`](crate::limits::MAX_REASON_BYTES).
    pub error: String,
    /// How often it was refused; zero where that was not counted.
    pub attempts: u32,
    /// The record. Its id is the letter's, and stays the record's where it is sent again.
    pub record: EgressRecord,
}

impl RefusedRecord {
    /// A record that was refused so often, the last time with this error.
    #[must_use]
    pub fn new(record: EgressRecord, mut error: String, attempts: u32, at: Timestamp) -> Self {
        truncate(&mut error, MAX_REASON_BYTES);
        Self { reason: NotTaken::Refused, at, error, attempts, record }
    }

    /// A record whose queue, topic or stream was missing, or could not be written to, for too long; the last time with this error.
    #[must_use]
    pub fn undeliverable(record: EgressRecord, error: String, at: Timestamp) -> Self {
        Self { reason: NotTaken::Undeliverable, ..Self::new(record, error, 0, at) }
    }
}

/// Why an egress record is among the dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotTaken {
    /// Its receiver refuses this record.
    #[default]
    Refused,
    /// A queue, topic, stream or permission was missing for an hour. An earlier try may have got through all the same.
    Undeliverable,
}

impl NotTaken {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Refused, Self::Undeliverable];

    /// Its name in letters and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Undeliverable => "undeliverable",
        }
    }
}

/// Why something is among the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The handler failed with a terminal error.
    Terminal,
    /// The handler failed too often.
    Exhausted,
    /// The process died or ran out of time while it ran the message alone.
    Died,
    /// It is older than the retention horizon, so whether it was already applied cannot be known.
    TooOld,
    /// The record could not be read.
    Malformed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Terminal, Self::Exhausted, Self::Died, Self::TooOld, Self::Malformed];

    /// Whether the message may have been applied before it was given up. A replay gives it a new id, under which it would be applied a
    /// second time: so a replay leaves such letters unless it is asked for them.
    #[must_use]
    pub const fn may_be_applied(self) -> bool {
        match self {
            Self::TooOld => true,
            Self::Terminal | Self::Exhausted | Self::Died | Self::Malformed => false,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Terminal => "terminal",
            Self::Exhausted => "exhausted",
            Self::Died => "died",
            Self::TooOld => "too-old",
            Self::Malformed => "malformed",
        })
    }
}
