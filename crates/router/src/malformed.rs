//! Records that cannot become messages.

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use statefun_core::{Timestamp, limits::MAX_REASON_BYTES, stored::MalformedRecord};
use statefun_engine::ports::PortError;

use crate::{IngressRecord, RouteError};

/// Bytes of a malformed record that are kept. Most are kept whole; as base64 they take a twelfth of a message of SQS.
pub const MAX_RAW_BYTES: usize = 64 * 1_024;

/// Where malformed records go.
#[async_trait]
pub trait MalformedSink: Send + Sync {
    /// Keeps the record. An id that is there already changes nothing. Durable when it returns.
    async fn park(&self, record: &MalformedRecord) -> Result<(), PortError>;
}

/// The dead letter of a record that no messages can be made of: its text or, if it is none, `base64:` and its base64, of its
/// first [`MAX_RAW_BYTES`].
pub(crate) fn malformed(record: &IngressRecord, error: &RouteError, at: Timestamp) -> MalformedRecord {
    let kept = &record.body[..record.body.len().min(MAX_RAW_BYTES)];
    let raw = match std::str::from_utf8(kept) {
        Ok(text) => text.to_owned(),
        // A character that the cut goes through is no fault of the record.
        Err(error) if error.error_len().is_none() && kept.len() < record.body.len() => {
            String::from_utf8_lossy(&kept[..error.valid_up_to()]).into_owned()
        }
        Err(_) => format!("base64:{}", BASE64.encode(kept)),
    };
    let reason = &error.reason()[..error.reason().floor_char_boundary(MAX_REASON_BYTES)];
    MalformedRecord { raw, ..MalformedRecord::new(at, &record.source, &record.position, reason, b"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(raw: impl Into<bytes::Bytes>, reason: &str) -> MalformedRecord {
        let record = IngressRecord::new("shop/orders", "orders", "shard-0:17", Timestamp(1), raw);
        malformed(&record, &RouteError::new(reason), Timestamp(3))
    }

    #[test]
    fn kept_as_text_or_as_base64() {
        let text = of("{\"ä\":1}", "no key");
        assert_eq!(text, MalformedRecord::new(Timestamp(3), "orders", "shard-0:17", "no key", "{\"ä\":1}".as_bytes()));
        let binary = of(vec![b'a', 0xff], "no key");
        assert_eq!((binary.raw.as_str(), binary.id), ("base64:Yf8=", text.id));
        assert_eq!(of(vec![b'a', 0xc3], "").raw, "base64:YcM=", "half a character that no cut left");
    }

    #[test]
    fn long_ones_are_cut_where_a_character_ends() {
        assert_eq!(of("ä".repeat(MAX_RAW_BYTES), "").raw, "ä".repeat(MAX_RAW_BYTES / 2));
        assert_eq!(of(format!("x{}", "ä".repeat(MAX_RAW_BYTES)), "").raw.len(), MAX_RAW_BYTES - 1);
        assert!(of("", &"ä".repeat(MAX_REASON_BYTES)).reason.len() <= MAX_REASON_BYTES);
    }
}
