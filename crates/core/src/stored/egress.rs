//! An egress record by itself: as protobuf where it waits, as JSON where it goes to people and programs.

use bytes::Bytes;
use prost::Message;
use serde::Serialize;

use super::{Unreadable, id, record::of_id, type_name};
use crate::{
    address::Address, effects::EgressRecord, envelope::WireValue, shown::ShownValue, time::Timestamp, typed_value::TypedValue,
};

#[derive(Clone, PartialEq, Message)]
struct EgressForm {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(string, tag = "2")]
    egress: String,
    #[prost(string, tag = "3")]
    from: String,
    #[prost(uint64, tag = "4")]
    at: u64,
    #[prost(string, tag = "5")]
    type_name: String,
    #[prost(bytes = "bytes", optional, tag = "6")]
    value: Option<Bytes>,
}

#[derive(Serialize)]
struct Line<'a, V> {
    id: String,
    at: &'a str,
    egress: &'a str,
    from: String,
    #[serde(flatten)]
    value: V,
}

/// Appends the record as one JSON object on a line of its own, without the line's end: `id`, `at`, `egress`, `from`, `type`, and
/// `value` or `base64`, as [`ShownValue`] says. `at` is its time as text.
pub fn egress_to_json(record: &EgressRecord, at: &str, into: &mut Vec<u8>) {
    line(record, at, ShownValue::of(&record.value), into);
}

/// As [`egress_to_json`], with the value in base64 whatever it is: so a line's length has a bound.
pub fn egress_to_json_in_base64(record: &EgressRecord, at: &str, into: &mut Vec<u8>) {
    line(record, at, ShownValue::in_base64(&record.value), into);
}

/// The line that older versions wrote, with `text` or `base64`: files may end in such lines that are not noted as written.
pub fn egress_to_former_json(record: &EgressRecord, at: &str, into: &mut Vec<u8>) {
    line(record, at, WireValue::from(&record.value), into);
}

fn line(record: &EgressRecord, at: &str, value: impl Serialize, into: &mut Vec<u8>) {
    let EgressRecord { id, egress, from, .. } = record;
    let line = Line { id: id.to_string(), at, egress: egress.as_str(), from: from.to_string(), value };
    // Strings and JSON, into memory: this cannot fail.
    let _ = serde_json::to_writer(into, &line);
}

/// Appends an egress record.
pub fn encode_egress(record: &EgressRecord, into: &mut Vec<u8>) {
    // A vector grows as needed, which is the only way in which this can fail.
    let _ = of_egress(record).encode(into);
}

/// Reads what [`encode_egress`] wrote.
///
/// # Errors
/// [`Unreadable`] if it is not in that form.
pub fn decode_egress(bytes: Bytes) -> Result<EgressRecord, Unreadable> {
    to_egress(EgressForm::decode(bytes)?)
}

fn of_egress(record: &EgressRecord) -> EgressForm {
    EgressForm {
        id: of_id(record.id),
        egress: record.egress.to_string(),
        from: record.from.to_string(),
        at: record.at.0,
        type_name: record.value.type_name.to_string(),
        value: record.value.value.clone(),
    }
}

fn to_egress(form: EgressForm) -> Result<EgressRecord, Unreadable> {
    Ok(EgressRecord {
        id: id(&form.id)?,
        egress: type_name(&form.egress)?,
        from: Address::parse(&form.from)?,
        at: Timestamp(form.at),
        value: TypedValue { type_name: type_name(&form.type_name)?, value: form.value },
    })
}
