//! From messages to envelopes: one per address, with ids that a second delivery of the record has again.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use statefun_core::{
    Address, Envelope, EnvelopeId,
    limits::{MAX_ENVELOPE_BYTES, MAX_ENVELOPE_MESSAGES, MAX_MESSAGE_BYTES},
    wire_bytes,
};

use crate::{IngressRecord, RouteError, Routed, Router};

/// Bytes of messages in one envelope. The rest is for what is around them.
pub(crate) const MAX_CONTENT_BYTES: usize = MAX_ENVELOPE_BYTES - (16 << 10);

/// The envelopes that a record becomes: one per address, in the order of their first messages, each within the limits.
///
/// # Errors
/// Why the record belongs to the dead letters: what the router says, a panic of it, or a limit.
pub fn envelopes(router: &dyn Router, record: &IngressRecord) -> Result<Vec<Envelope>, RouteError> {
    let routed = catch_unwind(AssertUnwindSafe(|| Ok((router.route(record)?, router.deduplication_key(record)?))));
    let (messages, key) = routed.unwrap_or_else(|_| Err(RouteError::new("the router panicked")))?;
    let mut envelopes: Vec<Envelope> = Vec::new();
    let mut places: HashMap<Address, usize> = HashMap::new();
    for Routed { to, value } in messages {
        if value.len() > MAX_MESSAGE_BYTES {
            let reason =
                format!("a message for `{}` has {} bytes, at most {MAX_MESSAGE_BYTES} are possible", to.function(), value.len());
            return Err(RouteError::new(reason));
        }
        if let Some(envelope) = places.get(&to).and_then(|place| envelopes.get_mut(*place)) {
            envelope.messages.push(value);
            continue;
        }
        places.insert(to.clone(), envelopes.len());
        envelopes.push(Envelope {
            id: id_of(record, key.as_deref(), &to),
            to,
            from: None,
            sent_at: record.arrived,
            keyed: key.is_some(),
            hops: 0,
            trace: record.trace.clone(),
            messages: vec![value],
        });
    }
    for envelope in &envelopes {
        if envelope.messages.len() > MAX_ENVELOPE_MESSAGES || content_bytes(envelope) > MAX_CONTENT_BYTES {
            let limit = format!("at most {MAX_ENVELOPE_MESSAGES} messages and {MAX_CONTENT_BYTES} bytes for one address");
            return Err(RouteError::new(format!("the record becomes too much for `{}`: {limit}", envelope.to.function())));
        }
    }
    Ok(envelopes)
}

/// Bytes that the envelope's messages take in its wire form, at most.
pub(crate) fn content_bytes(envelope: &Envelope) -> usize {
    envelope.messages.iter().map(wire_bytes).sum()
}

fn id_of(record: &IngressRecord, key: Option<&str>, to: &Address) -> EnvelopeId {
    let id = EnvelopeId::of_ingress(&record.ingress, &identity(record, key, to.id()), to.function());
    if key.is_some() { id.keyed() } else { id }
}

