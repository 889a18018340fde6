//! Deterministic 128-bit ids: the same cause always has the same id, on whichever machine it is worked out.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{address::Address, time::Timestamp, type_name::TypeName};

/// The identity of an envelope, timer, egress record or dead letter: 127 bits of a SHA-256 over its cause, and a mark.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvelopeId(pub [u8; 16]);

/// Set in the ids of what a producer names by a key of its own, and in no others.
const KEYED: u8 = 0x80;

/// What a derived id stands for. The tag is part of what is hashed, and persisted ids depend on it: never change a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind {
    /// An envelope sent by a commit.
    Sent,
    /// A delayed message.
    Timer,
    /// An egress record.
    Egress,
    /// A parked message.
    DeadLetter,
}

impl IdKind {
    const fn tag(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Timer => "timer",
            Self::Egress => "egress",
            Self::DeadLetter => "dead",
        }
    }
}

impl EnvelopeId {
    /// The id of the `index`-th effect of one kind in the commit that makes `sender`'s record version `version`.
    ///
    /// `born` is when the record was first made: a record that was deleted by hand and made anew counts its versions anew,
    /// and must not repeat ids that its receivers remember.
    #[must_use]
    pub fn of_commit(kind: IdKind, sender: &Address, born: Timestamp, version: u64, index: usize) -> Self {
        Self::hash(
            kind.tag(),
            &[
                sender.function().as_str().as_bytes(),
                sender.id().as_bytes(),
                &born.0.to_be_bytes(),
                &version.to_be_bytes(),
                &(index as u64).to_be_bytes(),
            ],
        )
    }

    /// The id of what an ingress record causes at one target: the ingress's name, the record's own identity there, the target.
    #[must_use]
    pub fn of_ingress(ingress: &str, record: &[u8], target: &TypeName) -> Self {
        Self::hash("ingress", &[ingress.as_bytes(), record, target.as_str().as_bytes()])
    }

    /// The id of a parked message when it is sent again: new, so that the ledger does not take it for the failed one. It is
    /// [`keyed`](Self::keyed), since nobody knows when it was first sent.
    #[must_use]
    pub fn of_replay(dead_letter: Self, replay: u64) -> Self {
        Self::hash("replay", &[&dead_letter.0, &replay.to_be_bytes()]).keyed()
    }

    /// The id of what is taken in under a producer's key that the store itself remembers until `expires`. The key may be used again after
    /// that, and must not look like a copy to a ledger that remembers when it was handled, which may be later.
    #[must_use]
    pub fn of_accepted(key: Self, expires: Timestamp) -> Self {
        Self::hash("accepted", &[&key.0, &expires.0.to_be_bytes()])
    }

    /// The id of a nudge to an address at a moment: new each time, or the queue would take it for a copy.
    #[must_use]
    pub fn of_nudge(to: &Address, at: Timestamp) -> Self {
        Self::hash("nudge", &[to.function().as_str().as_bytes(), to.id().as_bytes(), &at.0.to_be_bytes()])
    }

    /// This id, marked as that of an envelope that is [`keyed`](crate::Envelope::keyed): the ledger is asked for every one of these, so
    /// a store may keep them where one is found without reading all. A hint: what is marked wrongly is found all the same.
    #[must_use]
    pub const fn keyed(mut self) -> Self {
        self.0[0] |= KEYED;
        self
    }

    /// Whether it is so marked.
    #[must_use]
    pub const fn is_keyed(self) -> bool {
        self.0[0] & KEYED != 0
    }

    fn hash(tag: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(tag);
        for part in parts {
            // Lengths keep ("ab", "c") and ("a", "bc") apart.
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize()[..16]);
        id[0] &= !KEYED;
        Self(id)
    }

    /// Reads the 32 hexadecimal digits that [`fmt::Display`] writes.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        (text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten()
            .map(|number| Self(number.to_be_bytes()))
    }
}

impl fmt::Display for EnvelopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for EnvelopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids are persisted: this test fails when their derivation changes.
    #[test]
    fn derivations_are_frozen() {
        let address = Address::parse("a/b/c").unwrap();
        let sent = EnvelopeId::of_commit(IdKind::Sent, &address, Timestamp(1), 2, 3);
        let ingress = EnvelopeId::of_ingress("orders", b"shard-1:42", address.function());
        assert_eq!(sent.to_string(), "375399aabf4979ee0f7843218553f989");
        assert_eq!(ingress.to_string(), "70abd86d8d591c2b59ad1d7d80bec561");
        assert_eq!(EnvelopeId::of_accepted(sent, Timestamp(1)).to_string(), "6b0285ce614fc7a5eeba135cb28dd043");
        assert_eq!(EnvelopeId::of_replay(sent, 0).to_string(), "a05f9317d390d3cd00349e44f699ecf6");
    }

    #[test]
    fn hex_round_trip() {
        let id = EnvelopeId::of_ingress("", b"", &TypeName::from_static("a/b"));
        assert_eq!(EnvelopeId::from_hex(&id.to_string()), Some(id));
        assert_eq!(EnvelopeId::from_hex("+0000000000000000000000000000001"), None);
        assert_eq!(EnvelopeId::from_hex("12"), None);
    }

    #[test]
    fn kinds_and_parts_are_kept_apart() {
        let address = Address::parse("a/b/c").unwrap();
        let of = |kind, version, index| EnvelopeId::of_commit(kind, &address, Timestamp(1), version, index);
        let all = [of(IdKind::Sent, 1, 0), of(IdKind::Timer, 1, 0), of(IdKind::Sent, 0, 1), of(IdKind::Sent, 1, 1)];
        for (index, id) in all.iter().enumerate() {
            assert!(!all[..index].contains(id));
        }
    }
}
