//! Envelopes as queues carry them, dead letters as JSON, and envelopes as they are stored. The first byte says which.

use bytes::Bytes;
use statefun_core::{
    Address, Envelope,
    stored::{
        self, Letter, decode_envelope, encode_envelope, letter_from_json, letter_to_json, malformed_to_json, refused_to_json,
    },
};

use super::{ensure, shape, some};
use crate::{Check, Target};

pub(crate) const ENVELOPE: Target = Target {
    name: "envelope",
    words: &[
        "\"v\":1",
        "\"id\"",
        "\"to\"",
        "\"from\"",
        "\"messages\"",
        "\"type\"",
        "\"text\"",
        "\"base64\"",
        "\"hops\"",
        "\"keyed\":true",
        "\"trace\"",
        "\"malformed\"",
        "\"reason\"",
        "\"envelope\"",
        "a/b/c",
        "AA==",
        "\"sent_at\"",
        "\"at\"",
        "\"attempts\"",
    ],
    start: || -> Check { Box::new(check) },
};

fn check(input: &[u8]) -> Result<String, String> {
    let Some((kind, rest)) = input.split_first() else { return Ok(String::new()) };
    match kind {
        b'w' => wire(rest),
        b'l' => letter(rest),
        _ => stored(rest),
    }
}

fn wire(text: &[u8]) -> Result<String, String> {
    let envelope = match Envelope::from_wire(text) {
        Ok(envelope) => envelope,
        Err(error) => return Ok(shape(&error.to_string())),
    };
    ensure(!envelope.messages.is_empty(), || "an envelope without messages".to_owned())?;
    let written = envelope.to_wire();
    let again = Envelope::from_wire(written.as_bytes()).map_err(|error| format!("what it writes cannot be read: {error}"))?;
    ensure(again == envelope, || format!("{envelope:?} is read again as {again:?}"))?;
    ensure(again.to_wire() == written, || "it is written in two ways".to_owned())?;
    let bytes = encode_envelope(&envelope);
    let kept = decode_envelope(bytes.into()).map_err(|error| format!("what is stored of it cannot be read: {error}"))?;
    ensure(kept == envelope, || format!("{envelope:?} is stored as {kept:?}"))?;
    Ok(format!("wire {} {}", some(envelope.messages.len()), envelope.from.is_some()))
}

fn letter(json: &[u8]) -> Result<String, String> {
    let read = |json: &[u8]| letter_from_json(json);
    let letter = match read(json) {
        Ok(letter) => letter,
        Err(error) => return Ok(shape(&error.to_string())),
    };
    let written = match &letter {
        Letter::Dead(dead) => letter_to_json(dead),
        Letter::Malformed(record) => malformed_to_json(record),
        Letter::Refused(refused) => refused_to_json(refused),
    };
    let again = read(written.as_bytes()).map_err(|error| format!("what it writes cannot be read: {error}"))?;
    ensure(again == letter, || format!("{letter:?} is read again as {again:?}"))?;
    let kind = match letter {
        Letter::Dead(_) => "message",
        Letter::Malformed(_) => "malformed",
        Letter::Refused(_) => "refused",
    };
    Ok(format!("letter {kind}"))
}

/// Stored forms are ours, but a disk may change them.
fn stored(bytes: &[u8]) -> Result<String, String> {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(to) = Address::parse("a/b/c") {
        let _ = (stored::decode_outbox(&to, bytes.clone()), stored::decode_egress(bytes.clone()));
    }
    match decode_envelope(bytes) {
        Ok(envelope) => {
            let again = decode_envelope(encode_envelope(&envelope).into()).map_err(|error| error.to_string())?;
            ensure(again == envelope, || format!("{envelope:?} is stored as {again:?}"))?;
            Ok("stored".to_owned())
        }
        Err(error) => Ok(shape(&error.to_string())),
    }
}
