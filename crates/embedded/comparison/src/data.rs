//! Keys and values made from numbers, so that any reader can tell what a key must hold; and the generator
//! of the group-commit workload, whose state after batch `n` is a function of `n`.

use crate::engines::{Op, Table};

pub const RECORD_BYTES: usize = 600;
pub const MESSAGE_BYTES: usize = 300;
pub const HOT_RECORDS: u64 = 1_000;
pub const OVERWRITES: u64 = 250;
pub const MESSAGES: u64 = 125;
/// How far deletes trail inserts: a message is deleted one or two batches after its own.
pub const LAG: u64 = MESSAGES + MESSAGES / 2;

/// splitmix64
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `number`, then bytes no compressor can shrink.
pub fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    let mut word = number;
    while value.len() < bytes {
        word = mix(word);
        value.extend_from_slice(&word.to_be_bytes());
    }
    value.truncate(bytes);
    value
}

pub fn record_key(index: u64) -> Vec<u8> {
    format!("example/greeter/{:016x}", mix(index)).into_bytes()
}

pub fn message_key(queue: &str, sequence: u64) -> Vec<u8> {
    format!("example/{queue}/{sequence:016x}").into_bytes()
}

pub fn put_record(index: u64, version: u64) -> Op {
    Op { table: Table::Records, key: record_key(index), value: Some(value(version, RECORD_BYTES)) }
}

pub fn put_message(queue: &str, sequence: u64) -> Op {
    Op { table: Table::Queue, key: message_key(queue, sequence), value: Some(value(sequence, MESSAGE_BYTES)) }
}

pub fn delete_message(queue: &str, sequence: u64) -> Op {
    Op { table: Table::Queue, key: message_key(queue, sequence), value: None }
}

/// The group-commit batch `n` (from 1): the next quarter of the hot records, the next messages, the
/// deletes that trail them, and a marker that holds `n`.
pub fn group_batch(n: u64) -> Vec<Op> {
    let mut batch = Vec::with_capacity(501);
    for i in 0..OVERWRITES {
        batch.push(put_record((n * OVERWRITES + i) % HOT_RECORDS, n));
    }
    for sequence in n * MESSAGES..(n + 1) * MESSAGES {
        batch.push(put_message("hot", sequence));
    }
    for sequence in (n * MESSAGES).saturating_sub(LAG)..(n * MESSAGES + MESSAGES).saturating_sub(LAG) {
        batch.push(delete_message("hot", sequence));
    }
    batch.push(Op { table: Table::Records, key: b"marker".to_vec(), value: Some(value(n, 100)) });
    batch.sort_by(|a, b| (a.table as usize, &a.key).cmp(&(b.table as usize, &b.key)));
    batch
}

pub fn number_of(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.get(..8)?.try_into().ok()?))
}
