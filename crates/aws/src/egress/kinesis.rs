//! Egress to a Kinesis stream.
//!
//! A record is one JSON object, as the local host's egress files have it: `id`, `at`, `egress`, `from`, `type`, and `value` or
//! `base64` ([`ShownValue`](statefun_core::ShownValue)). Where the egress asks for [`BuiltInForm::Protobuf`], values of built-in types are
//! their protobuf wrapper, as base64; so is one whose escapes would not fit into a record. The partition key is the sender's id (a hash of it beyond 256 characters), so what one instance sends stays in
//! one shard.
//!
//! StateFun's own `KinesisEgressRecord` says partition key and bytes by itself and is sent as it says, to the declared stream: one
//! that it names may not exist, or not be allowed. Parts that Kinesis could never take (an empty or overlong key, a hash key that
//! is not a 128-bit number) are replaced by what any other record has; one that cannot be read goes out as any other type does.
//! Refused, it would hold up its sender for ever.

use aws_sdk_kinesis::{Client, types::PutRecordsRequestEntry};
use aws_smithy_types::{Blob, DateTime, date_time::Format, error::operation::BuildError};
use statefun_core::{
    BuiltInForm, EgressRecord, Timestamp, plain_text, sha256_hex,
    stored::{egress_to_json, egress_to_json_in_base64},
};
use statefun_engine::ports::{PortError, PortErrorKind};

use super::{
    CALL,
    rounds::{is_unclear, packed_by},
};
use crate::entries::{FailedEntry, repeated, unanswered};

/// The type of StateFun's records that name their own stream and key.
pub const STATEFUN_RECORD: &str = "type.googleapis.com/io.statefun.sdk.egress.KinesisEgressRecord";

/// Entries of one `PutRecords`. Source: its reference.
const MAX_ENTRIES: usize = 500;
/// Bytes of one `PutRecords`, keys included: 5 MiB were the limit before it was raised to 10.
const MAX_BYTES: usize = 5 * 1_024 * 1_024;
/// Bytes of a record, its key included, unless the stream allows more. Source: Kinesis quotas.
const MAX_RECORD_BYTES: usize = 1_024 * 1_024;
/// Characters of a partition key. Source: the `PutRecords` reference.
const MAX_KEY_CHARS: usize = 256;

/// StateFun's `io.statefun.sdk.egress.KinesisEgressRecord`. Source: `kinesis-egress.proto` of apache/flink-statefun.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KinesisEgressRecord {
    /// The partition key.
    #[prost(string, tag = "1")]
    pub partition_key: String,
    /// The record's data.
    #[prost(bytes = "vec", tag = "2")]
    pub value_bytes: Vec<u8>,
    /// The stream's name: not used here, the egress's own is.
    #[prost(string, tag = "3")]
    pub stream: String,
    /// A decimal number below 2^128, or empty.
    #[prost(string, tag = "4")]
    pub explicit_hash_key: String,
}

/// A record as Kinesis takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Put {
    key: String,
    hash_key: Option<String>,
    data: Vec<u8>,
}

impl Put {
    fn of(record: &EgressRecord, form: BuiltInForm) -> Self {
        let own_key = partition_key(record.from.id());
        if let Some(named) = statefun_record(record) {
            let KinesisEgressRecord { partition_key, value_bytes, explicit_hash_key, stream: _ } = named;
            let key = if is_key(&partition_key) { partition_key } else { own_key };
            let hash_key = Some(explicit_hash_key).filter(|number| is_hash_key(number));
            return Self { key, hash_key, data: value_bytes };
        }
        let data = line(record, MAX_RECORD_BYTES - own_key.len(), form);
        Self { key: own_key, hash_key: None, data }
    }

    fn bytes(&self) -> usize {
        self.data.len() + self.key.len()
    }

    fn entry(&self) -> Result<PutRecordsRequestEntry, BuildError> {
        PutRecordsRequestEntry::builder()
            .partition_key(&self.key)
            .set_explicit_hash_key(self.hash_key.clone())
            .data(Blob::new(self.data.clone()))
            .build()
    }
}

