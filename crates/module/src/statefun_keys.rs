//! Keys that StateFun's Kinesis kinds have and that something else decides here: the event source mapping, the Lambda's role and
//! region. Their form is checked, so that a file can be used unchanged, and a mistake in it is still reported.

use crate::{
    reader::{Map, Reader, Value, where_of},
    tree::Data,
};

/// A `type` and the keys that belong to it: required ones, others.
type Types = &'static [(&'static str, &'static [&'static str], &'static [&'static str])];

const REGION: Types = &[("default", &[], &[]), ("specific", &["id"], &[]), ("custom-endpoint", &["endpoint", "id"], &[])];
const CREDENTIALS: Types = &[
    ("default", &[], &[]),
    ("basic", &["accessKeyId", "secretAccessKey"], &[]),
    ("profile", &["profileName"], &["profilePath"]),
];
const POSITION: Types = &[("latest", &[], &[]), ("earliest", &[], &[]), ("date", &["date"], &[])];

pub(crate) const INGRESS: &[&str] = &["awsRegion", "awsCredentials", "startupPosition", "clientConfigProperties"];
pub(crate) const EGRESS: &[&str] = &["awsRegion", "awsCredentials", "maxOutstandingRecords", "clientConfigProperties"];

/// What stands for a text that was written instead of a map, if that can be said.
fn in_full(what: &str, types: Types, text: &str) -> Option<String> {
    if types.iter().any(|(word, required, _)| *word == text && required.is_empty()) {
        return Some(format!("{{type: {text}}}"));
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let id = if plain { text.to_owned() } else { format!("\"{text}\"") };
    (what == "awsRegion").then(|| format!("{{type: specific, id: {id}}}"))
}

impl Reader<'_> {
    /// Checks these keys, as far as they are given.
    pub(crate) fn statefun_keys(&mut self, spec: &Map<'_>) {
        for (key, types) in [("awsRegion", REGION), ("awsCredentials", CREDENTIALS), ("startupPosition", POSITION)] {
            if let Some(value) = spec.get(key) {
                self.typed_map(value, key, types);
            }
        }
        if let Some(value) = spec.get("maxOutstandingRecords")
            && let Some(text) = self.text(value, "maxOutstandingRecords")
            && !text.text.parse::<u32>().is_ok_and(|count| count > 0)
        {
            self.wrong(text.place, "`maxOutstandingRecords` is a number above 0", None);
        }
        if let Some(value) = spec.get("clientConfigProperties") {
            for item in self.items(value, "clientConfigProperties") {
                if !matches!(item.node.data, Data::Map(_)) {
                    self.wrong(where_of(item), format!("a property is a map of one key, not {}", item.node.what()), None);
                }
            }
        }
    }

    fn typed_map(&mut self, value: Value<'_>, what: &'static str, types: Types) {
        let mut keys = vec!["type"];
        for key in types.iter().flat_map(|(_, required, others)| required.iter().chain(*others)) {
            if !keys.contains(key) {
                keys.push(key);
            }
        }
        if let Data::Scalar(text) = &value.node.data
            && let Some(full) = in_full(what, types, text)
        {
            return self.wrong(value.node.place, format!("`{what}` is a map, not a text"), Some(format!("write `{full}`")));
        }
        let Some(map) = self.map(value, &format!("`{what}`"), &keys) else { return };
        let words: Vec<_> = types.iter().map(|(word, ..)| *word).collect();
        let Some(kind) = self.required(&map, "type") else { return };
        let Some(word) = self.word(kind, "type", &words) else { return };
        for (_, required, others) in types.iter().filter(|(name, ..)| *name == word) {
            for key in *required {
                if let Some(value) = self.required(&map, key) {
                    self.text(value, key);
                }
            }
            let unused = keys.iter().filter(|key| **key != "type" && !required.contains(key) && !others.contains(key));
            for key in unused {
                if let Some(value) = map.get(key) {
                    self.wrong(value.key, format!("`{key}` does not belong to `type: {word}`"), None);
                }
            }
        }
    }
}
