//! The table's keys. Partition key `pk`: what an item belongs to. Sort key `sk`: what it is.
//!
//! | item | `pk` | `sk` |
//! |---|---|---|
//! | record | address | `r` |
//! | part of a big value | address | `v#<state name>#<part>` |
//! | part of a spilled outbox | address | `o#<tag>#<part>` |
//! | ledger segment | address | `s#<newest>#<number>#<tag>` |
//! | spilled id of a producer's key | address | `k#<id>` |
//! | timer | `timers#<shard>` | `<due>#<id>` |
//! | further part of a timer | `timer#<id>` | `<part>` |
//!
//! *tag* is that of the commit that wrote it. Versions before this one had the record's version, and its epoch, in its place.
//!
//! Addresses contain a `/` and the other partition keys none, so they never meet. Numbers are padded, so that they sort.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use statefun_core::{Address, EnvelopeId, Timestamp};
use statefun_engine::backend::Tag;

pub(crate) type Item = HashMap<String, AttributeValue>;

/// The sort key of the record.
pub(crate) const RECORD: &str = "r";
/// The time to live attribute, in seconds since 1970.
pub(crate) const TTL: &str = "ttl";
/// The attribute that holds the version that wrote the part of a value.
pub(crate) const VERSION: &str = "n";
/// The attribute that holds the bytes of a part.
pub(crate) const BYTES: &str = "d";

pub(crate) fn key(partition: impl ToString, sort: impl Into<String>) -> Item {
    HashMap::from([
        ("pk".to_owned(), AttributeValue::S(partition.to_string())),
        ("sk".to_owned(), AttributeValue::S(sort.into())),
    ])
}

pub(crate) fn record(address: &Address) -> Item {
    key(address, RECORD)
}

pub(crate) fn value_prefix() -> String {
    "v#".to_owned()
}

pub(crate) fn value_part(name: &str, part: usize) -> String {
    format!("v#{name}#{part:03}")
}

/// `tag` is that of the commit, or the version of a record that an older version of the runtime wrote.
pub(crate) fn outbox_prefix(tag: u64) -> String {
    format!("o#{tag:020}#")
}

pub(crate) fn outbox_part(tag: u64, part: usize) -> String {
    format!("{}{part:03}", outbox_prefix(tag))
}

/// The tag keeps segments apart that two environments make of one record: each may hold what the other lacks.
pub(crate) fn segment(newest: Timestamp, number: u64, tag: Tag) -> String {
    format!("{}#{number:020}#{:020}", segments_since(newest), tag.0)
}

/// The ledger is asked for every keyed id, however new: reading the segments of 21 days each time would cost more with every message.
pub(crate) fn keyed(id: EnvelopeId) -> String {
    format!("k#{id}")
}

/// Sorts before every segment whose newest entry is at `since` or later, and after all others.
pub(crate) fn segments_since(since: Timestamp) -> String {
    format!("s#{:020}", since.0)
}

/// Sorts after every segment.
pub(crate) fn segments_end() -> String {
    "s$".to_owned()
}

pub(crate) fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(crate) fn bytes(value: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_numbers() {
        assert!(segment(Timestamp(9), 5, Tag(1)) < segments_since(Timestamp(10)));
        assert!(segment(Timestamp(10), 0, Tag(0)) > segments_since(Timestamp(10)));
        assert!(segment(Timestamp(u64::MAX), u64::MAX, Tag(u64::MAX)) < segments_end());
        assert!(outbox_part(9, 1).starts_with(&outbox_prefix(9)) && !outbox_part(90, 1).starts_with(&outbox_prefix(9)));
        assert!(value_part("a", 2) < value_part("a", 10));
    }
}
