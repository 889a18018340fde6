//! The writes of a commit: one conditional update of the record's item; in a transaction with further items only if a big value
//! or a big outbox spills out of it. Ledger entries that leave the record are put before it where they can (half the price).

use std::{collections::HashMap, sync::Arc};

use aws_sdk_dynamodb::types::AttributeValue;
use statefun_core::{
    Commit, Lease, Segment, Spilled, Timestamp,
    stored::{BIG_VALUE_BYTES, encode_outbox, encode_value},
};
use statefun_engine::backend::Tag;

use super::{
    keys::{self, BYTES, Item, TTL, VERSION, bytes, number},
    record::{FENCE, PROTOCOL, encode_rest, state_attribute},
};

/// Bytes of values, and of the outbox, that stay inline. An item takes 400 KB; ledger, tokens and keys need at most 60.
const INLINE_VALUES: usize = 100 * 1_024;
const INLINE_OUTBOX: usize = 200 * 1_024;
/// Bytes of a part.
const PART: usize = 380 * 1_024;
/// Actions of a transaction. Source: DynamoDB's quotas.
pub(super) const MAX_ACTIONS: usize = 100;
/// How long parts of an outbox are kept if nobody deletes them. A record whose parts are gone cannot be read, so it is longer than
/// anything waits.
const OUTBOX_TTL_SECONDS: u64 = 400 * 86_400;

/// A commit as writes.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// The record's update.
    pub(super) update: Update,
    /// Items to put with it. Empty: no transaction is needed.
    pub(super) puts: Vec<Item>,
    /// Ledger ids that earlier commits accepted: put before the record's update, since they are true whether or not that takes
    /// effect. Once the record's floor has risen, they are there.
    pub(super) first: Vec<Item>,
}

/// An update expression while it grows.
#[derive(Debug, Default)]
pub(super) struct Update {
    sets: Vec<String>,
    removes: Vec<String>,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
}

impl Update {
    pub(super) fn set(&mut self, attribute: &str, value: AttributeValue) {
        let name = self.name(attribute);
        let place = format!(":{}", self.values.len());
        self.sets.push(format!("{name} = {place}"));
        self.values.insert(place, value);
    }

    pub(super) fn remove(&mut self, attribute: &str) {
        let name = self.name(attribute);
        self.removes.push(name);
    }

    pub(super) fn expression(&self) -> String {
        let mut text = format!("SET {}", self.sets.join(", "));
        if !self.removes.is_empty() {
            text = format!("{text} REMOVE {}", self.removes.join(", "));
        }
        text
    }

    fn name(&mut self, attribute: &str) -> String {
        let place = format!("#{}", self.names.len());
        self.names.insert(place.clone(), attribute.to_owned());
        place
    }
}

impl Writes {
    pub(super) fn of(commit: &Commit, tag: Tag, now_seconds: u64) -> Self {
        let mut writes = Self::default();
        let record = &commit.record;
        if commit.expect == 0 {
            writes.update.set("b", number(record.born.0));
        }
        writes.update.set("c", number(PROTOCOL));
        writes.update.set("v", number(record.version));
        writes.update.set("t", bytes(tag.0.to_be_bytes()));
        writes.lease(record.lease);
        writes.update.set("r", bytes(encode_rest(&commit.address, record)));
        writes.values(commit);
        writes.outbox(commit, tag, now_seconds);
        if let Some(segment) = &commit.segment {
            let items = ledger_items(commit, tag, segment);
            if segment.fresh { writes.puts.extend(items) } else { writes.first.extend(items) }
        }
        writes
    }

    fn lease(&mut self, lease: Option<Lease>) {
        match lease {
            Some(Lease { owner, until }) => {
                self.update.set("h", bytes(owner.0.to_be_bytes()));
                self.update.set("l", number(until.0));
            }
            None => ["h", "l"].into_iter().for_each(|name| self.update.remove(name)),
        }
        // What protocol 1 looks at.
        self.update.set("u", number(FENCE));
        self.update.remove("e");
    }

    fn values(&mut self, commit: &Commit) {
        let state = &commit.record.state;
        let sizes: HashMap<&Arc<str>, usize> =
            state.iter().map(|(name, stored)| (name, size(name, stored.value.len()))).collect();
        let inline: usize = sizes.values().filter(|size| **size <= BIG_VALUE_BYTES).sum();
        // Where many small values fill the item, the largest of those that are written now go out, until the rest fits.
        let mut excess = inline.saturating_sub(INLINE_VALUES);
        let mut changed: Vec<&Arc<str>> = commit.changed.iter().collect();
        if excess > 0 {
            // What is not written now cannot be moved without being written. (Unchanged big values are out already.)
            let unmoved = |name: &&Arc<str>| {
                !commit.changed.contains(*name) && sizes.get(*name).is_some_and(|size| *size <= BIG_VALUE_BYTES)
            };
            changed.extend(state.keys().filter(unmoved));
        }
        changed.sort_by_key(|name| std::cmp::Reverse(sizes.get(name)));
        for name in changed {
            let attribute = state_attribute(name);
            let Some(stored) = state.get(name) else {
                self.update.remove(&attribute);
                continue;
            };
            let encoded = encode_value(stored);
            let size = sizes.get(name).copied().unwrap_or_default();
            if size <= BIG_VALUE_BYTES && excess == 0 {
                self.update.set(&attribute, bytes(encoded));
                continue;
            }
            if size <= BIG_VALUE_BYTES {
                excess = excess.saturating_sub(size);
            }
            let version = commit.record.version;
            let parts = self.parts(&encoded, |part| {
                let mut item = keys::key(&commit.address, keys::value_part(name, part));
                item.insert(VERSION.to_owned(), number(version));
                item
            });
            self.update.set(&attribute, AttributeValue::S(format!("{parts}.{version}")));
            if !self.update.names.values().any(|attribute| attribute == "g") {
                self.update.set("g", number(1));
            }
        }
    }

