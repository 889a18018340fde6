//! Records that the Kinesis Producer Library packed into one.
//!
//! Such a record is `F3 89 9A C2`, a protobuf message with tables of keys and the user records, and the MD5 of that message.
//! Source: `aggregation-format.md` of awslabs/amazon-kinesis-producer.

use std::sync::Arc;

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::{Message, decode_length_delimiter};
use statefun_core::limits::{MAX_PARTITION_KEY_CHARS, MAX_USER_RECORDS};

use crate::RouteError;

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const DIGEST_BYTES: usize = 16;

/// A record as its producer wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Its partition key, shared with others of its Kinesis record; the record's if it was not aggregated.
    pub partition_key: Arc<str>,
    /// Its explicit hash key, if it was aggregated and has one. Shared too.
    pub explicit_hash_key: Option<Arc<str>>,
    /// Its bytes.
    pub data: Bytes,
    /// Its place in the Kinesis record, counted from 0; absent if it was not aggregated.
    pub index: Option<usize>,
}

impl UserRecord {
    /// Tells it from all others of its shard: the Kinesis record's sequence number, and `/` and the index if it was aggregated.
    #[must_use]
    pub fn position(&self, sequence_number: &str) -> String {
        match self.index {
            Some(index) => format!("{sequence_number}/{index}"),
            None => sequence_number.to_owned(),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct AggregatedRecord {
    #[prost(string, repeated, tag = "1")]
    partition_keys: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_keys: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<PackedRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct PackedRecord {
    #[prost(uint64, tag = "1")]
    partition_key: u64,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key: Option<u64>,
    #[prost(bytes = "bytes", tag = "3")]
    data: Bytes,
}

/// The user records in a Kinesis record. One that is not aggregated, or only looks so, is its own only user record.
///
/// User records that belong to another shard by their hash key are not left out: an event source mapping does not report the
/// shard's range. After a shard was split or merged, a producer's library may repeat such records with the same content, which a
/// deduplication key distinguishes from new ones.
///
/// # Errors
/// An aggregated record beyond [`MAX_USER_RECORDS`] or [`MAX_PARTITION_KEY_CHARS`]: it belongs to the dead letters as a whole.
pub fn deaggregate(partition_key: &str, data: Bytes) -> Result<Vec<UserRecord>, RouteError> {
    let plain = |data| vec![UserRecord { partition_key: partition_key.into(), explicit_hash_key: None, data, index: None }];
    let Some(content) = content(&data) else { return Ok(plain(data)) };
    let Some(entries) = Entries::count(&content) else { return Ok(plain(data)) };
    entries.check()?;
    let Ok(AggregatedRecord { partition_keys, explicit_hash_keys, records }) = AggregatedRecord::decode(content) else {
        return Ok(plain(data));
    };
    let (partition_keys, hash_keys) = (shared(partition_keys)?, shared(explicit_hash_keys)?);
    let user_record = |(index, packed): (usize, PackedRecord)| {
        let explicit_hash_key = match packed.explicit_hash_key {
            Some(key) => Some(at(&hash_keys, key)?),
            None => None,
        };
        let partition_key = at(&partition_keys, packed.partition_key)?;
        Some(UserRecord { partition_key, explicit_hash_key, data: packed.data, index: Some(index) })
    };
    let records: Option<Vec<_>> = records.into_iter().enumerate().map(user_record).collect();
    Ok(records.unwrap_or_else(|| plain(data)))
}

/// What is between the magic number and the sum, if the sum is right.
fn content(data: &Bytes) -> Option<Bytes> {
    let content_bytes = data.strip_prefix(&MAGIC)?.len().checked_sub(DIGEST_BYTES)?;
    let content = data.slice(MAGIC.len()..MAGIC.len() + content_bytes);
    (Md5::digest(&content)[..] == data[MAGIC.len() + content_bytes..]).then_some(content)
}

fn at(table: &[Arc<str>], index: u64) -> Option<Arc<str>> {
    table.get(usize::try_from(index).ok()?).cloned()
}

/// A table of keys. Any number of user records may name one of them, so a key must not be long, nor be copied for each.
fn shared(keys: Vec<String>) -> Result<Vec<Arc<str>>, RouteError> {
    let too_long = |key: &&String| key.chars().nth(MAX_PARTITION_KEY_CHARS).is_some();
    if let Some(key) = keys.iter().find(too_long) {
        let has = key.chars().count();
        let reason =
            format!("the aggregated record has a key of {has} characters, at most {MAX_PARTITION_KEY_CHARS} are possible");
        return Err(RouteError::new(reason));
    }
    Ok(keys.into_iter().map(Into::into).collect())
}

/// How many entries the lists of an [`AggregatedRecord`] have. An entry may take two bytes, and dozens once it is read: so they are
/// counted before.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entries {
    keys: usize,
    hash_keys: usize,
    records: usize,
}

impl Entries {
    /// `None` if it is not a protobuf message. (Groups, which nobody has written for long, are not read.)
    fn count(mut content: &[u8]) -> Option<Self> {
        let mut entries = Self::default();
        while !content.is_empty() {
            let key = decode_length_delimiter(&mut content).ok()?;
            let bytes = match key & 7 {
                0 => decode_length_delimiter(&mut content).map(|_| 0).ok()?,
                1 => 8,
                2 => decode_length_delimiter(&mut content).ok()?,
                5 => 4,
                _ => return None,
            };
            content = content.get(bytes..)?;
            match key >> 3 {
                1 => entries.keys += 1,
                2 => entries.hash_keys += 1,
                3 => entries.records += 1,
                _ => {}
            }
        }
        Some(entries)
    }

    /// Tables have at most a key for each user record.
    fn check(&self) -> Result<(), RouteError> {
        let lists = [(self.records, "user records"), (self.keys, "keys"), (self.hash_keys, "explicit hash keys")];
        match lists.into_iter().find(|(entries, _)| *entries > MAX_USER_RECORDS) {
            Some((entries, what)) => {
                let reason = format!("the aggregated record has {entries} {what}, at most {MAX_USER_RECORDS} are possible");
                Err(RouteError::new(reason))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(content: &[u8]) -> Vec<u8> {
        [&MAGIC[..], content, &Md5::digest(content)].concat()
    }

    fn plain(data: &[u8]) -> Vec<UserRecord> {
        let data = Bytes::copy_from_slice(data);
        vec![UserRecord { partition_key: "outer".into(), explicit_hash_key: None, data, index: None }]
    }

    fn read(data: &[u8]) -> Vec<UserRecord> {
        deaggregate("outer", Bytes::copy_from_slice(data)).unwrap()
    }

    /// Byte by byte as the format's description has it, not as this code would write it.
    const CONTENT: &[u8] = b"\x0a\x01a\x0a\x02bb\x12\x019\x1a\x08\x08\x00\x1a\x04zero\x1a\x09\x08\x01\x10\x00\x1a\x03one\x1a\x0c\x08\x01\x1a\x01\xff\x22\x05\x0a\x03tag";

    #[test]
    fn user_records_with_their_keys() {
        let records = read(&packed(CONTENT));
        let seen: Vec<_> = records
            .iter()
            .map(|record| (&*record.partition_key, record.explicit_hash_key.as_deref(), &record.data[..], record.position("7")))
            .collect();
        let expected: [(&str, Option<&str>, &[u8], String); 3] =
            [("a", None, b"zero", "7/0".into()), ("bb", Some("9"), b"one", "7/1".into()), ("bb", None, b"\xff", "7/2".into())];
        assert_eq!(seen, expected);
        assert_eq!(read(&packed(b"")), []);
    }

    #[test]
    fn what_only_looks_aggregated_is_a_plain_record() {
        let mut bad_digest = packed(CONTENT);
        *bad_digest.last_mut().unwrap() ^= 1;
        // A key index beyond the table; bytes that are not protobuf; too short for a digest.
        let beyond = packed(b"\x0a\x01a\x1a\x04\x08\x05\x1a\x00");
        let beyond_hash = packed(b"\x0a\x01a\x1a\x06\x08\x00\x10\x03\x1a\x00");
        for data in [&bad_digest[..], &beyond, &beyond_hash, &packed(b"\x0a\xff"), &MAGIC, b"", b"{\"name\":\"Bob\"}"] {
            assert_eq!(read(data), plain(data));
            assert_eq!(read(data)[0].position("7"), "7");
        }
    }

    fn aggregated(keys: &[&str], hash_keys: &[&str], records: usize) -> Result<Vec<UserRecord>, RouteError> {
        let hash_key = (!hash_keys.is_empty()).then_some(0);
        let record = PackedRecord { partition_key: 0, explicit_hash_key: hash_key, data: Bytes::new() };
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        let message = AggregatedRecord {
            partition_keys: owned(keys),
            explicit_hash_keys: owned(hash_keys),
            records: vec![record; records],
        };
        deaggregate("outer", packed(&message.encode_to_vec()).into())
    }

    /// However often a key is named, it is in memory once.
    #[test]
    fn keys_are_shared() {
        let records = aggregated(&["key"], &["9"], 10_000).unwrap();
        assert_eq!(records.len(), 10_000);
        let same = |record: &UserRecord| {
            let hash_key = |record: &UserRecord| record.explicit_hash_key.as_ref().map(|key| key.as_ptr());
            Arc::ptr_eq(&record.partition_key, &records[0].partition_key) && hash_key(record) == hash_key(&records[0])
        };
        assert!(records.iter().all(same));
    }

    #[test]
    fn what_is_beyond_a_limit_is_malformed_as_a_whole() {
        let (longest, many) = ("ä".repeat(256), vec!["k"; MAX_USER_RECORDS]);
        assert_eq!(aggregated(&[&longest], &[&longest], 1).unwrap().len(), 1);
        assert_eq!(aggregated(&many, &many, MAX_USER_RECORDS).unwrap().len(), MAX_USER_RECORDS);
        let reason =
            |keys: &[&str], hash_keys: &[&str], records| aggregated(keys, hash_keys, records).unwrap_err().reason().to_owned();
        let long = longest + "ä";
        let too_long = "the aggregated record has a key of 257 characters, at most 256 are possible";
        assert_eq!(reason(&["k", &long], &[], 1), too_long);
        assert_eq!(reason(&["k"], &["9", &long], 1), too_long);
        let more = [many, vec!["k"]].concat();
        let said = |what| format!("the aggregated record has 50001 {what}, at most 50000 are possible");
        assert_eq!(reason(&["k"], &[], MAX_USER_RECORDS + 1), said("user records"));
        assert_eq!(reason(&more, &[], 1), said("keys"));
        assert_eq!(reason(&["k"], &more, 1), said("explicit hash keys"));
    }

    /// Of what is in the lists only their lengths are looked at.
    #[test]
    fn entries_are_counted_before_they_are_read() {
        let count = |keys, hash_keys, records| Some(Entries { keys, hash_keys, records });
        assert_eq!(Entries::count(CONTENT), count(2, 1, 3));
        assert_eq!(Entries::count(b""), count(0, 0, 0));
        assert_eq!(Entries::count(b"\x1a\x00\x1a\x01\xff\x0a\x01\xff"), count(1, 0, 2));
        // Other kinds of fields; what ends too early; a group.
        assert_eq!(Entries::count(b"\x20\x80\x01\x29 8 bytes\x2d 4b \x12\x00"), count(0, 1, 0));
        for bad in [&b"\x1a"[..], b"\x1a\x02x", b"\x29 7 byt", b"\x20\x80", b"\x1b\x1c", b"\xff"] {
            assert_eq!(Entries::count(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_was_packed(keys in proptest::collection::vec("[a-z]{0,4}", 1..5), records in proptest::collection::vec((any::<prop::sample::Index>(), proptest::collection::vec(any::<u8>(), 0..20)), 0..10)) {
            let packed_records = records.iter().map(|(key, data)| PackedRecord {
                partition_key: key.index(keys.len()) as u64, explicit_hash_key: None, data: data.clone().into(),
            });
            let message = AggregatedRecord { partition_keys: keys.clone(), explicit_hash_keys: vec![], records: packed_records.collect() };
            let read = read(&packed(&message.encode_to_vec()));
            prop_assert_eq!(read.len(), records.len());
            for (index, (record, (key, data))) in read.iter().zip(&records).enumerate() {
                prop_assert_eq!((&*record.partition_key, &record.data[..], record.index), (&*keys[key.index(keys.len())], &data[..], Some(index)));
            }
        }

        #[test]
        fn never_panics_on_noise(content in proptest::collection::vec(any::<u8>(), 0..60), cut in 0_usize..80) {
            let data = packed(&content);
            let _ = read(&data);
            let cut = &data[..cut.min(data.len())];
            if cut.len() < data.len() {
                prop_assert_eq!(read(cut), plain(cut));
            }
        }
    }
}
