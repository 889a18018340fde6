//! Dead letters as JSON, for people who look. The local host's `dead-letters list --json` has the same keys.

use serde::Serialize;
use serde_json::{Value, json};
use statefun_aws::dead_letters::{Deleted, Entry, Listed, Replayed};
use statefun_core::{
    DeadLetter, Reason, RefusedRecord, ShownEnvelope, ShownValue,
    stored::{Letter, MalformedRecord},
};

/// What to do about letters that a replay left because their messages may have been applied.
const ASK: &str = "letters of messages that may have been applied were left: look at their instances by the command `state`. \
                   Delete the letters of those that were applied, and replay the others by their ids with `\"may_be_applied\":true`";

/// What lies in the queue.
#[derive(Debug, Serialize)]
pub(super) struct ListedView<'a> {
    letters: Vec<LetterView<'a>>,
    more: bool,
}

#[derive(Debug, Serialize)]
struct LetterView<'a> {
    #[serde(flatten)]
    about: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope: Option<ShownEnvelope<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<ShownValue<'a>>,
}

/// What lies there. `payloads`: with envelopes and their messages, and with records as they were read.
pub(super) fn listed(listed: &Listed, payloads: bool) -> ListedView<'_> {
    ListedView { letters: listed.entries.iter().map(|entry| letter(entry, payloads)).collect(), more: listed.more }
}

pub(super) fn replayed(replayed: &Replayed) -> Value {
    let Replayed { sent, left, malformed, no_queue, may_be_applied, refused, missing, more } = replayed;
    let mut answer = json!({
        "sent": sent, "left": left, "malformed": malformed, "no_queue": no_queue, "may_be_applied": may_be_applied,
        "refused": refused,
        "missing": missing, "more": more,
    });
    if *may_be_applied > 0 {
        answer["hint"] = ASK.into();
    }
    answer
}

pub(super) fn deleted(deleted: &Deleted) -> Value {
    let Deleted { deleted, missing, more } = deleted;
    json!({"deleted": deleted, "missing": missing, "more": more})
}

fn letter(entry: &Entry, payloads: bool) -> LetterView<'_> {
    let (mut envelope, mut raw, mut record) = (None, None, None);
    let (kind, mut about) = match &entry.letter {
        Ok(Letter::Dead(letter)) => {
            envelope = payloads.then(|| ShownEnvelope::from(&letter.envelope));
            ("message", message(letter))
        }
        Ok(Letter::Malformed(letter)) => {
            raw = payloads.then_some(&*letter.raw);
            ("malformed", malformed(letter))
        }
        Ok(Letter::Refused(letter)) => {
            record = payloads.then(|| ShownValue::of(&letter.record.value));
            ("record", refused(letter))
        }
        Err(error) => ("unreadable", json!({ "error": error })),
    };
    about["id"] = entry.id.clone().into();
    about["kind"] = kind.into();
    LetterView { about, envelope, raw, record }
}

fn refused(letter: &RefusedRecord) -> Value {
    let RefusedRecord { reason, at, error, attempts, record } = letter;
    json!({
        "at_ms": at.0, "reason": reason.name(), "error": error, "attempts": attempts, "egress": record.egress.as_str(),
        "from": record.from.to_string(),
    })
}

fn message(letter: &DeadLetter) -> Value {
    let DeadLetter { at, reason, error, attempts, envelope, .. } = letter;
    let mut view = json!({
        "at_ms": at.0, "reason": reason.to_string(), "error": error, "attempts": attempts, "to": envelope.to.to_string(),
    });
    if reason.may_be_applied() {
        view["may_be_applied"] = true.into();
    }
    view
}

fn malformed(record: &MalformedRecord) -> Value {
    let MalformedRecord { at, source, position, reason, .. } = record;
    let kind = Reason::Malformed.to_string();
    json!({"at_ms": at.0, "reason": kind, "error": reason, "attempts": 0, "source": source, "position": position})
}

#[cfg(test)]
mod tests {
    use statefun_core::{Address, EgressRecord, Envelope, EnvelopeId, Timestamp, TypeName, TypedValue};

