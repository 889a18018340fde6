//! Changes inputs at random.

use fastrand::Rng;

/// Bytes of an input at most: what is found needs few.
const MAX_BYTES: usize = 4 << 10;

/// What programs stumble over in most formats.
const WORDS: &[&str] = &[
    "",
    "0",
    "-1",
    "1e400",
    "18446744073709551616",
    "\0",
    "\n",
    "\r",
    "\r\n",
    "\"",
    "\\",
    "\u{feff}",
    "ü",
    "\u{fffe}",
    "\\ud800",
    "%",
    "%zz",
    "null",
    "true",
    "{}",
    "[]",
    " ",
    "\t",
    ":",
    ",",
];

/// Another input, made of one or two.
pub(crate) fn mutate(rng: &mut Rng, input: &[u8], other: &[u8], words: &[&str]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 << rng.u32(0..4) {
        step(rng, &mut bytes, other, words);
    }
    bytes.truncate(MAX_BYTES);
    bytes
}

fn step(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    let (from, to) = range(rng, bytes.len());
    match rng.u8(0..9) {
        0 if !bytes.is_empty() => bytes[from.min(to - 1)] ^= 1 << rng.u32(0..8),
        1 if !bytes.is_empty() => bytes[from.min(to - 1)] = rng.u8(..),
        2 => drop(bytes.drain(from..to)),
        3 => insert(bytes, from, &bytes[from..to].to_vec().repeat(rng.usize(1..4))),
        4 | 5 => insert(bytes, from, word(rng, words).as_bytes()),
        6 => {
            let word = word(rng, words);
            drop(bytes.splice(from..to, word.bytes()));
        }
        7 => {
            let (start, end) = range(rng, other.len());
            bytes.splice(from..to, other[start..end].iter().copied());
        }
        _ => number(rng, bytes, from),
    }
}

fn word<'w>(rng: &mut Rng, words: &[&'w str]) -> &'w str {
    let all = if rng.bool() { words } else { WORDS };
    rng.choice(all).copied().unwrap_or_default()
}

fn insert(bytes: &mut Vec<u8>, at: usize, more: &[u8]) {
    bytes.splice(at..at, more.iter().copied());
}

/// A part of so many bytes, mostly a short one; empty only if there are none.
fn range(rng: &mut Rng, length: usize) -> (usize, usize) {
    if length == 0 {
        return (0, 0);
    }
    let from = rng.usize(0..length);
    let longest = if rng.bool() { 4 } else { length };
    (from, (from + rng.usize(1..=longest)).min(length))
}

/// Changes the next number that is written in digits.
fn number(rng: &mut Rng, bytes: &mut Vec<u8>, from: usize) {
    let Some(start) = bytes[from..].iter().position(u8::is_ascii_digit).map(|index| from + index) else { return };
    let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let value = match rng.u8(0..4) {
        0 => rng.u64(0..4),
        1 => u64::MAX,
        2 => 1 << rng.u32(0..64),
        _ => rng.u64(..),
    };
    bytes.splice(start..start + digits, value.to_string().into_bytes());
}