/// What is hashed for an id, besides the ingress's name and the function. Persisted ids depend on it: never change it.
///
/// Keys and positions are of one source; the function's instance belongs to it, since a record may go to several.
fn identity(record: &IngressRecord, key: Option<&str>, id: &str) -> Vec<u8> {
    let (kind, name) = match key {
        Some(key) => (b"key".as_slice(), key),
        None => (b"position".as_slice(), record.position.as_str()),
    };
    let mut identity = Vec::with_capacity(64 + record.source.len() + name.len() + id.len());
    for part in [kind, record.source.as_bytes(), name.as_bytes(), id.as_bytes()] {
        identity.extend((part.len() as u64).to_be_bytes());
        identity.extend(part);
    }
    identity
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use statefun_core::{Timestamp, TypeName, TypedValue};

    use super::*;

    fn record(position: &str) -> IngressRecord {
        IngressRecord::new("example/names", "names", position, Timestamp(7), "Bob")
    }

    fn to(address: &str, value: &str) -> Routed {
        Routed { to: Address::parse(address).unwrap(), value: TypedValue::of(&value.to_owned()).unwrap() }
    }

    fn routed(messages: Vec<Routed>) -> impl Router {
        move |_: &IngressRecord| Ok(messages.clone())
    }

    struct Keyed(&'static str);

    impl Router for Keyed {
        fn route(&self, record: &IngressRecord) -> Result<Vec<Routed>, RouteError> {
            Ok(vec![to("a/b/1", record.text()?)])
        }
        fn deduplication_key(&self, _: &IngressRecord) -> Result<Option<String>, RouteError> {
            Ok(Some(self.0.to_owned()))
        }
    }

    #[test]
    fn one_envelope_per_address_in_order() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let record = IngressRecord { trace: Some(trace.into()), ..record("1") };
        let router = routed(vec![to("a/b/1", "x"), to("a/b/2", "y"), to("a/b/1", "z")]);
        let made = envelopes(&router, &record).unwrap();
        let ids: Vec<_> = made.iter().map(|envelope| (envelope.to.id(), envelope.messages.len())).collect();
        assert_eq!(ids, [("1", 2), ("2", 1)]);
        let first = &made[0];
        assert_eq!((first.sent_at, first.hops, first.keyed, &first.from), (Timestamp(7), 0, false, &None));
        assert_eq!(first.trace.as_deref(), Some(trace));
        assert_eq!(made, envelopes(&router, &record).unwrap());
        assert_eq!(envelopes(&routed(vec![]), &record).unwrap(), []);
    }

    /// Ids are persisted: this test fails when their derivation changes.
    #[test]
    fn derivations_are_frozen() {
        let id = |router: &dyn Router| envelopes(router, &record("shard-1:42")).unwrap()[0].id.to_string();
        assert_eq!(id(&routed(vec![to("a/b/1", "x")])), "71c4c8c951ada037c669f35c117df869");
        assert_eq!(id(&Keyed("order-1")), "e01628233c2769ec2254a093cff0e867");
    }

    #[test]
    fn everything_that_differs_makes_another_id() {
        let mut seen = HashSet::new();
        let mut distinct = |router: &dyn Router, record: &IngressRecord| {
            assert!(envelopes(router, record).unwrap().iter().all(|envelope| seen.insert(envelope.id)), "{record:?}");
        };
        distinct(&routed(vec![to("a/b/1", ""), to("a/b/2", ""), to("a/c/1", ""), to("a/b/11", "")]), &record("1"));
        distinct(&routed(vec![to("a/b/1", ""), to("a/b/2", "")]), &record("2"));
        distinct(&routed(vec![to("a/b/1", "")]), &IngressRecord { source: "other".into(), ..record("1") });
        distinct(&routed(vec![to("a/b/1", "")]), &IngressRecord { ingress: "example/other".into(), ..record("1") });
        distinct(&Keyed("1"), &record("1"));
        distinct(&Keyed("2"), &record("1"));
    }

    #[test]
    fn a_key_counts_and_not_the_place() {
        let made = |position| envelopes(&Keyed("k"), &record(position)).unwrap().remove(0);
        assert_eq!(made("1").id, made("2").id);
        assert!(made("1").keyed);
    }

    #[test]
    fn limits_and_panics_are_reasons() {
        let reason = |router: &dyn Router| envelopes(router, &record("1")).unwrap_err().reason().to_owned();
        let big = |bytes| Routed {
            to: Address::parse("a/b/1").unwrap(),
            value: TypedValue::present(TypeName::from_static("a/t"), vec![b'x'; bytes]),
        };
        assert!(reason(&routed(vec![big(MAX_MESSAGE_BYTES + 1)])).contains("at most 768000"));
        assert!(reason(&routed(vec![big(MAX_MESSAGE_BYTES), big(100_000)])).contains("too much for `a/b`"));
        assert!(reason(&routed(vec![big(1); MAX_ENVELOPE_MESSAGES + 1])).contains("at most 1000 messages"));
        assert!(envelopes(&routed(vec![big(MAX_MESSAGE_BYTES)]), &record("1")).unwrap()[0].to_wire().len() <= MAX_ENVELOPE_BYTES);
        assert_eq!(reason(&|_: &IngressRecord| panic!("no")), "the router panicked");
        let parse = |record: &IngressRecord| Ok(vec![Routed::new(("a/b", record.text()?), &record.text()?.parse::<i64>()?)?]);
        assert_eq!(reason(&parse), "invalid digit found in string");
    }
}
