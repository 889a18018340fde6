//! Values as people and programs read them: the one form of egress lines, dead letters and views of state.
//!
//! | the value | its keys |
//! |---|---|
//! | of a built-in type | `"value"`: a string, a number, `true` or `false`; `"NaN"`, `"Infinity"`, `"-Infinity"` where JSON has no number |
//! | of another type, its bytes a JSON text | `"value"`: that JSON, every digit as it is stored |
//! | any other bytes | `"base64"` |
//! | absent | neither |
//!
//! So whoever knows the type can read the bytes back from the form.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::{envelope::Envelope, time::Timestamp, typed_value::TypedValue, types::Value};

/// In which form an egress gets values of StateFun's built-in types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BuiltInForm {
    /// As plain text: `hello`, `7`, `true`.
    #[default]
    Text,
    /// As the protobuf message that wraps the value, as StateFun sends it.
    Protobuf,
}

/// A value with its type, as JSON for people and programs: `type`, and `value` or `base64`.
///
/// ```
/// use statefun_core::{ShownValue, TypedValue};
///
/// let greeting = TypedValue::of(&"hello Ann".to_owned())?;
/// let shown = serde_json::to_string(&ShownValue::of(&greeting))?;
/// assert_eq!(shown, r#"{"type":"io.statefun.types/string","value":"hello Ann"}"#);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Serialize)]
pub struct ShownValue<'a> {
    #[serde(rename = "type")]
    type_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl<'a> ShownValue<'a> {
    /// The value's form.
    #[must_use]
    pub fn of(value: &'a TypedValue) -> Self {
        let Some(bytes) = &value.value else { return Self::in_base64(value) };
        let json = Plain::of(value).and_then(|plain| plain.json()).map(Cow::Owned).or_else(|| json_text(bytes));
        match json {
            Some(json) => Self { type_name: value.type_name.as_str(), value: Some(json), base64: None },
            None => Self::in_base64(value),
        }
    }

    /// The value's bytes in base64, whatever they are: at most a third more than they have.
    #[must_use]
    pub fn in_base64(value: &'a TypedValue) -> Self {
        let base64 = value.value.as_ref().map(|bytes| BASE64.encode(bytes));
        Self { type_name: value.type_name.as_str(), value: None, base64 }
    }

    /// The type's name.
    #[must_use]
    pub fn type_name(&self) -> &str {
        self.type_name
    }

    /// The value for a table: JSON, `base64:` and base64, or `-` where it is absent.
    #[must_use]
    pub fn text(&self) -> String {
        match (&self.value, &self.base64) {
            (Some(json), _) => json.get().to_owned(),
            (None, Some(base64)) => format!("base64:{base64}"),
            (None, None) => "-".to_owned(),
        }
    }
}

/// An envelope as JSON: the keys of its wire form but the version, its messages in the form of [`ShownValue`].
#[derive(Debug, Clone, Serialize)]
pub struct ShownEnvelope<'a> {
    id: String,
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    sent_at: Timestamp,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    keyed: bool,
    hops: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a str>,
    messages: Vec<ShownValue<'a>>,
}

impl<'a> From<&'a Envelope> for ShownEnvelope<'a> {
    fn from(envelope: &'a Envelope) -> Self {
        Self {
            id: envelope.id.to_string(),
            to: envelope.to.to_string(),
            from: envelope.from.as_ref().map(ToString::to_string),
            sent_at: envelope.sent_at,
            keyed: envelope.keyed,
            hops: envelope.hops,
            trace: envelope.trace.as_deref(),
            messages: envelope.messages.iter().map(ShownValue::of).collect(),
        }
    }
}

/// The plain text of a value of a built-in type: `hello`, `7`, `true`, `NaN`. `None` for other types, an absent value, and bytes that
/// the type does not write.
#[must_use]
pub fn plain_text(value: &TypedValue) -> Option<String> {
    Plain::of(value).map(|(Plain::Text(text) | Plain::Json(text))| text)
}

/// A value of a built-in type.
enum Plain {
    /// A string, or a number that JSON does not have.
    Text(String),
    /// A number or a boolean, as JSON writes it.
    Json(String),
}

impl Plain {
    fn of(value: &TypedValue) -> Option<Self> {
        fn read<T: Value>(value: &TypedValue) -> Option<T> {
            value.is::<T>().then(|| value.get::<T>().ok().flatten())?
        }
        fn json<T: Value + Serialize>(value: &TypedValue) -> Option<Plain> {
            serde_json::to_string(&read::<T>(value)?).ok().map(Plain::Json)
        }
        // Bytes that are not the wrapper would be read as something else.
        value.check_builtin().ok()?;
        if let Some(text) = read::<String>(value) {
            return Some(Self::Text(text));
        }
        let real = read::<f64>(value).or_else(|| read::<f32>(value).map(f64::from));
        if let Some(name) = real.and_then(not_finite) {
            return Some(Self::Text(name.to_owned()));
        }
        json::<i64>(value)
            .or_else(|| json::<i32>(value))
            .or_else(|| json::<bool>(value))
            .or_else(|| json::<f64>(value))
            .or_else(|| json::<f32>(value))
    }

    fn json(self) -> Option<Box<RawValue>> {
        match self {
            Self::Text(text) => to_raw_value(&text).ok(),
            Self::Json(json) => RawValue::from_string(json).ok(),
        }
    }
}

/// How protobuf's JSON names what JSON has no number for.
fn not_finite(number: f64) -> Option<&'static str> {
    match number {
        _ if number.is_finite() => None,
        _ if number.is_nan() => Some("NaN"),
        _ if number > 0.0 => Some("Infinity"),
        _ => Some("-Infinity"),
    }
}

