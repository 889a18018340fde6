//! An instance as JSON, for people who look.

use std::collections::BTreeMap;

use serde::Serialize;
use statefun_core::{Address, Record, ShownValue, StoredValue, Timestamp};

/// What an instance knows: its state values, each with its type and when it was written (milliseconds since 1970), and what is
/// still to be sent. Values whose expiration has passed are shown until they are next written.
#[derive(Debug, Serialize)]
pub(super) struct Instance<'a> {
    address: String,
    version: u64,
    invoked_at_ms: Timestamp,
    state: BTreeMap<&'a str, State<'a>>,
    outbox: usize,
    cancellation_tokens: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
struct State<'a> {
    #[serde(flatten)]
    value: ShownValue<'a>,
    written_at_ms: Timestamp,
}

impl<'a> Instance<'a> {
    pub(super) fn new(address: &Address, record: &'a Record) -> Self {
        let state = |stored: &'a StoredValue| State { value: ShownValue::of(&stored.value), written_at_ms: stored.written_at };
        Self {
            address: address.to_string(),
            version: record.version,
            invoked_at_ms: record.invoked_at,
            state: record.state.iter().map(|(name, stored)| (&**name, state(stored))).collect(),
            outbox: record.outbox.len(),
            cancellation_tokens: record.tokens.keys().map(|token| &**token).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use statefun_core::{TypeName, TypedValue};

    use super::*;

    #[test]
    fn an_instance_with_all_digits_of_its_state() {
        const JSON: &str = r#"{"n":340282366920938463463374607431768211455,"f":1.50}"#;
        let stored = |value| StoredValue { value, written_at: Timestamp(7) };
        let big = TypedValue::present(TypeName::from_static("a/b"), JSON);
        let state = [("seen".into(), stored(TypedValue::of(&2_u64).unwrap())), ("big".into(), stored(big))].into();
        let record = Record { version: 3, state, ..Record::default() };
        let shown = serde_json::to_string(&Instance::new(&Address::parse("a/b/c").unwrap(), &record)).unwrap();
        assert!(shown.contains(&format!(r#""big":{{"type":"a/b","value":{JSON},"written_at_ms":7}}"#)), "{shown}");
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["state"]["seen"], json!({"type": "io.statefun.types/long", "value": 2, "written_at_ms": 7}));
        assert_eq!((&shown["address"], &shown["version"]), (&json!("a/b/c"), &json!(3)));
    }
}
