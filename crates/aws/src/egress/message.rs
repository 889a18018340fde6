//! A record as an SQS or SNS message.
//!
//! The body is the value itself where it is text that SQS can hold. Values of StateFun's built-in types go as plain text: `hello`, `7`,
//! `true`. Where the egress asks for [`BuiltInForm::Protobuf`], they go as the bytes of their protobuf wrapper, always as base64.
//! Other bytes go as base64, and the attribute `statefun-encoding` says so. The services take no empty body: a value of no bytes is
//! one space with the encoding `empty`, an absent one a space with `absent`.
//!
//! | attribute | |
//! |---|---|
//! | `statefun-id` | the record's stable id, 32 hexadecimal digits |
//! | `statefun-type` | the value's type |
//! | `statefun-at` | the sender's clock at its commit, milliseconds since 1970 |
//! | `statefun-from` | the sender's address; `statefun-from-base64` instead if SQS cannot hold its characters |
//! | `statefun-encoding` | `base64`, `empty` or `absent`; missing where the body is the value |

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use statefun_core::{BuiltInForm, EgressRecord, TypedValue, group_id, plain_text};

/// Text characters that SQS holds. Source: the `SendMessage` reference.
fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// A message's body, and how it was made of the value's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The text.
    pub text: String,
    /// `base64`, `empty` or `absent`; `None` where the text is the value.
    pub encoding: Option<&'static str>,
}

impl Body {
    /// The body for a value.
    #[must_use]
    pub fn of(value: &TypedValue, form: BuiltInForm) -> Self {
        let Some(bytes) = &value.value else { return Self::stand_in("absent") };
        let plain = plain_text(value);
        match (&plain, form) {
            (Some(_), BuiltInForm::Protobuf) => Self::of_bytes(bytes),
            (Some(text), BuiltInForm::Text) => Self::of_text(text),
            (None, _) => std::str::from_utf8(bytes).map_or_else(|_| Self::of_bytes(bytes), Self::of_text),
        }
    }

    fn of_text(text: &str) -> Self {
        match text.chars().all(is_allowed) && !text.is_empty() {
            true => Self { text: text.to_owned(), encoding: None },
            // Decoded, the body is what it would have been as text.
            false => Self::of_bytes(text.as_bytes()),
        }
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        match bytes {
            [] => Self::stand_in("empty"),
            _ => Self { text: BASE64.encode(bytes), encoding: Some("base64") },
        }
    }

    fn stand_in(encoding: &'static str) -> Self {
        Self { text: " ".to_owned(), encoding: Some(encoding) }
    }
}

/// A record as SQS and SNS take it.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) body: String,
    pub(super) attributes: Vec<(&'static str, String)>,
    /// Group and deduplication id, for FIFO queues and topics.
    pub(super) fifo: Option<Fifo>,
}

#[derive(Debug, Clone)]
pub(super) struct Fifo {
    pub(super) group: String,
    pub(super) deduplication: String,
}

impl Message {
    pub(super) fn of(record: &EgressRecord, fifo: bool, form: BuiltInForm) -> Self {
        let Body { text, encoding } = Body::of(&record.value, form);
        let from = record.from.to_string();
        let from = match from.chars().all(is_allowed) {
            true => ("statefun-from", from),
            false => ("statefun-from-base64", BASE64.encode(from)),
        };
        let type_name = ("statefun-type", record.value.type_name.to_string());
        let mut attributes =
            vec![("statefun-id", record.id.to_string()), type_name, from, ("statefun-at", record.at.0.to_string())];
        attributes.extend(encoding.map(|encoding| ("statefun-encoding", encoding.to_owned())));
        let fifo = fifo.then(|| Fifo { group: group_id(&record.from), deduplication: record.id.to_string() });
        Self { body: text, attributes, fifo }
    }

    /// Bytes that count towards a request's limit: body, and names, types and values of the attributes.
    pub(super) fn bytes(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(|(name, value)| name.len() + "String".len() + value.len()).sum();
        self.body.len() + attributes
    }

