//! `id`, `valueType` and `deduplicationKey`: which part of a record is meant.

use statefun_core::{TypeName, nearest};

use crate::{
    model::{Selector, SourceKind, ValueType},
    pointer::JsonPointer,
    problem::Place,
    reader::{Reader, Text, Value, suggest},
    tree::Data,
};

/// Characters of a message attribute's name, by SQS.
const MAX_ATTRIBUTE_CHARS: usize = 256;

/// For plain text: no type name is without a `/`.
const TEXT: &str = "text";

/// What a selector can be, by what is read and for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    words: &'static [&'static str],
    keys: &'static [&'static str],
}

impl Choice {
    pub(crate) fn of_id(kind: SourceKind) -> Self {
        match kind {
            SourceKind::Kinesis => Self { words: &["partitionKey"], keys: Self::keys(kind) },
            SourceKind::Sqs => Self { words: &["messageGroupId", "messageId"], keys: Self::keys(kind) },
        }
    }

    pub(crate) fn of_deduplication_key(kind: SourceKind) -> Self {
        match kind {
            SourceKind::Kinesis => Self { words: &[], keys: Self::keys(kind) },
            SourceKind::Sqs => Self { words: &["messageDeduplicationId"], keys: Self::keys(kind) },
        }
    }

    fn keys(kind: SourceKind) -> &'static [&'static str] {
        match kind {
            SourceKind::Kinesis => &["jsonPointer"],
            SourceKind::Sqs => &["messageAttribute", "jsonPointer"],
        }
    }

    fn help(self) -> String {
        let words = self.words.iter().map(|word| format!("`{word}`"));
        let keys = self.keys.iter().map(|key| format!("`{{{key}: {}}}`", if *key == "jsonPointer" { "/key" } else { "name" }));
        let all: Vec<_> = words.chain(keys).collect();
        format!("write {}", all.join(" or "))
    }
}

impl Reader<'_> {
    pub(crate) fn selector(&mut self, value: Value<'_>, what: &'static str, choice: Choice) -> Option<Selector> {
        if let Data::Map(_) = value.node.data {
            return self.keyed_selector(value, what, choice);
        }
        let Text { text, place, .. } = self.text(value, what)?;
        let Some(word) = choice.words.iter().find(|word| **word == text) else {
            let near = nearest(&text, choice.words.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            self.wrong(place, format!("`{what}` cannot be `{text}`"), Some(near.unwrap_or_else(|| choice.help())));
            return None;
        };
        Some(match *word {
            "partitionKey" => Selector::PartitionKey,
            "messageGroupId" => Selector::MessageGroupId,
            "messageDeduplicationId" => Selector::MessageDeduplicationId,
            _ => Selector::MessageId,
        })
    }

    fn keyed_selector(&mut self, value: Value<'_>, what: &'static str, choice: Choice) -> Option<Selector> {
        let known = self.problems.len();
        let map = self.map(value, &format!("`{what}`"), choice.keys)?;
        let mut found: Vec<_> = choice.keys.iter().filter_map(|key| Some((*key, map.get(key)?))).collect();
        let (key, inner) = match (found.pop(), found.is_empty()) {
            (Some(found), true) => found,
            (None, _) if self.problems.len() > known => return None,
            _ => {
                self.wrong(value.key, format!("`{what}` has exactly one key"), Some(choice.help()));
                return None;
            }
        };
        let Text { text, place, .. } = self.text(inner, key)?;
        match key {
            "jsonPointer" => match JsonPointer::parse(&text) {
                Ok(pointer) => Some(Selector::JsonPointer(pointer)),
                Err(error) => {
                    self.wrong(place, error.to_string(), None);
                    None
                }
            },
            _ if text.chars().count() > MAX_ATTRIBUTE_CHARS => {
                self.wrong(place, format!("a message attribute's name has at most {MAX_ATTRIBUTE_CHARS} characters"), None);
                None
            }
            _ => Some(Selector::MessageAttribute(text)),
        }
    }

    pub(crate) fn value_type(&mut self, value: Value<'_>, kind: SourceKind) -> Option<ValueType> {
        const WHAT: &str = "valueType";
        if let Data::Map(_) = value.node.data {
            let choice = Choice { words: &[], keys: Choice::keys(kind) };
            return self.selector(value, WHAT, choice).map(ValueType::From);
        }
        let Text { text, place, .. } = self.text(value, WHAT)?;
        if text == TEXT {
            return Some(ValueType::Text);
        }
        match TypeName::parse(&text) {
            Ok(name) => Some(ValueType::Named(name)),
            Err(error) => {
                self.wrong(place, error.to_string(), Some(self.no_type(&text)));
                None
            }
        }
    }

    fn no_type(&self, text: &str) -> String {
        match nearest(text, [TEXT]) {
            Some(_) => suggest(text, &[TEXT]),
            None => "or `text` for records of plain text".to_owned(),
        }
    }

    /// Reports a location that cannot be what it should.
    pub(crate) fn expect(&mut self, fits: bool, place: Place, message: String, help: &str) -> Option<()> {
        if !fits {
            self.wrong(place, message, Some(help.to_owned()));
        }
        fits.then_some(())
    }
}