    fn outbox(&mut self, commit: &Commit, tag: Tag, now_seconds: u64) {
        let record = &commit.record;
        if record.outbox.is_empty() {
            self.update.remove("o");
            self.update.remove("p");
            return;
        }
        let encoded = encode_outbox(&commit.address, &record.outbox);
        if encoded.len() <= INLINE_OUTBOX {
            self.update.set("o", bytes(encoded));
            self.update.remove("p");
            return;
        }
        let parts = self.parts(&encoded, |part| {
            let mut item = keys::key(&commit.address, keys::outbox_part(tag.0, part));
            item.insert(TTL.to_owned(), number(now_seconds + OUTBOX_TTL_SECONDS));
            item
        });
        self.update.remove("o");
        self.update.set("p", number(parts as u64));
    }

    /// Puts the bytes into items; says into how many.
    fn parts(&mut self, encoded: &[u8], item: impl Fn(usize) -> Item) -> usize {
        let before = self.puts.len();
        for (part, chunk) in encoded.chunks(PART).enumerate() {
            let mut item = item(part);
            item.insert(BYTES.to_owned(), bytes(chunk));
            self.puts.push(item);
        }
        self.puts.len() - before
    }
}

/// What is spilled of the ledger: an item for each keyed id, and one for all others.
fn ledger_items(commit: &Commit, tag: Tag, segment: &Segment) -> Vec<Item> {
    let expiring = |mut item: Item, expires: Timestamp| {
        item.insert(TTL.to_owned(), number(expires.0 / 1_000));
        item
    };
    let (keyed, others): (Vec<Spilled>, Vec<Spilled>) = segment.ids.iter().partition(|spilled| spilled.id.is_keyed());
    let item = |spilled: Spilled| expiring(keys::key(&commit.address, keys::keyed(spilled.id)), spilled.expires);
    let mut items: Vec<_> = keyed.into_iter().map(item).collect();
    if !others.is_empty() {
        let mut item = keys::key(&commit.address, keys::segment(segment.newest, segment.number, tag));
        item.insert(BYTES.to_owned(), bytes(others.iter().flat_map(|spilled| spilled.id.0).collect::<Vec<_>>()));
        items.push(expiring(item, segment.expires));
    }
    items
}

