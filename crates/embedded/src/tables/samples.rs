//! Values for the tests of the tables, and the golden files.

use std::{path::Path, sync::Arc};

use statefun_core::*;

/// The bytes of `golden/<name>.hex`, which are what was released and must be read for ever; what is written now has to be the
/// same. Never change a file: a new form needs a new version and a new file. A missing one is made with `GOLDEN=write`.
pub(crate) fn golden(name: &str, now: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}.hex"));
    let hex: String = now.iter().map(|byte| format!("{byte:02x}")).collect();
    if !path.exists() && std::env::var_os("GOLDEN").is_some() {
        std::fs::write(&path, hex.as_bytes().chunks(120).map(|line| String::from_utf8_lossy(line) + "\n").collect::<String>())
            .unwrap();
    }
    assert_eq!(hex, golden_hex(name), "{name} is written in another form now: give it a new version");
    read_golden(name)
}

/// What an older version wrote.
pub(crate) fn read_golden(name: &str) -> Vec<u8> {
    let text = golden_hex(name);
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap()).collect()
}

fn golden_hex(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}.hex"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).split_whitespace().collect()
}

pub(crate) fn envelope(number: u8) -> Envelope {
    Envelope {
        id: EnvelopeId([number; 16]),
        to: Address::parse(&format!("example/greeter/{number}")).unwrap(),
        from: (number.is_multiple_of(2)).then(|| Address::parse("example/user/\u{fc}/1").unwrap()),
        sent_at: Timestamp(1_700_000_000_000 + u64::from(number)),
        keyed: number.is_multiple_of(3),
        hops: number.into(),
        trace: (number % 2 == 1).then(|| "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        messages: vec![
            typed(b"{\"name\":\"Bob\"}"),
            typed(b"\xff\x00"),
            TypedValue::absent(TypeName::from_static("example/none")),
        ],
    }
}

pub(crate) fn typed(bytes: &'static [u8]) -> TypedValue {
    TypedValue::present(TypeName::from_static("example/greet"), bytes)
}

pub(crate) fn egress(number: u8) -> EgressRecord {
    EgressRecord {
        id: EnvelopeId([number; 16]),
        egress: TypeName::from_static("example/greetings"),
        from: Address::parse("example/greeter/bob").unwrap(),
        at: Timestamp(number.into()),
        value: if number.is_multiple_of(4) { TypedValue::absent(TypeName::from_static("example/none")) } else { typed(b"hello") },
    }
}

pub(crate) fn letter(number: u8) -> DeadLetter {
    DeadLetter {
        id: EnvelopeId([number; 16]),
        at: Timestamp(number.into()),
        reason: Reason::Exhausted,
        error: "no \"luck\"".into(),
        attempts: 5,
        envelope: envelope(number),
    }
}

/// A record with `size` of everything.
pub(crate) fn record(size: u8) -> Record {
    let stored = |number: u8| StoredValue {
        value: if number % 3 == 1 { TypedValue::absent(TypeName::from_static("a/b")) } else { typed(b"") },
        written_at: Timestamp(number.into()),
    };
    let token = |number: u8| LiveToken { timer: EnvelopeId([number; 16]), due: Timestamp(number.into()) };
    let effect = |number: u8| match number % 5 {
        0 => Effect::Send(envelope(number)),
        1 => Effect::Schedule(Timer { due: Timestamp(number.into()), envelope: envelope(number) }),
        2 => Effect::Cancel { timer: EnvelopeId([number; 16]), due: Timestamp(number.into()) },
        3 => Effect::Egress(egress(number)),
        _ => Effect::DeadLetter(Box::new(letter(number))),
    };
    let taken = |number: u8| match number % 2 {
        0 => Taken::new(EnvelopeId([number; 16]), Timestamp(0)),
        _ => Taken::new(EnvelopeId([number; 16]).keyed(), Timestamp(1_700_000_000_000 + u64::from(number) * 1_000)),
    };
    let note = |number: u8| if number == 1 { Note::None } else { Note::Alone };
    Record {
        born: Timestamp(1_700_000_000_000),
        lease: (size > 0).then_some(Lease { owner: Owner(7), until: Timestamp(u64::from(size) * 1_000) }),
        version: u64::from(size),
        last_seq: (size > 0).then(|| LastSeq { queue: u64::MAX - 1, seq: u128::MAX / u128::from(size) }),
        moved_at: Timestamp(8),
        ledger: Ledger {
            inline: (0..size).map(taken).collect(),
            newest: Timestamp(u64::from(size) << 40),
            floor: Timestamp(size.into()),
            next_segment: size.into(),
        },
        state: (0..size).map(|number| (Arc::from(format!("value-{number}")), stored(number))).collect(),
        invoked_at: Timestamp(9),
        tokens: (0..size).map(|number| (format!("token-{number}"), token(number))).collect(),
        partial: (0..size).map(|number| Partial { id: EnvelopeId([number; 16]), done: number.into() }).collect(),
        trials: (1..size.min(3)).map(|number| Trial { id: EnvelopeId([number; 16]), failures: 3, note: note(number) }).collect(),
        last_at: Timestamp(10),
        outbox: Outbox { denied_since: Timestamp(11), ..(0..size).map(effect).collect::<Vec<_>>().into() },
    }
}
