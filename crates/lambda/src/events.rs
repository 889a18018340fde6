//! The events that Lambda hands over, as far as they are needed.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Value, json};
use statefun_core::Timestamp;

use crate::command::Command;

/// An event that can be served.
#[derive(Debug)]
pub(crate) enum Event {
    /// Messages of one SQS queue.
    Sqs(Vec<SqsMessage>),
    /// Records of one shard of a Kinesis stream.
    Kinesis(Vec<KinesisRecord>),
    /// An operator's or a schedule's command.
    Command(Command),
}

/// An SQS message.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SqsMessage {
    pub(crate) message_id: String,
    pub(crate) receipt_handle: String,
    pub(crate) body: String,
    pub(crate) attributes: SystemAttributes,
    #[serde(default, deserialize_with = "null_is_none")]
    pub(crate) message_attributes: HashMap<String, MessageAttribute>,
    #[serde(rename = "eventSourceARN")]
    pub(crate) source_arn: String,
}

impl SqsMessage {
    /// When it was sent to its queue.
    pub(crate) fn sent_at(&self) -> Timestamp {
        Timestamp(self.attributes.sent_timestamp)
    }

    /// The group whose order is kept; standard queues keep none, though their messages may have a group.
    pub(crate) fn order(&self) -> Option<&str> {
        self.attributes.sequence_number.and(self.attributes.message_group_id.as_deref())
    }
}

/// What SQS itself says of a message.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SystemAttributes {
    #[serde(deserialize_with = "number")]
    pub(crate) approximate_receive_count: u32,
    #[serde(deserialize_with = "number")]
    pub(crate) sent_timestamp: u64,
    /// FIFO queues only. Up to 128 bits.
    #[serde(default, deserialize_with = "optional_number")]
    pub(crate) sequence_number: Option<u128>,
    pub(crate) message_group_id: Option<String>,
    pub(crate) message_deduplication_id: Option<String>,
}

/// An attribute that the sender gave a message.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageAttribute {
    /// Of the types String and Number; binary ones have none.
    string_value: Option<String>,
}

impl MessageAttribute {
    /// The attribute as text; `None` for binary ones.
    pub(crate) fn text(&self) -> Option<&str> {
        self.string_value.as_deref()
    }
}

/// A Kinesis record.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KinesisRecord {
    pub(crate) kinesis: KinesisData,
    /// Shard and sequence number.
    #[serde(rename = "eventID")]
    pub(crate) event_id: String,
    #[serde(rename = "eventSourceARN")]
    pub(crate) source_arn: String,
}

/// The record itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KinesisData {
    pub(crate) partition_key: String,
    pub(crate) sequence_number: String,
    #[serde(deserialize_with = "base64")]
    pub(crate) data: Bytes,
    #[serde(rename = "approximateArrivalTimestamp", deserialize_with = "seconds")]
    pub(crate) arrived: Timestamp,
}

/// An event that nobody here knows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnknownEvent {
    #[error(
        "this is not an event of SQS or Kinesis and no command such as `{{\"statefun\":\"sweep\"}}`: check what invokes the function"
    )]
    Shape,
    #[error("events of `{0}` are not served: event sources are SQS queues and Kinesis streams; let others send to a queue")]
    Source(String),
    #[error("the event of {source_name} cannot be read")]
    Form { source_name: &'static str, source: serde_json::Error },
}

impl Event {
    /// Reads an event.
    pub(crate) fn read(mut event: Value) -> Result<Self, UnknownEvent> {
        if event.get("statefun").is_some() {
            let command = serde_json::from_value(event);
            return command.map(Self::Command).map_err(|source| UnknownEvent::Form { source_name: "an operator", source });
        }
        let Some(Value::Array(records)) = event.get_mut("Records").map(Value::take) else { return Err(UnknownEvent::Shape) };
        // All records of an event are of one source. SNS writes the key with a capital.
        let first = records.first();
        let source = first.and_then(|record| record.get("eventSource").or_else(|| record.get("EventSource")));
        match source.and_then(Value::as_str) {
            Some("aws:sqs") => read_all("SQS", records).map(Self::Sqs),
            Some("aws:kinesis") => read_all("Kinesis", records).map(Self::Kinesis),
            Some(other) => Err(UnknownEvent::Source(other.to_owned())),
            None if first.is_none() => Ok(Self::Sqs(Vec::new())),
            None => Err(UnknownEvent::Shape),
        }
    }
}

