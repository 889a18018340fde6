//! Table `letters`: what was given up. Key: id (16 bytes). Value: 1, the letter's JSON ([`statefun_core::stored`]).
//! Table `letter-times`: the same by time. Key: when it was given up (8), id (16). Value: empty.

use bytes::Bytes;
use statefun_core::{
    DeadLetter, EnvelopeId, RefusedRecord, Timestamp,
    stored::{Letter, MalformedRecord, letter_from_json, letter_to_json, malformed_to_json, refused_to_json},
};

use super::{Unreadable, id, time, versioned};
use crate::batch::Key;

const VERSION: u8 = 1;

pub(crate) fn key(id: EnvelopeId) -> Key {
    id.0.into()
}

pub(crate) fn time_key(at: Timestamp, id: EnvelopeId) -> Key {
    [&at.0.to_be_bytes()[..], &id.0].concat().into()
}

pub(crate) fn decode_time_key(key: &[u8]) -> Result<(Timestamp, EnvelopeId), Unreadable> {
    let (at, rest) = time(key)?;
    Ok((at, id(rest)?))
}

pub(crate) fn encode_dead(letter: &DeadLetter) -> Bytes {
    [&[VERSION], letter_to_json(letter).as_bytes()].concat().into()
}

pub(crate) fn encode_malformed(record: &MalformedRecord) -> Bytes {
    [&[VERSION], malformed_to_json(record).as_bytes()].concat().into()
}

pub(crate) fn encode_refused(refused: &RefusedRecord) -> Bytes {
    [&[VERSION], refused_to_json(refused).as_bytes()].concat().into()
}

pub(crate) fn decode(value: &[u8]) -> Result<Letter, Unreadable> {
    letter_from_json(versioned(value, VERSION)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use statefun_core::{EgressRecord, TypeName, TypedValue};

    use super::*;
    use crate::tables::samples::{egress, golden, letter};

    #[test]
    fn golden_files() {
        let dead = letter(4);
        assert_eq!(decode(&golden("letter-dead-v1", &encode_dead(&dead))).unwrap(), Letter::Dead(Box::new(dead)));
        let malformed = MalformedRecord::new(Timestamp(3), "orders.jsonl", "17", "no key", "{\"a\":\u{fffd}}".as_bytes(), 100);
        let bytes = golden("letter-malformed-v1", &encode_malformed(&malformed));
        assert_eq!(decode(&bytes).unwrap(), Letter::Malformed(malformed));
        let refused = RefusedRecord::new(egress(5), "answered with 400".to_owned(), 5, Timestamp(9));
        let bytes = golden("letter-refused-v1", &encode_refused(&refused));
        assert_eq!(decode(&bytes).unwrap(), Letter::Refused(Box::new(refused)));
    }

    proptest! {
        #[test]
        fn round_trip(number: u8, raw in proptest::collection::vec(any::<u8>(), 0..60), reason in ".{0,20}") {
            let dead = letter(number);
            prop_assert_eq!(decode(&encode_dead(&dead)).unwrap(), Letter::Dead(Box::new(dead)));
            let malformed = MalformedRecord::new(Timestamp(number.into()), "s", "1", &reason, &raw, 50);
            prop_assert_eq!(decode(&encode_malformed(&malformed)).unwrap(), Letter::Malformed(malformed));
            let value = TypedValue::present(TypeName::from_static("a/b"), raw);
            let refused = RefusedRecord::new(EgressRecord { value, ..egress(number) }, reason, 5, Timestamp(7));
            prop_assert_eq!(decode(&encode_refused(&refused)).unwrap(), Letter::Refused(Box::new(refused)));
        }

        #[test]
        fn never_panics_on_noise(noise in proptest::collection::vec(any::<u8>(), 0..90)) {
            let _ = (decode(&noise), decode_time_key(&noise));
        }
    }
}
