//! The item of a record: what conditions look at as attributes of their own, the rest as one binary attribute, each state value
//! as an attribute, so that a commit writes only those that changed.
//!
//! | attribute | holds |
//! |---|---|
//! | `c` N | the number of the protocol that wrote it: 2 |
//! | `b` N | born, milliseconds |
//! | `v` N | version |
//! | `t` B | the tag of the commit that wrote it last, 8 bytes |
//! | `h` B, `l` N | owner of the lease, 8 bytes, and its end, milliseconds; absent if it is free |
//! | `u` N | 9·10¹⁸: to protocol 1 a lease that never ends |
//! | `r` B | the rest: last_seq, ledger, invoked_at, tokens, partial, trials, last_at ([`statefun_core::stored`]) |
//! | `o` B | the outbox with its mark; absent if empty |
//! | `p` N | parts of an outbox that is spilled to items of its own |
//! | `s.NAME` B | a state value; S if it is big: `<parts>.<version>`, the number of its parts, which are items of their own, and the version that wrote them, which they carry as `n` N |
//! | `g` N | set once a value was ever big: a load then looks for parts |
//!
//! An item without `c` is of protocol 1: it also has `e` (an epoch, which its writes ask for), the end of its lease in `u`, and N for a big value,
//! whose parts carry no version.
//!
//! Names are short because a write is billed by the whole item's size, names included.

use std::{collections::BTreeMap, sync::Arc};

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use statefun_core::{
    Address, Lease, Outbox, Owner, Record, StoredValue, Timestamp,
    stored::{Parts, Unreadable, decode_outbox, decode_record, decode_value, encode_record},
};
use statefun_engine::backend::Tag;

use super::keys::Item;

pub(super) const STATE: &str = "s.";

/// The protocol that this version speaks. It does not touch what a later one wrote.
pub(super) const PROTOCOL: u64 = 2;
/// What each write leaves in `u`. Protocol 1 takes a record if `u` is absent or in the past, and knows no `c`: so it can never take one that
/// protocol 2 wrote. It is beyond any clock, and a number of one digit takes two bytes.
pub(super) const FENCE: u64 = 9_000_000_000_000_000_000;

/// A big value's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BigValue {
    pub(super) parts: usize,
    /// What wrote them; unknown of an older version.
    pub(super) version: Option<u64>,
}

/// A record as its own item has it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) record: Record,
    /// Big values: their parts have to be loaded.
    pub(super) big: BTreeMap<Arc<str>, BigValue>,
    /// Parts of the spilled outbox.
    pub(super) outbox_parts: usize,
    /// What their keys begin with.
    pub(super) outbox_tag: u64,
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
        lease: None,
        state: BTreeMap::new(),
        outbox: Outbox::default(),
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
    let mut outbox = match item.remove("o") {
        Some(AttributeValue::B(outbox)) => decode_outbox(address, outbox.into_inner().into())?,
        _ => Outbox::default(),
    };
    if outbox.denied_since == Timestamp::ZERO {
        // An older version kept it with the rest.
        outbox.denied_since = rest.outbox.denied_since;
    }
    let (tag, owner) = (tag_of(&item), eight(&item, "h").map(Owner));
    let number = |name| number_of(&item, name);
    let protocol = number("c")?.unwrap_or(1);
    if protocol > PROTOCOL {
        return Err(Unreadable::Newer { found: u8::try_from(protocol).unwrap_or(u8::MAX), known: PROTOCOL as u8 });
    }
    let lease = owner.zip(number("l")?).map(|(owner, until)| Lease { owner, until: Timestamp(until) });
    let version = number("v")?.unwrap_or_default();
    let record =
        Record { born: Timestamp(number("b")?.ok_or(Unreadable::Form("a record's birth"))?), version, lease, outbox, ..rest };
    let (outbox_parts, had_big) = (number("p")?.unwrap_or_default() as usize, number("g")?.is_some());
    let outbox_tag = tag.map_or(version, |tag| tag.0);
    let mut loaded = Loaded { record, big: BTreeMap::new(), outbox_parts, outbox_tag, had_big };
    for (name, value) in item {
        let Some(name) = name.strip_prefix(STATE) else { continue };
        match value {
            AttributeValue::B(value) => {
                let stored: StoredValue = decode_value(Bytes::from(value.into_inner()))?;
                loaded.record.state.insert(name.into(), stored);
            }
            AttributeValue::N(parts) => {
                let parts = parts.parse().map_err(|_| Unreadable::Form("a big value"))?;
                loaded.big.insert(name.into(), BigValue { parts, version: None });
            }
            AttributeValue::S(text) => {
                let big = text.split_once('.').and_then(|(parts, version)| Some((parts.parse().ok()?, version.parse().ok()?)));
                let (parts, version) = big.ok_or(Unreadable::Form("a big value"))?;
                loaded.big.insert(name.into(), BigValue { parts, version: Some(version) });
            }
            _ => return Err(Unreadable::Form("a state value")),
        }
    }
    Ok(loaded)
}

/// The tag of the commit that wrote the item last.
pub(super) fn tag_of(item: &Item) -> Option<Tag> {
    eight(item, "t").map(Tag)
}

fn eight(item: &Item, name: &str) -> Option<u64> {
    let Some(AttributeValue::B(bytes)) = item.get(name) else { return None };
    bytes.as_ref().try_into().ok().map(u64::from_be_bytes)
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
