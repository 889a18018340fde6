//! What DynamoDB bills for a request: the sizes of items, and units.
//!
//! A write is billed by the larger of the item before and after it, in whole KB, also where its condition fails; a transaction twice; a strongly
//! consistent read by the item, in units of 4 KB, what is not there as one. Source: "DynamoDB item sizes and formats", "DynamoDB on-demand capacity".

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;

pub(super) type Item = HashMap<String, AttributeValue>;

/// Bytes of each attribute, its name included.
pub(super) type Sizes = BTreeMap<String, usize>;

/// What was billed, and how often.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Bill {
    /// Items that were read, and what for.
    pub(super) reads: u64,
    pub(super) read_units: u64,
    /// Writes of records: taken, and refused by their condition. The units are of both.
    pub(super) writes: u64,
    pub(super) refused: u64,
    pub(super) write_units: u64,
    /// Ledger segments, and their units.
    pub(super) segments: u64,
    pub(super) segment_units: u64,
    /// Requests that send, what they are billed as (64 KB each), and messages in them.
    pub(super) send_requests: u64,
    pub(super) send_chunks: u64,
    pub(super) sent: u64,
}

impl std::ops::AddAssign for Bill {
    fn add_assign(&mut self, other: Self) {
        self.reads += other.reads;
        self.read_units += other.read_units;
        self.writes += other.writes;
        self.refused += other.refused;
        self.write_units += other.write_units;
        self.segments += other.segments;
        self.segment_units += other.segment_units;
        self.send_requests += other.send_requests;
        self.send_chunks += other.send_chunks;
        self.sent += other.sent;
    }
}

/// Units of a write that finds so many bytes and leaves so many.
pub(super) fn write_units(before: usize, after: usize) -> u64 {
    before.max(after).div_ceil(1_024).max(1) as u64
}

/// Units of a strongly consistent read.
pub(super) fn read_units(bytes: usize) -> u64 {
    bytes.div_ceil(4_096).max(1) as u64
}

/// What a request or a delivery to SQS of so many bytes is billed as.
pub(super) fn chunks(bytes: usize) -> u64 {
    bytes.div_ceil(65_536).max(1) as u64
}

pub(super) fn total(sizes: &Sizes) -> usize {
    sizes.values().sum()
}

pub(super) fn sizes(item: &Item) -> Sizes {
    item.iter().map(|(name, content)| (name.clone(), name.len() + value(content))).collect()
}

fn value(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        // Two digits a byte, zeros at both ends left out, and one.
        AttributeValue::N(digits) => digits.trim_matches('0').len().div_ceil(2) + 1,
        _ => 1,
    }
}

/// The item after an update, as the runtime's updates are written: `SET a = :x, b = if_not_exists(b, :y), c = c + :one REMOVE d, e`. `None` if this
/// one is of another form.
pub(super) fn updated(before: &Sizes, expression: &str, names: &HashMap<String, String>, values: &Item) -> Option<Sizes> {
    let name = |place: &str| names.get(place).cloned().unwrap_or_else(|| place.to_owned());
    let (sets, removes) = expression.split_once(" REMOVE ").unwrap_or((expression, ""));
    let mut after = before.clone();
    let mut if_absent = None;
    for clause in sets.strip_prefix("SET ")?.split(", ") {
        let Some((place, operand)) = clause.split_once(" = ") else {
            // The second half of `if_not_exists`.
            let attribute: String = if_absent.take()?;
            let bytes = attribute.len() + value(values.get(clause.strip_suffix(')')?)?);
            after.entry(attribute).or_insert(bytes);
            continue;
        };
        let attribute = name(place);
        if operand.starts_with("if_not_exists(") {
            if_absent = Some(attribute);
        } else if operand.contains(" + ") {
            // A number that rises by one keeps its size.
            after.get(&attribute)?;
        } else {
            let bytes = attribute.len() + value(values.get(operand)?);
            after.insert(attribute, bytes);
        }
    }
    for place in removes.split(", ").filter(|place| !place.is_empty()) {
        after.remove(&name(place));
    }
    Some(after)
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::primitives::Blob;

    use super::*;

    fn bytes(count: usize) -> AttributeValue {
        AttributeValue::B(Blob::new(vec![7; count]))
    }

    fn number(digits: &str) -> AttributeValue {
        AttributeValue::N(digits.to_owned())
    }

    #[test]
    fn an_item_is_as_big_as_its_names_and_values() {
        let item = Item::from([
            ("pk".to_owned(), AttributeValue::S("a/b/c".to_owned())),
            ("v".to_owned(), number("1700000000123")),
            ("r".to_owned(), bytes(100)),
        ]);
        assert_eq!(total(&sizes(&item)), (2 + 5) + (1 + 8) + (1 + 100));
    }

    #[test]
    fn a_write_is_billed_by_the_larger_of_old_and_new_and_a_read_by_four_kilobytes() {
        assert_eq!([write_units(0, 1), write_units(1_024, 9), write_units(9, 1_025), write_units(0, 0)], [1, 1, 2, 1]);
        assert_eq!([read_units(0), read_units(4_096), read_units(4_097)], [1, 1, 2]);
        assert_eq!([chunks(1), chunks(65_536), chunks(65_537)], [1, 1, 2]);
    }

    #[test]
    fn an_update_sets_and_removes() {
        let before = Sizes::from([("pk".to_owned(), 7), ("v".to_owned(), 9), ("o".to_owned(), 300), ("s.a".to_owned(), 50)]);
        let names = HashMap::from([("#0".to_owned(), "s.a".to_owned()), ("#1".to_owned(), "o".to_owned())]);
        let values =
            Item::from([(":0".to_owned(), bytes(10)), (":b".to_owned(), number("12")), (":one".to_owned(), number("1"))]);
        let after =
            updated(&before, "SET #0 = :0, b = if_not_exists(b, :b), v = v + :one REMOVE #1, h", &names, &values).unwrap();
        let expected = [("pk", 7), ("v", 9), ("s.a", 13), ("b", 3)].map(|(name, size)| (name.to_owned(), size));
        assert_eq!(after, Sizes::from(expected));
        let again = updated(&after, "SET b = if_not_exists(b, :0)", &names, &values).unwrap();
        assert_eq!(again["b"], 3, "it was there");
    }

    #[test]
    fn an_update_of_another_form_is_not_guessed() {
        let of = |expression| updated(&Sizes::new(), expression, &HashMap::new(), &Item::new());
        assert_eq!(of("ADD v :one"), None);
        assert_eq!(of("SET v = :missing"), None);
        assert_eq!(of("SET v = v + :one"), None);
    }
}
