//! Message groups, and the shard of an address.

use std::fmt::Write;

use crate::{address::Address, names::resource_name};
use sha2::{Digest, Sha256};

/// Characters of a message group id, at most. Source: SQS quotas.
const MAX_GROUP_ID: usize = 128;

/// The message group of an address: the address itself where SQS allows it, else a hash of it (SHA-256, so that no two share one).
#[must_use]
pub fn group_id(address: &Address) -> String {
    let text = address.to_string();
    // SQS: letters, digits and ASCII punctuation.
    if text.len() <= MAX_GROUP_ID && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        text
    } else {
        sha256_hex(text.as_bytes())
    }
}

/// Which of `shards` queues an address belongs to. It depends on the address alone: an address moves only when the number of
/// shards changes.
#[must_use]
pub fn shard_of(address: &Address, shards: usize) -> usize {
    (hash(address.to_string().as_bytes()) % shards.max(1) as u64) as usize
}

/// A queue as records remember it: a hash of its name. Takes the queue's ARN, URL or name.
#[must_use]
pub fn queue_hash(queue: &str) -> u64 {
    hash(resource_name(queue).as_bytes())
}

/// The SHA-256 hash in 64 hexadecimal digits.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a string takes everything
        text
    })
}

fn hash(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn groups_are_addresses_or_hashes() {
        assert_eq!(group_id(&address("example/greeter/Bob")), "example/greeter/Bob");
        let long = format!("example/greeter/{}", "x".repeat(200));
        for odd in ["example/greeter/B ob", "example/greeter/Bäb", "example/greeter/B\nb", &long] {
            let group = group_id(&address(odd));
            assert!(group.len() == 64 && group.bytes().all(|byte| byte.is_ascii_hexdigit()), "{odd}");
        }
        assert_ne!(group_id(&address("example/greeter/B ob")), group_id(&address("example/greeter/B  ob")));
    }

    /// Addresses must not move when the program changes.
    #[test]
    fn shards_are_frozen_and_even() {
        assert_eq!(shard_of(&address("example/greeter/Bob"), 4), 2);
        let mut counts = [0; 4];
        for number in 0..4_000 {
            counts[shard_of(&address(&format!("a/b/{number}")), 4)] += 1;
        }
        assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_queue_is_its_name() {
        let (arn, url) = ("arn:aws:sqs:eu-west-1:123456789012:orders.fifo", "https://sqs.example/123456789012/orders.fifo");
        assert_eq!([arn, url].map(queue_hash), [queue_hash("orders.fifo"); 2]);
        assert_ne!(queue_hash(arn), queue_hash("others.fifo"));
    }
}
