//! Stored forms that backends share: records, outboxes and dead letters as bytes. Field numbers and member names are frozen;
//! forms of released versions must be read for ever.

mod egress;
mod letters;
mod outbox;
mod record;
mod size;

pub use egress::{decode_egress, egress_to_former_json, egress_to_json, egress_to_json_in_base64, encode_egress};
pub use letters::{Letter, MalformedRecord, letter_from_json, letter_to_json, malformed_to_json, refused_to_json};
pub use outbox::{decode_envelope, decode_outbox, encode_envelope, encode_outbox};
pub use record::{Parts, decode_record, decode_value, encode_record, encode_value};
pub(crate) use size::outbox_bytes;
pub use size::record_bytes;

use crate::{
    address::InvalidAddress,
    envelope::MalformedEnvelope,
    id::EnvelopeId,
    type_name::{InvalidTypeName, TypeName},
};

/// Bytes of a state value from which on it has items of its own in DynamoDB. Every write of a record pays for all that is inline (two
/// per commit that sends); a value of its own costs a read per load (a twentieth of a write, per byte) and a transaction when it changes.
pub const BIG_VALUE_BYTES: usize = 8 * 1_024;

/// Something stored that cannot be read. Backends check for damage, so another version or a bug wrote it.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// A newer version wrote it.
    #[error("a row has form {found}, this version reads up to {known}: use the newer version that wrote it")]
    Newer {
        /// The form that was found.
        found: u8,
        /// The newest form that this version knows.
        known: u8,
    },
    /// It has not the form it should have.
    #[error("a row cannot be read ({0}): report this, with the state if you can")]
    Form(&'static str),
    /// An envelope in it is not in its wire form.
    #[error("a stored envelope cannot be read")]
    Envelope(#[from] MalformedEnvelope),
}

impl From<InvalidAddress> for Unreadable {
    fn from(_: InvalidAddress) -> Self {
        Self::Form("an address")
    }
}

impl From<InvalidTypeName> for Unreadable {
    fn from(_: InvalidTypeName) -> Self {
        Self::Form("a type name")
    }
}

impl From<prost::DecodeError> for Unreadable {
    fn from(_: prost::DecodeError) -> Self {
        Self::Form("a message")
    }
}

/// What follows the version byte, if it is the version that this runtime writes.
///
/// # Errors
/// [`Unreadable`] if it is another version.
pub fn versioned(bytes: &[u8], known: u8) -> Result<&[u8], Unreadable> {
    match bytes.split_first() {
        Some((version, rest)) if *version == known => Ok(rest),
        Some((found, _)) if *found > known => Err(Unreadable::Newer { found: *found, known }),
        _ => Err(Unreadable::Form("no version")),
    }
}

/// The id that these bytes are.
///
/// # Errors
/// [`Unreadable`] if they are not 16.
pub fn id(bytes: &[u8]) -> Result<EnvelopeId, Unreadable> {
    bytes.try_into().map(EnvelopeId).map_err(|_| Unreadable::Form("an id"))
}

/// The type name that this text is.
///
/// # Errors
/// [`Unreadable`] if it is none.
pub fn type_name(text: &str) -> Result<TypeName, Unreadable> {
    Ok(TypeName::parse(text)?)
}