/// The bytes as a JSON text. It begins with its first byte: protobuf messages may begin with what JSON takes for white space, and go on
/// with digits.
fn json_text(bytes: &[u8]) -> Option<Cow<'_, RawValue>> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.starts_with([' ', '\t', '\n', '\r']))?;
    let json: &RawValue = serde_json::from_str(text).ok()?;
    // In JSON a line's end stands between the parts only: escapes stand for it in strings.
    if text.contains(['\n', '\r']) {
        return RawValue::from_string(on_one_line(text)).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(json))
}

/// JSON without the white space between its parts: what is shown a line each stays on its line.
fn on_one_line(json: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let kept = |char: &char| {
        let kept = quoted || !char.is_ascii_whitespace();
        quoted ^= *char == '"' && !escaped;
        escaped = quoted && *char == '\\' && !escaped;
        kept
    };
    json.chars().filter(kept).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{type_name::TypeName, types::Codec};

    fn shown(value: &TypedValue) -> String {
        serde_json::to_string(&ShownValue::of(value)).unwrap()
    }

    fn of(bytes: impl Into<bytes::Bytes>) -> String {
        shown(&TypedValue::present(TypeName::from_static("a/b"), bytes))
    }

    #[test]
    fn one_key_holds_the_value_whatever_it_is() {
        let built_in = |value: TypedValue| shown(&value).replace("io.statefun.types/", "");
        assert_eq!(
            built_in(TypedValue::of(&"\n\u{b}Welcome Ann".to_owned()).unwrap()),
            r#"{"type":"string","value":"\n\u000bWelcome Ann"}"#
        );
        assert_eq!(built_in(TypedValue::of(&String::new()).unwrap()), r#"{"type":"string","value":""}"#);
        assert_eq!(built_in(TypedValue::of(&i64::MIN).unwrap()), r#"{"type":"long","value":-9223372036854775808}"#);
        assert_eq!(built_in(TypedValue::of(&0_i32).unwrap()), r#"{"type":"int","value":0}"#);
        assert_eq!(built_in(TypedValue::of(&true).unwrap()), r#"{"type":"bool","value":true}"#);
        assert_eq!(built_in(TypedValue::of(&0.1_f32).unwrap()), r#"{"type":"float","value":0.1}"#);
        assert_eq!(built_in(TypedValue::of(&-0.0_f64).unwrap()), r#"{"type":"double","value":-0.0}"#);
        assert_eq!(built_in(TypedValue::of(&f64::NAN).unwrap()), r#"{"type":"double","value":"NaN"}"#);
        assert_eq!(built_in(TypedValue::of(&f32::NEG_INFINITY).unwrap()), r#"{"type":"float","value":"-Infinity"}"#);
        for json in ["{\"x\":1}", "[]", "\"Red\"", "5", "null", "-1.50e2"] {
            assert_eq!(of(json), format!(r#"{{"type":"a/b","value":{json}}}"#));
        }
        for (bytes, base64) in [(&b"plain"[..], "cGxhaW4="), (&[0xff], "/w=="), (b"", ""), (b"\n\t123456789", "CgkxMjM0NTY3ODk=")]
        {
            assert_eq!(of(bytes), format!(r#"{{"type":"a/b","base64":"{base64}"}}"#));
        }
        assert_eq!(shown(&TypedValue::absent(TypeName::from_static("a/b"))), r#"{"type":"a/b"}"#);
        let not_a_string = TypedValue::present(TypeName::from_static("io.statefun.types/string"), "hi");
        assert_eq!(built_in(not_a_string), r#"{"type":"string","base64":"aGk="}"#);
    }

    #[test]
    fn json_is_shown_as_it_is_stored() {
        for json in [
            r#"{"n":340282366920938463463374607431768211455,"f":1e400,"g":0.1,"h":1.0,"i":-0}"#,
            r#"{"b":1,"a":2,"b":3}"#,
            r#"[" \" \\","\u00e9 \ud800","{\n}"]"#,
        ] {
            assert_eq!(of(json), format!(r#"{{"type":"a/b","value":{json}}}"#));
        }
        let lines = "{ \"a b\" :\n\t[1 , \"\\\\\" ] }\r\n";
        assert_eq!(of(lines), r#"{"type":"a/b","value":{"a b":[1,"\\"]}}"#);
    }

    proptest! {
        #[test]
        fn whoever_knows_the_type_reads_the_value_back(text: String, number: i64, real in any::<f64>()) {
            let value = |typed: TypedValue| serde_json::from_str::<serde_json::Value>(&shown(&typed)).unwrap()["value"].take();
            prop_assert_eq!(value(TypedValue::of(&text).unwrap()), text.clone());
            prop_assert_eq!(value(TypedValue::of(&number).unwrap()), number);
            let json = <crate::types::Json as Codec<(String, i64)>>::encode(&(text.clone(), number)).unwrap();
            prop_assert_eq!(of(json.clone()), format!("{{\"type\":\"a/b\",\"value\":{}}}", std::str::from_utf8(&json).unwrap()));
            if real.is_finite() {
                let plain = plain_text(&TypedValue::of(&real).unwrap()).unwrap();
                prop_assert_eq!(plain.parse::<f64>().unwrap().to_bits(), real.to_bits());
            }
        }

        #[test]
        fn a_line_stays_a_line_and_json(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let line = of(bytes);
            prop_assert!(!line.contains(['\n', '\r']));
            prop_assert!(serde_json::from_str::<&RawValue>(&line).is_ok());
        }
    }
}