/// About what an inline value adds to the item.
fn size(name: &str, value: usize) -> usize {
    name.len() + value + 64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use statefun_core::{
        Address, DeadLetter, Effect, EgressRecord, Envelope, EnvelopeId, LastSeq, LiveToken, Mark, Note, Outbox, Owner, Reason,
        Record, StoredValue, Taken, Timer, Trial, TypeName, TypedValue, stored::record_bytes,
    };

    use super::*;

    fn commit(sizes: &[usize], changed: usize) -> Commit {
        let value = |size| StoredValue {
            value: TypedValue::present(TypeName::from_static("a/v"), vec![7; size]),
            written_at: Timestamp(1),
        };
        let state: BTreeMap<Arc<str>, _> =
            sizes.iter().enumerate().map(|(index, size)| (format!("s{index}").into(), value(*size))).collect();
        let changed = state.keys().take(changed).cloned().collect();
        let record = Record { state, version: 4, ..Record::default() };
        Commit { address: Address::parse("a/b/c").unwrap(), expect: 3, record, changed, segment: None }
    }

    fn item_bytes(update: &Update) -> usize {
        update.values.values().map(|value| value.as_b().map_or(8, |bytes| bytes.as_ref().len())).sum()
    }

    #[test]
    fn a_small_commit_is_one_write_of_what_changed() {
        let writes = Writes::of(&commit(&[100, 200, 300], 1), Tag(7), 0);
        assert!(writes.puts.is_empty());
        let names: Vec<_> = writes.update.names.values().filter(|name| name.starts_with("s.")).collect();
        assert_eq!(names, ["s.s0"]);
        assert!(writes.update.expression().starts_with("SET #0 = :0, "));
    }

    #[test]
    fn a_removed_value_is_removed() {
        let mut commit = commit(&[10], 1);
        commit.record.state.clear();
        let writes = Writes::of(&commit, Tag(7), 0);
        assert!(writes.update.names.values().any(|name| name == "s.s0"));
        assert!(writes.update.expression().contains("REMOVE"));
    }

    #[test]
    fn big_values_have_items_of_their_own() {
        let writes = Writes::of(&commit(&[1_000_000, BIG_VALUE_BYTES], 2), Tag(7), 0);
        assert_eq!(writes.puts.len(), 4);
        assert!(writes.puts.iter().all(|item| item[BYTES].as_b().unwrap().as_ref().len() <= PART));
        assert!(writes.update.names.values().any(|name| name == "g"));
    }

    /// The item's size as DynamoDB counts it. Source: "DynamoDB item sizes and formats".
    fn item_size(address: &Address, update: &Update) -> usize {
        let value = |value: &AttributeValue| match value {
            AttributeValue::B(bytes) => bytes.as_ref().len(),
            AttributeValue::N(digits) => digits.trim_end_matches('0').len().div_ceil(2) + 1,
            other => panic!("{other:?}"),
        };
        // Keys, born.
        let others = 2 + address.to_string().len() + 2 + keys::RECORD.len() + (1 + 8);
        let names = update.sets.iter().filter_map(|set| update.names.get(set.split(' ').next()?));
        others + names.map(String::len).sum::<usize>() + update.values.values().map(value).sum::<usize>()
    }

    fn effect(number: usize, value: &TypedValue) -> Effect {
        let id = EnvelopeId([number as u8; 16]);
        let envelope = Envelope {
            id,
            to: Address::parse(&format!("example/receiver/{number}")).unwrap(),
            from: None,
            sent_at: Timestamp(1_700_000_000_000),
            keyed: false,
            hops: 300,
            trace: number.is_multiple_of(2).then(|| "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            messages: vec![value.clone(); number % 3 + 1],
        };
        let (at, due) = (envelope.sent_at, envelope.sent_at);
        match number % 5 {
            0 => Effect::Send(envelope),
            1 => Effect::Schedule(Timer { due, envelope }),
            2 => Effect::Cancel { timer: id, due },
            3 => Effect::Egress(EgressRecord {
                id,
                egress: TypeName::from_static("example/egress"),
                from: envelope.to,
                at,
                value: value.clone(),
            }),
            _ => Effect::DeadLetter(Box::new(DeadLetter {
                id,
                at,
                reason: Reason::Exhausted,
                error: "e".repeat(number),
                attempts: 5,
                envelope,
            })),
        }
    }

    proptest! {
        /// What core takes for the size of the item, when it decides how many ids have room in it, is not too small, and hardly more.
        #[test]
        fn the_size_is_foreseen(
            sizes in proptest::collection::vec(0_usize..700, 0..5),
            effects in 0_usize..12,
            tokens in 0_usize..4,
            ids in 0_u8..57,
        ) {
            let mut commit = commit(&sizes, sizes.len());
            let now = Timestamp(1_723_456_789_123);
            let value = TypedValue::present(TypeName::from_static("example/message"), vec![b'x'; sizes.first().copied().unwrap_or(9)]);
            let record = &mut commit.record;
            record.state.values_mut().for_each(|stored| stored.written_at = now);
            record.last_seq = Some(LastSeq { queue: u64::MAX, seq: 18_895_000_000_000_000_000_000 });
            (record.version, record.invoked_at, record.moved_at) = (now.0, now, now);
            record.lease = Some(Lease { owner: Owner(u64::MAX), until: now });
            record.ledger.inline = (0..ids).map(|number| Taken::new(EnvelopeId([number; 16]), now)).collect();
            record.last_at = now;
            (record.ledger.newest, record.ledger.floor, record.ledger.next_segment) = (now, now, 1_000);
            let live = LiveToken { timer: EnvelopeId([1; 16]), due: now };
            record.tokens = (0..tokens).map(|number| (format!("token-{number}"), live.clone())).collect();
            record.trials = vec![Trial { id: EnvelopeId([1; 16]), failures: 3, note: Note::Alone }];
            let mark = Mark { above: LastSeq { queue: u64::MAX, seq: 18_895_000_000_000_000_000_000 }, until: now };
            let entries: Vec<_> = (0..effects).map(|number| effect(number, &value)).collect();
            if !entries.is_empty() {
                record.outbox = Outbox { made_at: now, mark: Some(mark), ..entries.into() };
            }
            let foreseen = record_bytes(&commit.address, record) + usize::from(ids) * 16;
            let real = item_size(&commit.address, &Writes::of(&commit, Tag(7), 0).update);
            prop_assert!(real <= foreseen && foreseen - real < 16, "{real} {foreseen}");
        }

        /// Whatever a commit holds within the runtime's limits, the record's item stays below 400 KB.
        #[test]
        fn the_item_fits(sizes in proptest::collection::vec(0_usize..9_000, 1..100)) {
            let writes = Writes::of(&commit(&sizes, sizes.len()), Tag(7), 0);
            prop_assert!(item_bytes(&writes.update) <= INLINE_VALUES + 10_000, "{}", item_bytes(&writes.update));
        }
    }
}
