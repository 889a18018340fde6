//! Every limit of the runtime, with its reason. Crossing one is an error at the call that crosses it.
//!
//! They are the same on every backend, so that what runs on a laptop runs on AWS.

use std::time::Duration;

/// Bytes of a [`TypeName`](crate::TypeName). Type names label metrics and queues; nothing sensible is longer.
pub const MAX_TYPE_NAME_BYTES: usize = 128;

/// Bytes of an address's id. With its function's name and a `/` (129 bytes at most) it is a DynamoDB partition key, which holds 2,048
/// bytes. The rest is kept free: a limit can be raised later, and never lowered.
pub const MAX_ID_BYTES: usize = 1_024;

/// State values of one function. A commit that changes all of them, each with items of its own, is one DynamoDB transaction of at
/// most 100 actions.
pub const MAX_STATES: usize = 64;

/// Older types that one state reads. Each costs a comparison where a value is not of the newest type; a rewrite of all values ends the need.
pub const MAX_READERS: usize = 8;

/// Bytes of a state name. It is an attribute name in DynamoDB and counts towards the item's size.
pub const MAX_STATE_NAME_BYTES: usize = 128;

/// Bytes of one message's value. An SQS message takes 1 MiB; as base64 this is 1,000 KiB, which leaves 24 KiB for the envelope.
pub const MAX_MESSAGE_BYTES: usize = 750 * 1_024;

/// Encoded bytes of one envelope: what one SQS message takes (1 MiB).
pub const MAX_ENVELOPE_BYTES: usize = 1_024 * 1_024;

/// Bytes that a malformed record may take in its letter's JSON: all that a message of SQS has, without 16 KiB for the rest of the letter. A
/// queue has its own copy no more once the record is parked: what is cut is lost.
pub const MAX_RAW_BYTES: usize = MAX_ENVELOPE_BYTES - 16 * 1_024;

/// Messages of one envelope. Its receiver works through an envelope in one go where it can; this keeps that go short.
pub const MAX_ENVELOPE_MESSAGES: usize = 1_000;

/// Bytes of one state value. Larger ones belong in an object store, with their key in the state.
pub const MAX_VALUE_BYTES: usize = 1_024 * 1_024;

/// Bytes that one message may write and send; an effect counts its value, its receiver's address and [`EFFECT_BYTES`]. A commit holds at most 4 MB (a DynamoDB transaction), and messages that were
/// handled before it in the same commit may already have taken [`COMMIT_SOFT_BYTES`].
pub const MAX_EFFECT_BYTES: usize = 3_000_000;

/// Bytes after which a commit takes no further message: with [`MAX_EFFECT_BYTES`] it stays within a transaction's 4 MB.
pub const COMMIT_SOFT_BYTES: usize = 900_000;

/// Bytes that an effect counts beside its value and its receiver's address: ids, times, trace and type names are stored with it.
pub const EFFECT_BYTES: usize = 256;

/// Messages that one message may send, delayed ones, cancellations and egress records included.
pub const MAX_EFFECTS: usize = 10_000;

/// Effects after which a commit takes no further message.
pub const COMMIT_SOFT_EFFECTS: usize = 2_000;

/// Cancellation tokens of one address whose messages are not yet due. They live in the address's record.
pub const MAX_LIVE_TOKENS: usize = 256;

/// Bytes of a cancellation token.
pub const MAX_TOKEN_BYTES: usize = 128;

/// Longest delay of a delayed message: ten years. StateFun sets none; beyond this it is a mistake in the unit.
pub const MAX_DELAY: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Hops from one ingress record (or one delayed message) to the messages it causes, before a loop is assumed.
pub const DEFAULT_MAX_HOPS: u32 = 10_000;

/// A delay from which on a delayed message starts its hops anew: such a loop cannot run away.
pub const HOPS_RESET_DELAY: Duration = Duration::from_secs(1);

/// Bytes of the error text kept with a dead letter.
pub const MAX_REASON_BYTES: usize = 2_048;

/// Refusals of an egress record by its receiver before it is given up. Whoever refuses it will refuse it again: a few tries are for a
/// receiver that is just being changed.
pub const MAX_REFUSALS: u32 = 5;

/// How long an egress record waits whose queue, topic or stream is missing, or may not be written to, before it is given up: such a
/// mistake of a deployment is found and corrected within that time, or it is not noticed at all.
pub const UNDELIVERABLE_AFTER: Duration = Duration::from_secs(3_600);

/// Bytes of an outbox that may stand after it was sent, until the next commit takes it along. It counts in what that commit is billed for
/// (the larger of old and new); and a bigger one may have items of its own, which only clearing deletes.
pub const MAX_MARKED_BYTES: usize = 64 * 1_024;

/// Tries of a message before it is given up: with pauses of up to 5 minutes, half a day.
pub const MAX_ATTEMPTS: u32 = 150;

/// Receives from which on an envelope may be suspected of killing its process, however few tries its function allows: a first
/// delivery has killed nobody yet.
pub const MIN_SUSPECT_RECEIVES: u32 = 2;

/// Failing envelopes of one address that are counted at a time. Only the first of each of its queues can fail, and an address has one
/// queue, or two or three while it moves; the rest is for what a redrive took away. 30 bytes each.
pub const MAX_TRIALS: usize = 8;

/// User records in one record of Kinesis. A mapping can deliver that record again only whole, so what it becomes has to get through
/// within one invocation, and is in memory at once: for as many addresses it is a hundred calls to the queues and some 40 MB. A
/// full record of 1 MiB has that many if they take 21 bytes each, keys and framing included; a producer's library packs 50 KB.
pub const MAX_USER_RECORDS: usize = 50_000;

/// Characters of a partition key. Kinesis takes no longer ones; a record that packs others can hold what it likes.
pub const MAX_PARTITION_KEY_CHARS: usize = 256;
