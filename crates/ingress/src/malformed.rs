//! Records that cannot become messages.

use async_trait::async_trait;
use statefun_core::{Timestamp, limits::MAX_RAW_BYTES, stored::MalformedRecord};
use statefun_engine::ports::PortError;

use crate::{IngressRecord, RouteError};

/// Where malformed records go.
#[async_trait]
pub trait MalformedSink: Send + Sync {
    /// Keeps the record. An id that is there already changes nothing. Durable when it returns.
    async fn park(&self, record: &MalformedRecord) -> Result<(), PortError>;
}

/// The dead letter of a record that no messages can be made of.
pub(crate) fn malformed(record: &IngressRecord, error: &RouteError, at: Timestamp) -> MalformedRecord {
    MalformedRecord::new(at, &record.source, &record.position, error.reason(), &record.body, MAX_RAW_BYTES)
}

#[cfg(test)]
mod tests {
    use statefun_core::{limits::MAX_ENVELOPE_BYTES, stored::malformed_to_json};

    use super::*;

    /// What stands in the record, and in the reason, makes the letter no longer than a message of SQS can be.
    #[test]
    fn every_letter_fits_a_message() {
        // As long as names and places get: a stream's name, a sequence number and the place of one of many user records.
        let source = "s".repeat(128);
        let position = format!("shardId-000000000006:{}/{}", "4".repeat(56), 1_000_000);
        let texts = ["x", "\"", "\u{1}", "ä", "\u{1f600}"].map(|text| text.repeat(MAX_ENVELOPE_BYTES).into_bytes());
        for body in texts.into_iter().chain([vec![0xff; 10 * MAX_ENVELOPE_BYTES]]) {
            let record = IngressRecord::new("shop/orders", source.as_str(), position.as_str(), Timestamp(1), body);
            let letter = malformed(&record, &RouteError::new("\u{1}".repeat(10_000)), Timestamp(u64::MAX));
            let bytes = malformed_to_json(&letter).len();
            assert!(bytes <= MAX_ENVELOPE_BYTES && bytes > MAX_RAW_BYTES, "{bytes}");
        }
    }

    #[test]
    fn a_record_of_an_ordinary_message_is_kept_whole() {
        let body = format!("{{\"text\":\"{}\"}}", "x".repeat(900_000));
        let record = IngressRecord::new("shop/orders", "orders", "m", Timestamp(1), body.clone());
        let letter = malformed(&record, &RouteError::new("no key"), Timestamp(3));
        assert_eq!((letter.raw, letter.reason.as_str()), (body, "no key"));
    }
}
