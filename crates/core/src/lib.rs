//! The pure core of lambda-statefun: what an address, an envelope and a record are, whether a delivered envelope is new, and
//! what a commit holds. No async, no IO, no clock: time is an argument. The engine (`statefun-engine`) does what is decided here.
//!
//! | question | module |
//! |---|---|
//! | where does a message go? | [`Address`], [`TypeName`] |
//! | what does it carry? | [`TypedValue`], [`Value`], [`Envelope`] |
//! | was it already applied? | [`Protocol::classify`], [`Ledger`] |
//! | what may a handler do? | [`Context`], [`ValueSpec`], [`limits`] |
//! | is an egress record refused, or its receiver out? | [`Answer`], [`Refusals`] |
//! | what becomes of a failure? | [`Backoff::next`] |
//! | what does a batch do next? | [`protocol::Batch`] |
//! | what does a commit write? | [`Turn`], [`Commit`], [`Record`], [`Effect`] |

mod address;
mod effects;
mod envelope;
mod error;
mod function_spec;
mod group;
mod id;
pub mod limits;
mod messages;
mod names;
pub mod protocol;
mod record;
mod rules;
mod safeguard;
mod shown;
pub mod stored;
mod time;
mod type_name;
mod typed_value;
mod types;
mod value_spec;

pub use address::{Address, InvalidAddress, ToAddress};
pub use effects::{DeadLetter, Effect, EgressRecord, NotTaken, Reason, RefusedRecord, Timer};
pub use envelope::{Envelope, MalformedEnvelope, WIRE_VERSION, WireValue, wire_bytes};
pub use error::{ContextError, FunctionError, UnreadableState, chain, delay_from_millis, nearest, paragraphs};
pub use function_spec::{FunctionSpec, OnFailure};
pub use group::{group_id, queue_hash, sha256_hex, shard_of};
pub use id::{EnvelopeId, IdKind};
pub use messages::{Accepted, FromMessage, MatchType};
pub use names::{resource_name, stream_of_consumer};
pub use protocol::classify::{Delivered, Protocol, Verdict};
pub use protocol::failure::{Backoff, Failure, Next};
pub use protocol::ledger::{Ledger, LedgerShape, Segment, Spilled, Taken};
pub use protocol::refusal::{Answer, Refusals, Refused, is_undeliverable};
pub use protocol::turn::{Commit, Context, Holds, MessageInfo, Turn, Unreadable};
pub use record::{LastSeq, Lease, LiveToken, Mark, Note, Outbox, Owner, Partial, Record, StoredValue, Trial};
pub use rules::{Budget, Egresses, Rules, Targets};
pub use safeguard::{Safeguard, Safeguards};
pub use shown::{BuiltInForm, ShownEnvelope, ShownValue, plain_text};
pub use time::{Moment, Timestamp};
pub use type_name::{InvalidTypeName, TypeName};
pub use typed_value::TypedValue;
pub use types::{Builtin, Codec, CodecError, DecodeError, EncodeError, Json, Protobuf, Value};
pub use value_spec::{Expiration, StateSpec, ValueSpec};
