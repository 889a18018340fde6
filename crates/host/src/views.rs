//! State and dead letters as people and programs read them: the same JSON over HTTP and on the command line.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use statefun_core::{Address, Record, Timestamp, TypedValue, Value};
use statefun_embedded::{Letter, MalformedRecord};

use crate::letters;

/// An instance.
#[derive(Debug, Serialize)]
pub(crate) struct InstanceView {
    address: String,
    version: u64,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    invoked_at: Option<String>,
    state: BTreeMap<String, ValueView>,
}

impl InstanceView {
    pub(crate) fn new(address: &Address, record: &Record) -> Self {
        let state =
            record.state.iter().map(|(name, stored)| (name.to_string(), ValueView::new(&stored.value, Some(stored.written_at))));
        Self {
            address: address.to_string(),
            version: record.version,
            created_at: time(record.born),
            invoked_at: (record.invoked_at > Timestamp::ZERO).then(|| time(record.invoked_at)),
            state: state.collect(),
        }
    }

    /// Name, type and value of each state value, for a table.
    pub(crate) fn rows(&self) -> impl Iterator<Item = [String; 3]> {
        self.state.iter().map(|(name, value)| [name.clone(), value.type_name.clone(), value.text()])
    }

    pub(crate) fn summary(&self) -> String {
        let invoked = self.invoked_at.as_deref().unwrap_or("never");
        format!("{}  version {}, created {}, invoked {invoked}", self.address, self.version, self.created_at)
    }
}

/// A value: built-in types and JSON can be read, others as far as they are text. JSON is shown as it is stored: no number loses digits.
#[derive(Debug, Serialize)]
struct ValueView {
    #[serde(rename = "type")]
    type_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    json: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written_at: Option<String>,
}

impl ValueView {
    fn new(value: &TypedValue, written_at: Option<Timestamp>) -> Self {
        let type_name = value.type_name.to_string();
        let mut view = Self { type_name, json: None, text: None, base64: None, written_at: written_at.map(time) };
        let Some(bytes) = &value.value else { return view };
        view.json = builtin(value).or_else(|| json_text(bytes));
        if view.json.is_none() {
            match not_finite(value).or_else(|| std::str::from_utf8(bytes).ok().map(str::to_owned)) {
                Some(text) => view.text = Some(text),
                None => view.base64 = Some(BASE64.encode(bytes)),
            }
        }
        view
    }

    /// For a table.
    fn text(&self) -> String {
        let base64 = || self.base64.as_ref().map(|base64| format!("base64:{base64}"));
        let json = self.json.as_ref().map(ToString::to_string);
        json.or_else(|| self.text.clone()).or_else(base64).unwrap_or_else(|| "-".to_owned())
    }
}

fn read<T: Value>(value: &TypedValue) -> Option<T> {
    value.is::<T>().then(|| value.get::<T>().ok().flatten())?
}

fn builtin(value: &TypedValue) -> Option<Box<RawValue>> {
    fn json<T: Value + Serialize>(value: &TypedValue) -> Option<Box<RawValue>> {
        to_raw_value(&read::<T>(value)?).ok()
    }
    if not_finite(value).is_some() {
        return None;
    }
    json::<String>(value)
        .or_else(|| json::<i64>(value))
        .or_else(|| json::<bool>(value))
        .or_else(|| json::<i32>(value))
        .or_else(|| json::<f64>(value))
        .or_else(|| json::<f32>(value))
}

/// A built-in number that JSON does not have.
fn not_finite(value: &TypedValue) -> Option<String> {
    let number = read::<f64>(value).or_else(|| read::<f32>(value).map(f64::from))?;
    (!number.is_finite()).then(|| number.to_string())
}

/// Values that are JSON objects or lists: other JSON texts could as well be something else.
fn json_text(bytes: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.starts_with(['{', '[']))?;
    serde_json::from_str::<&RawValue>(text).ok()?;
    RawValue::from_string(on_one_line(text)).ok()
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

