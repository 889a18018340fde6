//! Records, envelopes and effects with something in every member.

use std::collections::BTreeMap;

use statefun_core::{
    Address, Commit, DeadLetter, Effect, EgressRecord, Envelope, EnvelopeId, LastSeq, Ledger, LiveToken, Mark, Note, Outbox,
    Partial, Reason, Record, Segment, Spilled, StoredValue, Taken, Timer, Timestamp, Trial, TypeName, TypedValue,
};

pub(super) const TYPE: TypeName = TypeName::from_static("conformance/value");
pub(super) const EGRESS: TypeName = TypeName::from_static("conformance/out");

pub(super) fn address(id: &str) -> Address {
    let function = TypeName::from_static("conformance/function");
    match Address::new(function, id) {
        Ok(address) => address,
        Err(error) => unreachable!("{error}"),
    }
}

pub(super) fn id(number: u64) -> EnvelopeId {
    EnvelopeId((0xc0ff_ee00_u128 << 64 | u128::from(number)).to_be_bytes())
}

pub(super) fn envelope(to: &Address, number: u64, now: Timestamp) -> Envelope {
    Envelope {
        id: id(number),
        to: to.clone(),
        from: Some(address("sender / with \"quotes\" and ünicode")),
        sent_at: now,
        keyed: number % 2 == 1,
        hops: 3,
        trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        messages: vec![TypedValue::present(TYPE, number.to_string()), TypedValue::present(TYPE, ""), TypedValue::absent(TYPE)],
    }
}

pub(super) fn timer(number: u64, due: Timestamp) -> Timer {
    Timer { due, envelope: Envelope { sent_at: due, ..envelope(&address("timer"), number, due) } }
}

pub(super) fn egress_record(number: u64, now: Timestamp) -> EgressRecord {
    let value = TypedValue::present(TYPE, vec![0, 255, b'\n']);
    EgressRecord { id: id(number), egress: EGRESS, from: address("sender"), at: now, value }
}

pub(super) fn letter(number: u64, now: Timestamp) -> DeadLetter {
    DeadLetter {
        id: id(number),
        at: now,
        reason: Reason::Exhausted,
        error: "it said \"no\"\nthree times".to_owned(),
        attempts: 3,
        envelope: envelope(&address("dead"), number, now),
    }
}

/// A commit on a record in which every member is set, with `effects` in its outbox.
pub(super) fn commit(address: &Address, base: &Record, now: Timestamp, effects: Vec<Effect>) -> Commit {
    let stored = |value| StoredValue { value, written_at: now };
    let state = BTreeMap::from([
        ("absent".into(), stored(TypedValue::absent(TYPE))),
        ("binary".into(), stored(TypedValue::present(TYPE, vec![0, 159, 255]))),
        ("empty".into(), stored(TypedValue::present(TYPE, ""))),
        ("text".into(), stored(TypedValue::present(TYPE, "{\"a\":1}"))),
    ]);
    // Beyond what 64 bits hold.
    let mark = Mark { above: LastSeq { queue: u64::MAX - 1, seq: 1 << 70 }, until: now };
    let outbox = match effects.is_empty() {
        true => Outbox::default(),
        false => Outbox { entries: effects, made_at: now, mark: Some(mark), denied_since: now },
    };
    let record = Record {
        version: base.next_version(),
        lease: None,
        last_seq: Some(LastSeq { queue: u64::MAX, seq: u128::MAX - 7 }),
        ledger: Ledger {
            inline: vec![Taken::new(id(1), now), Taken::new(id(2).keyed(), now)],
            newest: now,
            floor: Timestamp(5),
            next_segment: base.ledger.next_segment + 1,
        },
        invoked_at: now,
        moved_at: now,
        tokens: BTreeMap::from([("token".to_owned(), LiveToken { timer: id(3), due: now })]),
        partial: vec![Partial { id: id(4), done: 2 }],
        trials: vec![
            Trial { id: id(6), failures: 1, note: Note::None },
            Trial { id: id(7), failures: 0, note: Note::Watched },
            Trial { id: id(5), failures: 2, note: Note::Alone },
        ],
        last_at: now,
        outbox,
        state,
        ..base.clone()
    };
    let changed = record.state.keys().cloned().collect();
    let ids = [id(100), id(101), id(103).keyed()].map(|id| spilled(id, now));
    let forgotten = Spilled { id: id(104).keyed(), expires: Timestamp(1_000) };
    let segment = Segment {
        number: base.ledger.next_segment,
        ids: ids.into_iter().chain([forgotten]).collect(),
        newest: now,
        expires: far(now),
        fresh: true,
    };
    Commit { address: address.clone(), expect: base.version, record, changed, segment: Some(segment) }
}

/// An id that left its record, and counts for long.
pub(super) fn spilled(id: EnvelopeId, now: Timestamp) -> Spilled {
    Spilled { id, expires: far(now) }
}

/// Not before the clock of any store: the kit's own stands still, years ago.
fn far(now: Timestamp) -> Timestamp {
    now.plus(std::time::Duration::from_secs(100 * 365 * 86_400))
}
