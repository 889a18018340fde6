//! The router that `module.yaml` declares.

use std::{borrow::Cow, collections::HashMap};

use statefun_core::{Address, TypeName, TypedValue, chain, resource_name};
use statefun_module::{Module, Selector, Source, ValueType};

use crate::{IngressRecord, RouteError, Routed, Router};

/// Routes records as a module declares it: every record to all targets of its stream or queue, as a message of the declared
/// type, to the id that the declared part of the record is.
#[derive(Debug, Clone)]
pub struct ModuleRouter {
    /// By ingress and the source's name.
    sources: HashMap<(String, String), Source>,
}

impl ModuleRouter {
    /// The router of this module's ingresses.
    #[must_use]
    pub fn new(module: &Module) -> Self {
        let all = module.ingresses.iter().flat_map(|ingress| ingress.sources.iter().map(move |source| (ingress, source)));
        let key = |id: &TypeName, source: &Source| (id.to_string(), source.name().to_owned());
        Self { sources: all.map(|(ingress, source)| (key(&ingress.id, source), source.clone())).collect() }
    }

    fn source(&self, record: &IngressRecord) -> Result<&Source, RouteError> {
        let (ingress, source) = (&record.ingress, resource_name(&record.source));
        self.sources
            .get(&(ingress.to_string(), source.to_owned()))
            .ok_or_else(|| RouteError::new(format!("the module declares no ingress `{ingress}` that reads `{source}`")))
    }
}

impl Router for ModuleRouter {
    fn route(&self, record: &IngressRecord) -> Result<Vec<Routed>, RouteError> {
        let source = self.source(record)?;
        let id = select(record, &source.id).map_err(|error| error.within("the id"))?;
        let value = value(record, &source.value_type)?;
        let to = |target: &TypeName| {
            let to = Address::new(target.clone(), &id).map_err(|error| RouteError::from(error).within("the id"))?;
            Ok(Routed { to, value: value.clone() })
        };
        source.targets.iter().map(to).collect()
    }

    fn deduplication_key(&self, record: &IngressRecord) -> Result<Option<String>, RouteError> {
        let Some(selector) = &self.source(record)?.deduplication_key else { return Ok(None) };
        let key = select(record, selector).map_err(|error| error.within("the deduplication key"))?;
        if key.is_empty() {
            return Err(RouteError::new("the deduplication key is empty"));
        }
        match (selector, record.origin.sqs().and_then(|sqs| sqs.group_id.as_ref())) {
            // A queue may keep these ids apart by group. No group has a line end in it.
            (Selector::MessageDeduplicationId, Some(group)) => Ok(Some(format!("{group}\n{key}"))),
            _ => Ok(Some(key.into_owned())),
        }
    }
}

fn value(record: &IngressRecord, value_type: &ValueType) -> Result<TypedValue, RouteError> {
    let name = match value_type {
        ValueType::Named(name) => name.clone(),
        ValueType::Text => return Ok(TypedValue::of(&record.text()?.to_owned())?),
        ValueType::From(selector) => {
            let name = select(record, selector).map_err(|error| error.within("the type"))?;
            TypeName::parse(&name).map_err(|error| RouteError::from(error).within("the type"))?
        }
    };
    let value = TypedValue::present(name, record.body.clone());
    value.check_builtin().map_err(|error| RouteError::new(chain(&error)))?;
    Ok(value)
}

fn select<'a>(record: &'a IngressRecord, selector: &Selector) -> Result<Cow<'a, str>, RouteError> {
    let (origin, sqs) = (&record.origin, record.origin.sqs());
    let (found, what) = match selector {
        Selector::PartitionKey => (origin.partition_key(), "partition key"),
        Selector::MessageGroupId => (sqs.and_then(|sqs| sqs.group_id.as_deref()), "message group"),
        Selector::MessageId => (sqs.map(|sqs| sqs.message_id.as_str()), "message id"),
        Selector::MessageDeduplicationId => (sqs.and_then(|sqs| sqs.deduplication_id.as_deref()), "deduplication id"),
        Selector::MessageAttribute(name) => {
            let found = sqs.and_then(|sqs| sqs.attributes.get(name)).map(|value| Cow::Borrowed(value.as_str()));
            return found
                .ok_or_else(|| RouteError::new(format!("the record has no attribute `{name}` that is a string or a number")));
        }
        Selector::JsonPointer(pointer) => {
            return match record.pointer(pointer.as_str())? {
                serde_json::Value::String(text) => Ok(Cow::Owned(text)),
                serde_json::Value::Number(number) => match whole(&number) {
                    Some(text) => Ok(Cow::Owned(text)),
                    None => Err(RouteError::new(format!("what is at `{pointer}` is {NOT_WHOLE}"))),
                },
                _ => Err(RouteError::new(format!("what is at `{pointer}` is neither a string nor a number"))),
            };
        }
    };
    found.map(Cow::Borrowed).ok_or_else(|| RouteError::new(format!("the record has no {what}")))
}

