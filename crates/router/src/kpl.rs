//! Records that the Kinesis Producer Library packed into one.
//!
//! Such a record is `F3 89 9A C2`, a protobuf message with tables of keys and the user records, and the MD5 of that message.
//! Source: `aggregation-format.md` of awslabs/amazon-kinesis-producer.

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::Message;

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const DIGEST_BYTES: usize = 16;

/// A record as its producer wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Its partition key; the Kinesis record's own if it was not aggregated.
    pub partition_key: String,
    /// Its explicit hash key, if it was aggregated and has one.
    pub explicit_hash_key: Option<String>,
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
/// User records that belong to another shard by their hash key are not left out: an event source mapping does not tell the
/// shard's range. After a shard was split or merged, a producer's library may repeat such records with the same content, which a
/// deduplication key of one's own tells apart from new ones.
#[must_use]
pub fn deaggregate(partition_key: &str, data: Bytes) -> Vec<UserRecord> {
    aggregated(&data).unwrap_or_else(|| {
        vec![UserRecord { partition_key: partition_key.to_owned(), explicit_hash_key: None, data, index: None }]
    })
}

/// `None` if it is not an aggregated record.
fn aggregated(data: &Bytes) -> Option<Vec<UserRecord>> {
    let content_bytes = data.strip_prefix(&MAGIC)?.len().checked_sub(DIGEST_BYTES)?;
    let content = data.slice(MAGIC.len()..MAGIC.len() + content_bytes);
    if Md5::digest(&content)[..] != data[MAGIC.len() + content_bytes..] {
        return None;
    }
    let AggregatedRecord { partition_keys, explicit_hash_keys, records } = AggregatedRecord::decode(content).ok()?;
    let at = |table: &[String], index: u64| usize::try_from(index).ok().and_then(|index| table.get(index).cloned());
    let user_record = |(index, packed): (usize, PackedRecord)| {
        let explicit_hash_key = match packed.explicit_hash_key {
            Some(key) => Some(at(&explicit_hash_keys, key)?),
            None => None,
        };
        let partition_key = at(&partition_keys, packed.partition_key)?;
        Some(UserRecord { partition_key, explicit_hash_key, data: packed.data, index: Some(index) })
    };
    records.into_iter().enumerate().map(user_record).collect()
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
        deaggregate("outer", Bytes::copy_from_slice(data))
    }

    /// Byte by byte as the format's description has it, not as this code would write it.
    const CONTENT: &[u8] = b"\x0a\x01a\x0a\x02bb\x12\x019\x1a\x08\x08\x00\x1a\x04zero\x1a\x09\x08\x01\x10\x00\x1a\x03one\x1a\x0c\x08\x01\x1a\x01\xff\x22\x05\x0a\x03tag";

    #[test]
    fn user_records_with_their_keys() {
        let records = read(&packed(CONTENT));
        let seen: Vec<_> = records
            .iter()
            .map(|record| {
                (record.partition_key.as_str(), record.explicit_hash_key.as_deref(), &record.data[..], record.position("7"))
            })
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
        // A key index beyond the table; bytes that are no protobuf; too short for a digest.
        let beyond = packed(b"\x0a\x01a\x1a\x04\x08\x05\x1a\x00");
        let beyond_hash = packed(b"\x0a\x01a\x1a\x06\x08\x00\x10\x03\x1a\x00");
        for data in [&bad_digest[..], &beyond, &beyond_hash, &packed(b"\x0a\xff"), &MAGIC, b"", b"{\"name\":\"Bob\"}"] {
            assert_eq!(read(data), plain(data));
            assert_eq!(read(data)[0].position("7"), "7");
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
                prop_assert_eq!((&record.partition_key, &record.data[..], record.index), (&keys[key.index(keys.len())], &data[..], Some(index)));
            }
        }

        #[test]
        fn never_panics_on_noise(content in proptest::collection::vec(any::<u8>(), 0..60), cut in 0_usize..80) {
            let data = packed(&content);
            read(&data);
            let cut = &data[..cut.min(data.len())];
            if cut.len() < data.len() {
                prop_assert_eq!(read(cut), plain(cut));
            }
        }
    }
}