fn statefun_record(record: &EgressRecord) -> Option<KinesisEgressRecord> {
    if record.value.type_name.as_str() != STATEFUN_RECORD {
        return None;
    }
    prost::Message::decode(record.value.value.as_ref()?.clone()).ok()
}

fn partition_key(id: &str) -> String {
    if is_key(id) { id.to_owned() } else { sha256_hex(id.as_bytes()) }
}

fn is_key(key: &str) -> bool {
    (1..=MAX_KEY_CHARS).contains(&key.chars().count())
}

fn is_hash_key(number: &str) -> bool {
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) && number.parse::<u128>().is_ok()
}

fn line(record: &EgressRecord, max_bytes: usize, form: BuiltInForm) -> Vec<u8> {
    let (at, mut line) = (rfc_3339(record.at), Vec::new());
    let is_wrapped = form == BuiltInForm::Protobuf && plain_text(&record.value).is_some();
    if !is_wrapped {
        egress_to_json(record, &at, &mut line);
    }
    if is_wrapped || line.len() > max_bytes {
        line.clear();
        egress_to_json_in_base64(record, &at, &mut line);
    }
    line
}

/// With milliseconds always, so that times can be compared as text.
fn rfc_3339(at: Timestamp) -> String {
    let seconds = DateTime::from_secs((at.0 / 1_000).try_into().unwrap_or(i64::MAX));
    // Beyond the year 9999 there is no such form.
    let text = seconds.fmt(Format::DateTime).unwrap_or_else(|_| "9999-12-31T23:59:59Z".to_owned());
    format!("{}.{:03}Z", text.trim_end_matches('Z'), at.0 % 1_000)
}

/// Sends the records; one result per record.
pub(super) async fn emit(
    client: &Client,
    stream: &str,
    records: &[&EgressRecord],
    form: BuiltInForm,
) -> Vec<Result<(), PortError>> {
    let puts: Vec<Put> = records.iter().map(|record| Put::of(record, form)).collect();
    let all: Vec<_> = (0..puts.len()).collect();
    let mut results = Vec::with_capacity(puts.len());
    // One request after the other: order is kept unless a part of a request fails.
    for request in packed_by(&all, MAX_ENTRIES, MAX_BYTES, |index| puts[index].bytes()) {
        let puts: Vec<&Put> = request.iter().map(|index| &puts[*index]).collect();
        let answers = put_records(client, stream, puts.iter().copied()).await;
        // The answer does not say which of them: each is asked about by itself.
        if !is_unclear(&answers) {
            results.extend(answers);
            continue;
        }
        for put in puts {
            results.extend(put_records(client, stream, [put].into_iter()).await);
        }
    }
    results
}

async fn put_records(client: &Client, stream: &str, puts: impl ExactSizeIterator<Item = &Put>) -> Vec<Result<(), PortError>> {
    let count = puts.len();
    let entries = match puts.map(Put::entry).collect::<Result<Vec<_>, _>>() {
        Ok(entries) => entries,
        Err(error) => return repeated(&PortError::new(CALL, PortErrorKind::Refused, error), count),
    };
    let request = client.put_records().set_records(Some(entries));
    let request = if stream.starts_with("arn:") { request.stream_arn(stream) } else { request.stream_name(stream) };
    let output = match request.send().await {
        Ok(output) => output,
        Err(error) => return repeated(&crate::error::egress_error(CALL, error, count), count),
    };
    let mut answers: Vec<_> = output
        .records
        .iter()
        .map(|entry| match (&entry.sequence_number, &entry.error_code) {
            (Some(_), None) => Ok(()),
            // Entries fail by throttling or inside of the service, never by the caller's fault.
            (_, Some(code)) => Err(FailedEntry { id: "", code, text: entry.error_message(), sender_fault: false }.error(CALL)),
            (None, None) => Err(unanswered(CALL)),
        })
        .collect();
    answers.resize_with(count, || Err(unanswered(CALL)));
    answers
}

#[cfg(test)]
mod tests {
    use statefun_core::{
        TypeName, TypedValue,
        limits::{MAX_ID_BYTES, MAX_MESSAGE_BYTES},
    };