/// A dead letter.
#[derive(Debug, Serialize)]
pub(crate) struct LetterView {
    pub(crate) id: String,
    pub(crate) at: String,
    pub(crate) reason: String,
    pub(crate) error: String,
    pub(crate) attempts: u32,
    /// Whether its message may have been applied; only if so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) may_be_applied: bool,
    /// Where it was to go, or what it was read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// The envelope in its wire form.
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

impl From<&Letter> for LetterView {
    fn from(letter: &Letter) -> Self {
        let (id, at) = (letter.id().to_string(), time(letter.at()));
        match letter {
            Letter::Dead(dead) => Self {
                id,
                at,
                reason: dead.reason.to_string(),
                error: dead.error.clone(),
                attempts: dead.attempts,
                may_be_applied: letters::may_be_applied(letter),
                to: Some(dead.envelope.to.to_string()),
                envelope: RawValue::from_string(dead.envelope.to_wire()).ok(),
                source: None,
                position: None,
                raw: None,
            },
            Letter::Malformed(MalformedRecord { source, position, reason, raw, .. }) => Self {
                id,
                at,
                reason: statefun_core::Reason::Malformed.to_string(),
                error: reason.clone(),
                attempts: 0,
                may_be_applied: false,
                to: None,
                envelope: None,
                source: Some(source.clone()),
                position: Some(position.clone()),
                raw: Some(raw.clone()),
            },
        }
    }
}

/// A moment as RFC 3339 writes it, UTC: `2026-01-31T23:59:59.123Z`.
pub(crate) fn time(at: Timestamp) -> String {
    let (days, millis) = (at.0 / 86_400_000, at.0 % 86_400_000);
    let (seconds, millis) = (millis / 1_000, millis % 1_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that a leap day is the last of its year; in eras of 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use statefun_core::TypeName;

    use super::*;

    #[test]
    fn times_as_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (1_767_225_599_001, "2025-12-31T23:59:59.001Z"),
        ] {
            assert_eq!(time(Timestamp(millis)), text);
        }
    }

    #[test]
    fn values_can_be_read() {
        let view = |typed: TypedValue| serde_json::to_string(&ValueView::new(&typed, None)).unwrap();
        assert_eq!(view(TypedValue::of(&5_i64).unwrap()), r#"{"type":"io.statefun.types/long","json":5}"#);
        assert_eq!(view(TypedValue::of(&String::new()).unwrap()), r#"{"type":"io.statefun.types/string","json":""}"#);
        let name = TypeName::from_static("a/b");
        assert_eq!(view(TypedValue::present(name.clone(), "{\"x\":1}")), r#"{"type":"a/b","json":{"x":1}}"#);
        assert_eq!(view(TypedValue::present(name.clone(), "plain")), r#"{"type":"a/b","text":"plain"}"#);
        assert_eq!(view(TypedValue::present(name.clone(), vec![0xff])), r#"{"type":"a/b","base64":"/w=="}"#);
        assert_eq!(view(TypedValue::absent(name)), r#"{"type":"a/b"}"#);
        assert_eq!(view(TypedValue::of(&f64::NAN).unwrap()), r#"{"type":"io.statefun.types/double","text":"NaN"}"#);
        assert_eq!(view(TypedValue::of(&f32::NEG_INFINITY).unwrap()), r#"{"type":"io.statefun.types/float","text":"-inf"}"#);
    }

    #[test]
    fn json_is_shown_as_it_is_stored() {
        let shown = |json: &str| json_text(json.as_bytes()).unwrap().get().to_owned();
        for json in [
            r#"{"n":340282366920938463463374607431768211455,"f":1e400,"g":0.1,"h":1.0,"i":-0}"#,
            r#"{"b":1,"a":2,"b":3}"#,
            r#"[" \" \\","\u00e9 \ud800","{\n}"]"#,
        ] {
            assert_eq!(shown(json), json);
        }
        assert_eq!(shown("{ \"a b\" :\n\t[1 , \"\\\\\" ] }\r\n"), "{\"a b\":[1,\"\\\\\"]}");
        assert!(json_text(b"{\"a\":}").is_none() && json_text(b"12").is_none());
    }
}
