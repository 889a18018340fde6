//! Records that a producer's library packed into one. The first byte says whether the rest is a record, or what one holds: then the mark
//! before it and the sum behind it are made here, since no change at random would hit them.

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::Message;
use statefun_core::limits::{MAX_PARTITION_KEY_CHARS, MAX_USER_RECORDS};
use statefun_ingress::deaggregate;

use super::{ensure, shape, some};
use crate::{Check, Target};

pub(crate) const KPL: Target = Target {
    name: "kpl",
    words: &[
        "\x0a\x01a",
        "\x12\x019",
        "\x1a\x04\x08\x00\x1a\x00",
        "\x1a\x06\x08\x00\x10\x00\x1a\x00",
        "\x08\x7f",
        "\x1a\x00",
        "\x20\x00",
    ],
    start: || -> Check { Box::new(check) },
};

const MARK: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];

/// The format's description, once more.
#[derive(Clone, PartialEq, Message)]
struct Aggregated {
    #[prost(string, repeated, tag = "1")]
    keys: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    hash_keys: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<Packed>,
}

#[derive(Clone, PartialEq, Message)]
struct Packed {
    #[prost(uint64, tag = "1")]
    key: u64,
    #[prost(uint64, optional, tag = "2")]
    hash_key: Option<u64>,
    #[prost(bytes = "vec", tag = "3")]
    data: Vec<u8>,
}

/// What stands in the lists, if it is a message of the format whose records name keys that are there.
type Listed<'a> = Vec<(&'a str, Option<&'a str>, &'a [u8])>;

fn listed(message: &Aggregated) -> Option<Listed<'_>> {
    fn at(keys: &[String], index: u64) -> Option<&str> {
        keys.get(usize::try_from(index).ok()?).map(String::as_str)
    }
    let mut records = Vec::new();
    for packed in &message.records {
        let hash_key = match packed.hash_key {
            Some(index) => Some(at(&message.hash_keys, index)?),
            None => None,
        };
        records.push((at(&message.keys, packed.key)?, hash_key, &packed.data[..]));
    }
    Some(records)
}

/// Whether a group stands in it: nobody has written one for long, and they are not read.
fn has_group(mut content: &[u8]) -> bool {
    while let Ok(key) = prost::encoding::decode_varint(&mut content) {
        let bytes = match key & 7 {
            0 => prost::encoding::decode_varint(&mut content).map(|_| 0),
            1 => Ok(8),
            2 => prost::encoding::decode_varint(&mut content),
            5 => Ok(4),
            _ => return true,
        };
        let rest = bytes.ok().and_then(|bytes| content.get(usize::try_from(bytes).ok()?..));
        match rest {
            Some(rest) => content = rest,
            None => return false,
        }
    }
    false
}

fn check(input: &[u8]) -> Result<String, String> {
    let Some((kind, rest)) = input.split_first() else { return Ok(String::new()) };
    let (data, content) = match kind {
        b'r' => (rest.to_vec(), None),
        _ => ([&MARK[..], rest, &Md5::digest(rest)].concat(), Some(rest)),
    };
    let message = content.filter(|content| !has_group(content)).and_then(|content| Aggregated::decode(content).ok());
    let expected = message.as_ref().and_then(listed);
    let records = match deaggregate("outer", Bytes::from(data.clone())) {
        Ok(records) => records,
        Err(error) => {
            let long = |key: &String| key.chars().count() > MAX_PARTITION_KEY_CHARS;
            let beyond = message.is_none_or(|Aggregated { keys, hash_keys, records }| {
                keys.iter().chain(&hash_keys).any(long)
                    || [keys.len(), hash_keys.len(), records.len()].into_iter().any(|count| count > MAX_USER_RECORDS)
            });
            ensure(beyond, || format!("within all limits, and refused: {error}"))?;
            return Ok(shape(&error.to_string()));
        }
    };
    if let [plain] = &records[..]
        && plain.index.is_none()
    {
        ensure(plain.data == data && &*plain.partition_key == "outer", || "a plain record is not what it was".to_owned())?;
        ensure(expected.is_none(), || "an aggregated record is taken for a plain one".to_owned())?;
        return Ok(format!("plain {}", content.is_some()));
    }
    let seen: Listed<'_> =
        records.iter().map(|record| (&*record.partition_key, record.explicit_hash_key.as_deref(), &record.data[..])).collect();
    ensure(Some(&seen) == expected.as_ref(), || format!("read as {seen:?}, and it holds {expected:?}"))?;
    ensure(records.iter().map(|record| record.index).eq((0..seen.len()).map(Some)), || "places are not counted".to_owned())?;
    Ok(format!("{} records, {}", some(seen.len()), seen.iter().any(|(_, hash_key, _)| hash_key.is_some())))
}