    pub(super) fn group(&self) -> Option<&str> {
        self.fifo.as_ref().map(|fifo| fifo.group.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use statefun_core::{TypeName, limits::MAX_ID_BYTES};

    use super::{super::tests::record, *};

    fn body(bytes: &[u8]) -> Body {
        Body::of(&TypedValue::present(TypeName::from_static("a/b"), bytes.to_vec()), BuiltInForm::Text)
    }

    fn string(text: &str) -> Body {
        Body::of(&TypedValue::of(&text.to_owned()).unwrap(), BuiltInForm::Text)
    }

    fn plain(text: &str) -> Body {
        Body { text: text.to_owned(), encoding: None }
    }

    #[test]
    fn text_is_itself_and_the_rest_base64() {
        assert_eq!(body(b"{\"x\":\n1}"), plain("{\"x\":\n1}"));
        assert_eq!(string("hello Bäb 🛫"), plain("hello Bäb 🛫"));
        assert_eq!(body(&[0xff, 0]), Body { text: "/wA=".to_owned(), encoding: Some("base64") });
        for forbidden in ["\u{0}", "\u{1b}", "\u{fffe}"] {
            assert_eq!(body(forbidden.as_bytes()).encoding, Some("base64"), "{forbidden:?}");
        }
        assert_eq!(string("a\u{7}"), Body { text: "YQc=".to_owned(), encoding: Some("base64") });
    }

    #[test]
    fn built_in_types_are_plain_text_or_statefuns_wrapper() {
        fn both<T: statefun_core::Value>(value: &T) -> [Body; 2] {
            let value = TypedValue::of(value).unwrap();
            [BuiltInForm::Text, BuiltInForm::Protobuf].map(|form| Body::of(&value, form))
        }
        let wrapped = |base64: &str| Body { text: base64.to_owned(), encoding: Some("base64") };
        assert_eq!(both(&"hi".to_owned()), [plain("hi"), wrapped("CgJoaQ==")]);
        assert_eq!(both(&7_i64), [plain("7"), wrapped("CQcAAAAAAAAA")]);
        assert_eq!(both(&true), [plain("true"), wrapped("CAE=")]);
        assert_eq!(both(&0.1_f32)[0], plain("0.1"));
        assert_eq!(both(&f64::NAN)[0], plain("NaN"));
        assert_eq!(both(&0_i32), [plain("0"), Body::stand_in("empty")]);
        let json = TypedValue::present(TypeName::from_static("a/b"), "{}");
        assert_eq!(Body::of(&json, BuiltInForm::Protobuf), plain("{}"), "other types are as they are");
    }

    #[test]
    fn no_body_is_empty() {
        let absent = Body::of(&TypedValue::absent(TypeName::from_static("a/b")), BuiltInForm::Text);
        assert_eq!([body(b"").encoding, string("").encoding, absent.encoding], [Some("empty"), Some("empty"), Some("absent")]);
        assert_eq!([body(b"").text, string("").text, absent.text], [" ", " ", " "]);
    }

    #[test]
    fn a_string_that_is_not_one_is_bytes() {
        let value = TypedValue::present(TypeName::from_static("io.statefun.types/string"), vec![0x0a, 9, b'x']);
        assert_eq!(Body::of(&value, BuiltInForm::Text), plain("\n\tx"));
    }

    #[test]
    fn attributes_say_the_rest() {
        let value = TypedValue::of(&"hi".to_owned()).unwrap();
        let message = Message::of(&record(1, "Bob", value.clone()), true, BuiltInForm::Text);
        let id = "01".repeat(16);
        let expected = [
            ("statefun-id", id.clone()),
            ("statefun-type", "io.statefun.types/string".to_owned()),
            ("statefun-from", "a/b/Bob".to_owned()),
            ("statefun-at", record(1, "Bob", value.clone()).at.0.to_string()),
        ];
        assert_eq!(message.attributes, expected);
        let fifo = message.fifo.unwrap();
        assert_eq!((fifo.group.as_str(), fifo.deduplication), ("a/b/Bob", id));
        let odd = Message::of(&record(1, "B\u{1}b", value), false, BuiltInForm::Text);
        assert_eq!(odd.attributes[2], ("statefun-from-base64", BASE64.encode("a/b/B\u{1}b")));
        assert!(odd.fifo.is_none());
    }

    /// What a sink takes for certain fits whatever the value and the sender's id are.
    #[test]
    fn the_largest_value_fits() {
        let id = "\u{1}".repeat(MAX_ID_BYTES);
        for (sink, limit) in [
            (super::super::Sink::Sqs { queue_url: String::new() }, super::super::sqs::MAX_BYTES),
            (super::super::Sink::Sns { topic_arn: String::new() }, super::super::sns::MAX_BYTES),
        ] {
            let value = TypedValue::present(TypeName::from_static("a/b"), vec![0xff; sink.max_value_bytes()]);
            let bytes = Message::of(&record(1, &id, value), true, BuiltInForm::Text).bytes();
            assert!(bytes + 1_024 < limit && bytes > limit * 9 / 10, "{bytes} of {limit}");
        }
    }

    proptest! {
        #[test]
        fn every_body_can_be_sent_and_read(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let Body { text, encoding } = body(&bytes);
            prop_assert!(!text.is_empty() && text.chars().all(is_allowed));
            let read = match encoding {
                None => text.into_bytes(),
                Some("base64") => BASE64.decode(text).unwrap(),
                Some(_) => Vec::new(),
            };
            prop_assert_eq!(read, bytes);
        }
    }
}
