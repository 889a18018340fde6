//! The item of a record: what conditions look at as attributes of their own, the rest as one binary attribute, each state value
//! as an attribute, so that a commit writes only those that changed.
//!
//! | attribute | holds |
//! |---|---|
//! | `b` N | born, milliseconds |
//! | `e` N | epoch |
//! | `h` B | the token of the `acquire` that holds or last held the lease: its repetition after a lost reply succeeds |
//! | `u` N | lease_until, milliseconds; 0 if free |
//! | `v` N | version |
//! | `r` B | the rest: last_seq, ledger, invoked_at, tokens, partial, trials, last_at ([`statefun_core::stored`]) |
//! | `o` B | the outbox; absent if empty |
//! | `p` N | parts of an outbox that is spilled to items of its own |
//! | `s.NAME` B | a state value; N if it is big: the number of its parts, which are items of their own |
//! | `g` N | set once a value was ever big: a load then looks for parts |
//!
//! Names are short because a write is billed by the whole item's size, names included.

use std::{collections::BTreeMap, sync::Arc};

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use statefun_core::{
    Address, Record, StoredValue, Timestamp,
    stored::{Parts, Unreadable, decode_outbox, decode_record, decode_value, encode_record},
};

use super::keys::Item;

pub(super) const STATE: &str = "s.";

/// A record as its own item tells it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) record: Record,
    /// Big values: their parts have to be loaded.
    pub(super) big: BTreeMap<Arc<str>, usize>,
    /// Parts of the spilled outbox.
    pub(super) outbox_parts: usize,
    /// Whether there may be parts of values.
    pub(super) had_big: bool,
}

/// The attribute of a state value.
pub(super) fn state_attribute(name: &str) -> String {
    format!("{STATE}{name}")
}

/// The rest of a record, for attribute `r`.
pub(super) fn encode_rest(owner: &Address, record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    // The birth has an attribute of its own.
    let rest = Record {
        born: Timestamp::ZERO,
        state: BTreeMap::new(),
        outbox: Vec::new(),
        tokens: record.tokens.clone(),
        ledger: record.ledger.clone(),
        partial: record.partial.clone(),
        trials: record.trials.clone(),
        ..*record
    };
    encode_record(owner, &rest, Parts { state: false, outbox: false }, &mut bytes);
    bytes
}

pub(super) fn decode(address: &Address, mut item: Item) -> Result<Loaded, Unreadable> {
    let rest = match item.remove("r") {
        Some(AttributeValue::B(rest)) => decode_record(address, rest.into_inner().into())?,
        _ => Record::default(),
    };
    let outbox = match item.remove("o") {
        Some(AttributeValue::B(outbox)) => decode_outbox(address, outbox.into_inner().into())?,
        _ => Vec::new(),
    };
    let number = |name| number_of(&item, name);
    let record = Record {
        born: Timestamp(number("b")?.ok_or(Unreadable::Form("a record's birth"))?),
        epoch: number("e")?.unwrap_or_default(),
        lease_until: Timestamp(number("u")?.unwrap_or_default()),
        version: number("v")?.unwrap_or_default(),
        outbox,
        ..rest
    };
    let (outbox_parts, had_big) = (number("p")?.unwrap_or_default() as usize, number("g")?.is_some());
    let mut loaded = Loaded { record, big: BTreeMap::new(), outbox_parts, had_big };
    for (name, value) in item {
        let Some(name) = name.strip_prefix(STATE) else { continue };
        match value {
            AttributeValue::B(value) => {
                let stored: StoredValue = decode_value(Bytes::from(value.into_inner()))?;
                loaded.record.state.insert(name.into(), stored);
            }
            AttributeValue::N(parts) => {
                let parts = parts.parse().map_err(|_| Unreadable::Form("a big value"))?;
                loaded.big.insert(name.into(), parts);
            }
            _ => return Err(Unreadable::Form("a state value")),
        }
    }
    Ok(loaded)
}

pub(crate) fn number_of(item: &Item, name: &str) -> Result<Option<u64>, Unreadable> {
    match item.get(name) {
        None => Ok(None),
        Some(AttributeValue::N(number)) => number.parse().map(Some).map_err(|_| Unreadable::Form("a number")),
        Some(_) => Err(Unreadable::Form("a number")),
    }
}

pub(crate) fn bytes_of(item: &mut Item, name: &str) -> Result<Bytes, Unreadable> {
    match item.remove(name) {
        Some(AttributeValue::B(bytes)) => Ok(bytes.into_inner().into()),
        _ => Err(Unreadable::Form("bytes")),
    }
}

/// The part's place in its whole, from the end of a sort key.
pub(crate) fn place_of(item: &Item) -> Result<(&str, usize), Unreadable> {
    let Some(AttributeValue::S(sort)) = item.get("sk") else { return Err(Unreadable::Form("a key")) };
    let (whole, part) = sort.rsplit_once('#').ok_or(Unreadable::Form("a key"))?;
    Ok((whole, part.parse().map_err(|_| Unreadable::Form("a key"))?))
}