fn read_all<T: for<'de> Deserialize<'de>>(source_name: &'static str, records: Vec<Value>) -> Result<Vec<T>, UnknownEvent> {
    records
        .into_iter()
        .map(serde_json::from_value)
        .collect::<Result<_, _>>()
        .map_err(|source| UnknownEvent::Form { source_name, source })
}

/// What an event source mapping with `ReportBatchItemFailures` is answered: who is not named is done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct BatchResponse {
    /// What has to come again: message ids, or a sequence number.
    pub(crate) failures: Vec<String>,
}

impl BatchResponse {
    pub(crate) fn of<S: Into<String>>(failed: impl IntoIterator<Item = S>) -> Self {
        Self { failures: failed.into_iter().map(Into::into).collect() }
    }

    pub(crate) fn to_json(&self) -> Value {
        let failures = self.failures.iter().map(|identifier| json!({ "itemIdentifier": identifier }));
        json!({ "batchItemFailures": failures.collect::<Vec<_>>() })
    }
}

/// SQS writes its numbers as strings.
fn number<'de, D: Deserializer<'de>, N: std::str::FromStr<Err: std::fmt::Display>>(deserializer: D) -> Result<N, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// What is optional may be `null`: what forwards or replays events in place of Lambda often writes so.
fn null_is_none<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn optional_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u128>, D::Error> {
    Option::<String>::deserialize(deserializer)?.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}

fn base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    BASE64.decode(String::deserialize(deserializer)?).map(Bytes::from).map_err(D::Error::custom)
}

/// Kinesis writes times as seconds with a fraction.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    // Such a number has no place in time; `as` cuts what is beyond.
    if seconds.is_finite() { Ok(Timestamp((seconds * 1_000.0).round() as u64)) } else { Err(D::Error::custom("not a time")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(text: &str) -> Event {
        Event::read(serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn an_sqs_fifo_event() {
        let Event::Sqs(messages) = fixture(include_str!("../fixtures/sqs-fifo.json")) else { panic!() };
        let message = &messages[0];
        assert_eq!(message.source_arn, "arn:aws:sqs:us-east-2:123456789012:fifo.fifo");
        assert_eq!(message.attributes.sequence_number, Some(18_849_496_460_467_696_128));
        assert_eq!((message.attributes.approximate_receive_count, message.attributes.sent_timestamp), (1, 1_573_251_510_774));
        assert_eq!(message.attributes.message_group_id.as_deref(), Some("1"));
        assert_eq!(message.body, "Test message.");
    }

    #[test]
    fn an_sqs_standard_event() {
        let Event::Sqs(messages) = fixture(include_str!("../fixtures/sqs-standard.json")) else { panic!() };
        assert_eq!(messages[0].attributes.sequence_number, None);
        assert_eq!(messages[0].message_attributes["type"].text(), Some("shop/add"));
        assert_eq!(messages[0].message_attributes["user"].text(), Some("Bob"));
        assert_eq!(messages[0].message_attributes["noise"].text(), None, "binary, though it could be read as text");
    }

    #[test]
    fn a_kinesis_event() {
        let Event::Kinesis(records) = fixture(include_str!("../fixtures/kinesis.json")) else { panic!() };
        let record = &records[0];
        assert_eq!(record.kinesis.arrived, Timestamp(1_545_084_650_987));
        assert_eq!(&record.kinesis.data[..], b"Hello, this is a test.");
        assert_eq!(record.event_id, format!("shardId-000000000006:{}", record.kinesis.sequence_number));
    }

    #[test]
    fn a_command() {
        assert!(matches!(Event::read(json!({"statefun": "sweep"})), Ok(Event::Command(Command::Sweep {}))));
        let error = Event::read(json!({"statefun": "dance"})).unwrap_err();
        assert!(error.to_string().contains("an operator"), "{error}");
    }

    #[test]
    fn others_are_told_what_is_expected() {
        let error = |event| Event::read(event).unwrap_err().to_string();
        assert!(error(json!({"hello": 1})).contains("not an event of SQS or Kinesis"));
        assert!(error(json!([1])).contains("not an event of SQS or Kinesis"));
        assert!(error(json!({"Records": [{"EventSource": "aws:sns"}]})).contains("`aws:sns` are not served"));
        assert!(error(json!({"Records": [{"eventSource": "aws:sqs"}]})).contains("of SQS cannot be read"));
    }

    #[test]
    fn an_answer_without_failures() {
        assert_eq!(BatchResponse::default().to_json().to_string(), r#"{"batchItemFailures":[]}"#);
        assert_eq!(BatchResponse::of(["a"]).to_json().to_string(), r#"{"batchItemFailures":[{"itemIdentifier":"a"}]}"#);
    }
}
