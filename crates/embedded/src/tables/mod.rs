//! What is on disk: one module per table, whose comment is the schema. A value starts with the version of its form; forms of
//! released versions must be read for ever (see the files in `golden/`). Numbers are big endian, so that keys sort by them.

pub(crate) mod accepted;
pub(crate) mod lanes;
pub(crate) mod letters;
pub(crate) mod meta;
pub(crate) mod records;
pub(crate) mod segments;
pub(crate) mod timers;

pub(crate) use statefun_core::stored::{Unreadable, id, type_name, versioned};
use statefun_core::{Address, Timestamp};

/// Splits a number off.
pub(crate) fn number(bytes: &[u8]) -> Result<(u64, &[u8]), Unreadable> {
    let (number, rest) = bytes.split_first_chunk::<8>().ok_or(Unreadable::Form("a number"))?;
    Ok((u64::from_be_bytes(*number), rest))
}

/// Splits a time off.
pub(crate) fn time(bytes: &[u8]) -> Result<(Timestamp, &[u8]), Unreadable> {
    number(bytes).map(|(millis, rest)| (Timestamp(millis), rest))
}

pub(crate) fn text(bytes: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(bytes).map_err(|_| Unreadable::Form("a text"))
}

/// A function's name, a zero byte and an id: no name has a zero byte, so a function's instances share a prefix.
pub(crate) fn address_bytes(address: &Address, into: &mut Vec<u8>) {
    into.extend_from_slice(address.function().as_str().as_bytes());
    into.push(0);
    into.extend_from_slice(address.id().as_bytes());
}

pub(crate) fn address(bytes: &[u8]) -> Result<Address, Unreadable> {
    let zero = bytes.iter().position(|byte| *byte == 0).ok_or(Unreadable::Form("an address"))?;
    Ok(Address::new(type_name(text(&bytes[..zero])?)?, text(&bytes[zero + 1..])?)?)
}

/// Bytes with their length before them (2 bytes), so that none is a prefix of another.
pub(crate) fn prefixed(bytes: &[u8], into: &mut Vec<u8>) {
    // Addresses and type names are far shorter than this can say.
    into.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    into.extend_from_slice(bytes);
}

pub(crate) fn split_prefixed(bytes: &[u8]) -> Result<(&[u8], &[u8]), Unreadable> {
    let form = Unreadable::Form("a key");
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return Err(form) };
    rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(form)
}

#[cfg(test)]
pub(crate) mod samples;
