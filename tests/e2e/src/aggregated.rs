//! Records as producers with the Kinesis Producer Library write them: several in one, in protobuf, between a magic number and an
//! MD5 sum. Written by hand, so that the router is not checked against its own code.

use md5::{Digest, Md5};

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];

/// One record of several, each with its partition key and data.
pub(crate) fn aggregate(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut message = Vec::new();
    for (key, _) in records {
        field(&mut message, 1, key.as_bytes());
    }
    for (index, (_, data)) in records.iter().enumerate() {
        let mut record = vec![1 << 3];
        varint(&mut record, index as u64);
        field(&mut record, 3, data);
        field(&mut message, 3, &record);
    }
    let sum = Md5::digest(&message);
    [MAGIC.as_slice(), &message, sum.as_slice()].concat()
}

/// A field of bytes.
fn field(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | 2);
    varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

fn varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_as_documented() {
        let record = aggregate(&[("a", b"x"), ("b", b"yz")]);
        let message = b"\x0a\x01a\x0a\x01b\x1a\x05\x08\x00\x1a\x01x\x1a\x06\x08\x01\x1a\x02yz";
        assert_eq!(record[..4], MAGIC);
        assert_eq!(record[4..record.len() - 16], message[..]);
        assert_eq!(record[record.len() - 16..], Md5::digest(message)[..]);
    }
}