    use super::{super::tests::record, *};

    fn named(change: impl FnOnce(&mut KinesisEgressRecord)) -> Put {
        let mut named = KinesisEgressRecord {
            partition_key: "key".to_owned(),
            value_bytes: vec![1, 2],
            stream: "other".to_owned(),
            explicit_hash_key: String::new(),
        };
        change(&mut named);
        let value = TypedValue::present(TypeName::parse(STATEFUN_RECORD).unwrap(), prost::Message::encode_to_vec(&named));
        Put::of(&record(1, "Bob", value), BuiltInForm::Text)
    }

    #[test]
    fn a_record_is_a_line_of_json() {
        let put = Put::of(&record(1, "Bob", TypedValue::present(TypeName::from_static("a/b"), "{\"x\":1}")), BuiltInForm::Text);
        assert_eq!((put.key.as_str(), put.hash_key), ("Bob", None));
        let id = "01".repeat(16);
        let expected = format!(
            r#"{{"id":"{id}","at":"2024-03-01T00:00:00.007Z","egress":"example/out","from":"a/b/Bob","type":"a/b","value":{{"x":1}}}}"#
        );
        assert_eq!(String::from_utf8(put.data).unwrap(), expected);
    }

    #[test]
    fn built_in_types_can_be_read_or_are_statefuns_wrapper() {
        let line = |form| {
            let put = Put::of(&record(1, "Bob", TypedValue::of(&"hi".to_owned()).unwrap()), form);
            String::from_utf8(put.data).unwrap()
        };
        assert!(line(BuiltInForm::Text).ends_with(r#""value":"hi"}"#));
        assert!(line(BuiltInForm::Protobuf).ends_with(r#""base64":"CgJoaQ=="}"#));
    }

    #[test]
    fn statefuns_records_say_it_themselves() {
        let put = named(|_| ());
        let expected = Put { key: "key".to_owned(), hash_key: None, data: vec![1, 2] };
        assert_eq!(put, expected);
        assert_eq!(named(|named| named.explicit_hash_key = "7".to_owned()).hash_key.unwrap(), "7");
    }

    #[test]
    fn what_kinesis_would_refuse_is_replaced() {
        for key in [String::new(), "ä".repeat(257)] {
            assert_eq!(named(|named| named.partition_key = key).key, "Bob");
        }
        for number in ["-1", "+1", "x", "340282366920938463463374607431768211456"] {
            assert_eq!(named(|named| named.explicit_hash_key = number.to_owned()).hash_key, None, "{number}");
        }
        let broken = TypedValue::present(TypeName::parse(STATEFUN_RECORD).unwrap(), vec![0x0a, 9, b'x']);
        let put = Put::of(&record(1, "Bob", broken), BuiltInForm::Text);
        assert!(put.data.starts_with(b"{\"id\":"));
        let long = Put::of(&record(1, &"ä".repeat(257), TypedValue::absent(TypeName::from_static("a/b"))), BuiltInForm::Text);
        assert_eq!(long.key.len(), 64);
    }

    /// A record holds 1 MiB, key included, unless the stream allows more.
    #[test]
    fn the_largest_value_fits() {
        let id = "\u{1}".repeat(MAX_ID_BYTES);
        let name = TypeName::from_static("io.statefun.types/string");
        for value in [
            TypedValue::present(TypeName::from_static("a/b"), vec![0xff; MAX_MESSAGE_BYTES]),
            TypedValue::present(name, TypedValue::of(&"\u{1}".repeat(MAX_MESSAGE_BYTES - 4)).unwrap().value.unwrap()),
        ] {
            let put = Put::of(&record(1, &id, value), BuiltInForm::Text);
            assert!((1_000_000..=MAX_RECORD_BYTES).contains(&put.bytes()), "{}", put.bytes());
        }
    }

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(rfc_3339(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc_3339(Timestamp(951_782_399_999)), "2000-02-28T23:59:59.999Z");
        assert_eq!(rfc_3339(Timestamp(u64::MAX)).len(), 24);
    }
}