    use super::*;

    fn dead(reason: Reason) -> DeadLetter {
        let message = TypedValue::of(&"secret".to_owned()).unwrap();
        let envelope = Envelope {
            id: EnvelopeId([1; 16]),
            to: Address::parse("a/b/c").unwrap(),
            from: None,
            sent_at: Timestamp(1),
            keyed: false,
            hops: 0,
            trace: None,
            messages: vec![message],
        };
        let (id, at) = (EnvelopeId([2; 16]), Timestamp(8));
        DeadLetter { id, at, reason, error: "it failed".into(), attempts: 5, envelope }
    }

    fn listed(listed: &Listed, payloads: bool) -> Value {
        serde_json::to_value(super::listed(listed, payloads)).unwrap()
    }

    fn record_of_bob() -> EgressRecord {
        let (id, egress, from) = (EnvelopeId([3; 16]), TypeName::from_static("a/out"), Address::parse("a/b/Bob").unwrap());
        EgressRecord { id, egress, from, at: Timestamp(4), value: TypedValue::of(&7_i64).unwrap() }
    }

    fn entry(id: &str, letter: Result<Letter, String>) -> Entry {
        Entry { id: id.to_owned(), letter }
    }

    #[test]
    fn a_letter_whose_message_may_have_been_applied_says_so() {
        for reason in Reason::ALL {
            let entries = vec![entry("x", Ok(Letter::Dead(Box::new(dead(reason)))))];
            let said = listed(&Listed { entries, more: false }, false)["letters"][0].get("may_be_applied").cloned();
            assert_eq!(said, (reason == Reason::TooOld).then_some(Value::Bool(true)), "{reason}");
        }
    }

    #[test]
    fn a_replay_that_left_some_says_what_to_do() {
        let answer = replayed(&Replayed { may_be_applied: 2, ..Replayed::default() });
        assert_eq!(answer["may_be_applied"], 2);
        assert!(answer["hint"].as_str().unwrap().contains("`\"may_be_applied\":true`"));
        assert!(replayed(&Replayed { sent: 2, ..Replayed::default() }).get("hint").is_none());
    }

    #[test]
    fn every_kind_of_letter() {
        let record = MalformedRecord::new(Timestamp(7), "orders", "17", "no key", b"secret", 100);
        let dead = dead(Reason::Exhausted);
        assert_eq!(dead.envelope.to.function(), &TypeName::from_static("a/b"));
        let entries = vec![
            entry("x", Ok(Letter::Malformed(record))),
            entry("y", Ok(Letter::Dead(Box::new(dead)))),
            entry("z", Err("it is not JSON".to_owned())),
            entry(
                "r",
                Ok(Letter::Refused(Box::new(RefusedRecord::new(
                    record_of_bob(),
                    "InvalidMessageContents".to_owned(),
                    5,
                    Timestamp(9),
                )))),
            ),
        ];
        let all = Listed { entries, more: true };
        let without = listed(&all, false);
        let expected = json!({"more": true, "letters": [
            {"id": "x", "kind": "malformed", "at_ms": 7, "reason": "malformed", "error": "no key", "attempts": 0, "source": "orders",
             "position": "17"},
            {"id": "y", "kind": "message", "at_ms": 8, "reason": "exhausted", "error": "it failed", "attempts": 5, "to": "a/b/c"},
            {"id": "z", "kind": "unreadable", "error": "it is not JSON"},
            {"id": "r", "kind": "record", "at_ms": 9, "reason": "refused", "error": "InvalidMessageContents", "attempts": 5,
             "egress": "a/out", "from": "a/b/Bob"},
        ]});
        assert_eq!(without, expected);
        let with = listed(&all, true);
        assert_eq!(with["letters"][0]["raw"], "secret");
        assert_eq!(with["letters"][3]["record"], json!({"type": "io.statefun.types/long", "value": 7}));
        assert_eq!(with["letters"][1]["envelope"]["to"], "a/b/c");
        assert_eq!(with["letters"][1]["envelope"]["messages"][0], json!({"type": "io.statefun.types/string", "value": "secret"}));
    }
}
