//! An instance as JSON, for people who look.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value, json};
use statefun_core::{Address, Record, TypedValue};

/// What an instance knows: its state values, each with its type and when it was written (milliseconds since 1970), and what is
/// still to be sent. Values whose expiration has passed are shown until they are next written.
pub(super) fn instance(address: &Address, record: &Record) -> Value {
    let states: Map<_, _> = record
        .state
        .iter()
        .map(|(name, stored)| {
            let mut view = value(&stored.value);
            view.insert("written_at_ms".to_owned(), stored.written_at.0.into());
            (name.to_string(), Value::Object(view))
        })
        .collect();
    json!({
        "address": address.to_string(),
        "version": record.version,
        "invoked_at_ms": record.invoked_at.0,
        "state": states,
        "outbox": record.outbox.len(),
        "cancellation_tokens": record.tokens.keys().collect::<Vec<_>>(),
    })
}

/// As `json` where it is a built-in type or holds JSON, as `text` where it is UTF-8, else as `base64`.
fn value(value: &TypedValue) -> Map<String, Value> {
    let mut view = Map::new();
    view.insert("type".to_owned(), value.type_name.as_str().into());
    let Some(bytes) = &value.value else { return view };
    // Other JSON texts could as well be something else.
    let looks_like_json = matches!(bytes.first(), Some(b'{' | b'['));
    let json = || looks_like_json.then(|| serde_json::from_slice(bytes).ok()).flatten();
    let (key, shown) = match (built_in(value).or_else(json), std::str::from_utf8(bytes)) {
        (Some(json), _) => ("json", json),
        (None, Ok(text)) => ("text", text.into()),
        (None, Err(_)) => ("base64", BASE64.encode(bytes).into()),
    };
    view.insert(key.to_owned(), shown);
    view
}

fn built_in(value: &TypedValue) -> Option<Value> {
    fn read<T: statefun_core::Value + Into<Value>>(value: &TypedValue) -> Option<Value> {
        Some(value.get::<T>().ok()??.into())
    }
    read::<String>(value)
        .or_else(|| read::<i64>(value))
        .or_else(|| read::<i32>(value))
        .or_else(|| read::<bool>(value))
        .or_else(|| read::<f64>(value))
        .or_else(|| read::<f32>(value))
}

#[cfg(test)]
mod tests {
    use statefun_core::{StoredValue, Timestamp, TypeName};

    use super::*;

    #[test]
    fn values_can_be_read() {
        let name = TypeName::from_static("a/b");
        let view = |typed: TypedValue| Value::Object(value(&typed)).to_string();
        assert_eq!(view(TypedValue::of(&5_u64).unwrap()), r#"{"json":5,"type":"io.statefun.types/long"}"#);
        assert_eq!(view(TypedValue::of(&String::new()).unwrap()), r#"{"json":"","type":"io.statefun.types/string"}"#);
        assert_eq!(view(TypedValue::present(name.clone(), "{\"x\":1}")), r#"{"json":{"x":1},"type":"a/b"}"#);
        assert_eq!(view(TypedValue::present(name.clone(), "plain")), r#"{"text":"plain","type":"a/b"}"#);
        assert_eq!(view(TypedValue::present(name.clone(), vec![0xff])), r#"{"base64":"/w==","type":"a/b"}"#);
        assert_eq!(view(TypedValue::absent(name)), r#"{"type":"a/b"}"#);
    }

    #[test]
    fn an_instance() {
        let stored = StoredValue { value: TypedValue::of(&2_u64).unwrap(), written_at: Timestamp(7) };
        let record = Record { version: 3, state: [("seen".into(), stored)].into(), ..Record::default() };
        let shown = instance(&Address::parse("a/b/c").unwrap(), &record);
        assert_eq!(shown["state"]["seen"], json!({"type": "io.statefun.types/long", "json": 2, "written_at_ms": 7}));
        assert_eq!((&shown["address"], &shown["version"]), (&json!("a/b/c"), &json!(3)));
    }
}