/// What is wrong with a number that [`whole`] does not take, and what to do about it.
pub const NOT_WHOLE: &str = "a number with a fraction or of more than 64 bits, of which digits may be lost: write it as a string";

/// A number of a JSON record as an id or a key: only integers of 64 bits are certain to keep their digits.
#[must_use]
pub fn whole(number: &serde_json::Number) -> Option<String> {
    (number.is_i64() || number.is_u64()).then(|| number.to_string())
}

#[cfg(test)]
mod tests {
    use statefun_core::{Timestamp, Value};

    use super::*;
    use crate::{Origin, SqsOrigin, envelopes};

    const MODULE: &str = r#"
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/names
  streams:
    - {stream: "arn:aws:kinesis:eu-west-1:1:stream/names", valueType: example/greet, targets: [example/greeter, example/log]}
    - {stream: texts, valueType: text, targets: [example/greeter], id: {jsonPointer: /user/id}}
    - {stream: proto, valueType: io.statefun.types/string, targets: [example/greeter]}
---
kind: io.statefun.sqs.v1/ingress
spec:
  id: shop/orders
  queues:
    - queue: https://sqs.eu-west-1.amazonaws.com/1/orders.fifo
      valueType: {messageAttribute: type}
      targets: [shop/cart]
      id: messageGroupId
      deduplicationKey: messageDeduplicationId
    - {queue: returns, valueType: {jsonPointer: /type}, targets: [shop/cart], id: {messageAttribute: user}, deduplicationKey: {jsonPointer: /key}}
    - {queue: any, valueType: a/b, targets: [shop/cart], id: messageId}
"#;

    fn router() -> ModuleRouter {
        ModuleRouter::new(&Module::parse("m.yaml", MODULE).unwrap().resolve_local(&|_| None).unwrap())
    }

    fn record(ingress: &str, source: &str, body: &str) -> IngressRecord {
        IngressRecord::new(ingress, source, "1", Timestamp(1), body.to_owned())
    }

    fn from_kinesis(source: &str, body: &str) -> IngressRecord {
        IngressRecord { origin: of_partition("Bob"), ..record("example/names", source, body) }
    }

    fn of_partition(key: &str) -> Origin {
        Origin::Kinesis { partition_key: key.into() }
    }

