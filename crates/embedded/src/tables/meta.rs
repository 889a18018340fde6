//! Table `meta`: what holds for the whole folder.
//!
//! | key | value |
//! |---|---|
//! | `format` | 1, format of the folder (4 bytes) |
//! | `life` | 1, starts (8), starts after an unclean end (8), 1 if the last end was clean (1) |
//! | `counts` | 1, next sequence number (8), waiting envelopes (8), their bytes (8), waiting egress records (8), their bytes (8), dead letters (8) |
//!
//! `counts` is written with every batch, so it is exact for the prefix of operations that is on disk.

use bytes::Bytes;

use super::{Unreadable, number, versioned};

pub(crate) const FORMAT_KEY: &[u8] = b"format";
pub(crate) const LIFE: &[u8] = b"life";
pub(crate) const COUNTS: &[u8] = b"counts";

/// The format of the folder that this version writes: a new one is needed when an older version would misread it.
pub(crate) const FORMAT: u32 = 2;

const VERSION: u8 = 1;

/// How often the store was opened, and how it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Life {
    /// Starts, this one included.
    pub(crate) starts: u64,
    /// Starts after an end that was not clean.
    pub(crate) crashes: u64,
    /// Whether the last end was clean.
    pub(crate) clean: bool,
}

/// What waits, kept up to date with every change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Sequence numbers are given to all lanes from one counter.
    pub(crate) next_seq: u64,
    pub(crate) functions: u64,
    pub(crate) function_bytes: u64,
    pub(crate) egress: u64,
    pub(crate) egress_bytes: u64,
    pub(crate) letters: u64,
}

pub(crate) fn encode_format(format: u32) -> Bytes {
    [&[VERSION][..], &format.to_be_bytes()].concat().into()
}

pub(crate) fn decode_format(bytes: &[u8]) -> Result<u32, Unreadable> {
    let bytes = versioned(bytes, VERSION)?.try_into().map_err(|_| Unreadable::Form("the format"))?;
    Ok(u32::from_be_bytes(bytes))
}

impl Life {
    /// The life that follows.
    pub(crate) fn next(self) -> Self {
        Self { starts: self.starts + 1, crashes: self.crashes + u64::from(!self.clean), clean: false }
    }

    pub(crate) fn encode(self) -> Bytes {
        [&[VERSION][..], &self.starts.to_be_bytes(), &self.crashes.to_be_bytes(), &[u8::from(self.clean)]].concat().into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (starts, rest) = number(versioned(bytes, VERSION)?)?;
        let (crashes, rest) = number(rest)?;
        Ok(Self { starts, crashes, clean: rest == [1] })
    }
}

impl Counts {
    pub(crate) fn encode(self) -> Bytes {
        let Self { next_seq, functions, function_bytes, egress, egress_bytes, letters } = self;
        let mut bytes = vec![VERSION];
        for number in [next_seq, functions, function_bytes, egress, egress_bytes, letters] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut rest = versioned(bytes, VERSION)?;
        let mut next = || {
            let (value, after) = number(rest)?;
            rest = after;
            Ok::<_, Unreadable>(value)
        };
        Ok(Self {
            next_seq: next()?,
            functions: next()?,
            function_bytes: next()?,
            egress: next()?,
            egress_bytes: next()?,
            letters: next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tables::samples::golden;

    #[test]
    fn golden_files() {
        let life = Life { starts: 3, crashes: 1, clean: true };
        let counts = Counts { next_seq: 1, functions: 2, function_bytes: 3, egress: 4, egress_bytes: 5, letters: 6 };
        assert_eq!(Life::decode(&golden("meta-life-v1", &life.encode())).unwrap(), life);
        assert_eq!(Counts::decode(&golden("meta-counts-v1", &counts.encode())).unwrap(), counts);
        assert_eq!(decode_format(&golden("meta-format-v1", &encode_format(1))).unwrap(), 1);
    }

    proptest! {
        #[test]
        fn round_trip(starts: u64, crashes: u64, clean: bool, next_seq: u64, functions: u64, letters: u64) {
            let life = Life { starts, crashes, clean };
            prop_assert_eq!(Life::decode(&life.encode()).unwrap(), life);
            let counts = Counts { next_seq, functions, function_bytes: starts, egress: crashes, egress_bytes: 0, letters };
            prop_assert_eq!(Counts::decode(&counts.encode()).unwrap(), counts);
        }

        #[test]
        fn never_panics_on_noise(noise in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (Life::decode(&noise), Counts::decode(&noise), decode_format(&noise));
        }
    }
}