    fn message() -> SqsOrigin {
        let attributes = [("type", "shop/order"), ("user", "7")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        SqsOrigin {
            message_id: "m".into(),
            group_id: Some("7".into()),
            deduplication_id: Some("d".into()),
            attributes: attributes.into(),
        }
    }

    fn order_of(message: SqsOrigin) -> IngressRecord {
        IngressRecord { origin: Origin::Sqs(message), ..record("shop/orders", "orders.fifo", "{}") }
    }

    fn order() -> IngressRecord {
        order_of(message())
    }

    fn reason(record: &IngressRecord) -> String {
        envelopes(&router(), record).unwrap_err().reason().to_owned()
    }

    #[test]
    fn to_every_target_as_the_declared_type() {
        let routed = router().route(&from_kinesis("names", "{}")).unwrap();
        let seen: Vec<_> = routed.iter().map(|routed| (routed.to.to_string(), routed.value.type_name.as_str())).collect();
        assert_eq!(seen, [("example/greeter/Bob".into(), "example/greet"), ("example/log/Bob".to_owned(), "example/greet")]);
        let by_arn = router().route(&from_kinesis("arn:aws:kinesis:eu-west-1:1:stream/names", "{}")).unwrap();
        assert_eq!(by_arn, routed);
    }

    #[test]
    fn text_is_wrapped_and_declared_types_are_not() {
        let text = router().route(&from_kinesis("texts", r#"{"user":{"id":17}}"#)).unwrap().remove(0);
        assert_eq!(text.to.id(), "17");
        assert_eq!(text.value.get::<String>().unwrap().unwrap(), r#"{"user":{"id":17}}"#);
        let wrapped = String::encode(&"hi".to_owned()).unwrap();
        let record = IngressRecord::new("example/names", "proto", "1", Timestamp(1), wrapped);
        let proto = router().route(&IngressRecord { origin: of_partition("x"), ..record }).unwrap().remove(0);
        assert_eq!(proto.value.get::<String>().unwrap().unwrap(), "hi");
        let plain = IngressRecord::new("example/names", "proto", "1", Timestamp(1), "hi");
        let error = router().route(&IngressRecord { origin: of_partition("x"), ..plain }).unwrap_err();
        assert!(error.to_string().contains("io.statefun.types/string"), "{error}");
        assert!(reason(&IngressRecord::new("example/names", "texts", "1", Timestamp(1), vec![0xff])).contains("not JSON"));
    }

    #[test]
    fn parts_of_messages() {
        let made = envelopes(&router(), &order()).unwrap().remove(0);
        assert_eq!((made.to.to_string().as_str(), made.messages[0].type_name.as_str()), ("shop/cart/7", "shop/order"));
        assert!(made.keyed);
        let other_group = order_of(SqsOrigin { group_id: Some("8".into()), ..message() });
        assert_eq!(router().deduplication_key(&other_group).unwrap().unwrap(), "8\nd");
        let body = r#"{"type":"shop/return","key":5}"#;
        let returned = IngressRecord { origin: order().origin, ..record("shop/orders", "returns", body) };
        let made = envelopes(&router(), &returned).unwrap().remove(0);
        assert_eq!((made.to.id(), made.messages[0].type_name.as_str()), ("7", "shop/return"));
        assert_eq!(router().deduplication_key(&returned).unwrap().unwrap(), "5");
        let any = envelopes(&router(), &IngressRecord { source: "any".into(), ..order() }).unwrap().remove(0);
        assert_eq!((any.to.id(), any.keyed), ("m", false));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let kinesis = |source: &str, body: &str| reason(&from_kinesis(source, body));
        assert_eq!(reason(&record("example/names", "names", "")), "the id: the record has no partition key");
        assert_eq!(kinesis("texts", "{"), "the id: the record is not JSON: EOF while parsing an object at line 1 column 1");
        assert_eq!(kinesis("texts", "{}"), "the id: nothing is at `/user/id`");
        assert_eq!(kinesis("texts", r#"{"user":{"id":null}}"#), "the id: what is at `/user/id` is neither a string nor a number");
        assert_eq!(kinesis("texts", r#"{"user":{"id":""}}"#), "the id: an id has 1 to 1024 bytes, this one has 0");
        for number in ["1.5", "1e3", "12345678901234567890123", "-9223372036854775809", "18446744073709551616"] {
            let said = kinesis("texts", &format!(r#"{{"user":{{"id":{number}}}}}"#));
            assert!(said.starts_with("the id: what is at `/user/id` is a number with") && said.contains("as a string"), "{said}");
        }
        for number in ["-9223372036854775808", "18446744073709551615", "0"] {
            let routed = router().route(&from_kinesis("texts", &format!(r#"{{"user":{{"id":{number}}}}}"#))).unwrap();
            assert_eq!(routed[0].to.id(), number);
        }
        let long = format!(r#"{{"user":{{"id":"{}"}}}}"#, "x".repeat(1_025));
        assert_eq!(kinesis("texts", &long), "the id: an id has 1 to 1024 bytes, this one has 1025");
        assert_eq!(kinesis("other", ""), "the module declares no ingress `example/names` that reads `other`");
        let bare = order_of(SqsOrigin { attributes: Default::default(), ..message() });
        assert_eq!(reason(&bare), "the type: the record has no attribute `type` that is a string or a number");
        let odd = order_of(SqsOrigin { attributes: [("type".to_owned(), "order".to_owned())].into(), ..message() });
        assert!(reason(&odd).starts_with("the type: `order` is not a type name"));
        let unkeyed = order_of(SqsOrigin { deduplication_id: None, ..message() });
        assert_eq!(reason(&unkeyed), "the deduplication key: the record has no deduplication id");
        let big = "x".repeat(statefun_core::limits::MAX_MESSAGE_BYTES + 1);
        assert!(kinesis("names", &big).contains("at most 768000"));
    }
}
