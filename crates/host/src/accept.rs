//! What a function takes in from outside: checked at the door, while the sender can still learn of it.

use bytes::Bytes;
use statefun_core::{Accepted, FunctionSpec, TypeName, TypedValue, Value, limits::MAX_MESSAGE_BYTES, nearest};
use statefun_engine::{Functions, Registered};

use crate::error::{Refusal, UnknownFunction, chain};

/// How the bytes of a message were given.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form<'a> {
    /// As the named type's own bytes.
    Type(&'a TypeName),
    /// As JSON text, to be the function's only JSON type.
    Json,
    /// As plain text, to be `io.statefun.types/string`.
    Text,
}

/// The function of this name, or what comes near.
pub(crate) fn find<'a>(functions: &'a Functions, name: &str) -> Result<&'a Registered, UnknownFunction> {
    if let Some(found) = functions.iter().find(|function| function.spec.name.as_str() == name) {
        return Ok(found);
    }
    let mut known: Vec<_> = functions.iter().map(|function| function.spec.name.clone()).collect();
    known.sort();
    let nearest = nearest(name, known.iter().map(TypeName::as_str)).map(str::to_owned);
    Err(UnknownFunction { function: name.to_owned(), nearest, known })
}

/// The message that these bytes are, if the function takes it.
pub(crate) fn message(spec: &FunctionSpec, form: Form<'_>, bytes: Bytes) -> Result<TypedValue, Refusal> {
    let value = match form {
        Form::Type(name) => TypedValue::present(name.clone(), bytes),
        Form::Json => TypedValue::present(only_json(spec)?.type_name.clone(), bytes),
        Form::Text => {
            let text =
                std::str::from_utf8(&bytes).map_err(|error| Refusal::Unreadable(format!("the text is not UTF-8: {error}")))?;
            TypedValue::of(&text.to_owned()).map_err(|error| Refusal::Unreadable(chain(&error)))?
        }
    };
    check(spec, &value)?;
    Ok(value)
}

/// Whether the function takes this message.
pub(crate) fn check(spec: &FunctionSpec, value: &TypedValue) -> Result<(), Refusal> {
    if value.len() > MAX_MESSAGE_BYTES {
        return Err(Refusal::TooBig { bytes: value.len(), limit: MAX_MESSAGE_BYTES });
    }
    if spec.accepts.is_empty() {
        return check_builtin(value);
    }
    let accepted = spec.accepts.iter().find(|accepted| accepted.type_name == value.type_name);
    let accepted = accepted.ok_or_else(|| refused(spec, given(&value.type_name)))?;
    if let Some(bytes) = &value.value {
        accepted.check(bytes).map_err(|error| Refusal::Unreadable(chain(&error)))?;
    }
    check_builtin(value)
}

fn check_builtin(value: &TypedValue) -> Result<(), Refusal> {
    value.check_builtin().map_err(|error| {
        let text = if value.is::<String>() { ": plain text is `text/plain`" } else { "" };
        Refusal::Unreadable(format!("{}{text}", chain(&error)))
    })
}

/// The one JSON type of the function; without exactly one, JSON alone does not say which type is meant.
pub(crate) fn only_json(spec: &FunctionSpec) -> Result<&Accepted, Refusal> {
    let mut json = spec.accepts.iter().filter(|accepted| accepted.json);
    match (json.next(), json.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(refused(spec, "JSON without its type (it declares no JSON type)".to_owned())),
        (Some(_), Some(_)) => Err(refused(spec, "JSON without its type (it has several JSON types)".to_owned())),
    }
}

fn given(name: &TypeName) -> String {
    match *name == String::TYPE_NAME {
        true => format!("plain text (`{name}`)"),
        false => format!("`{name}`"),
    }
}

fn refused(spec: &FunctionSpec, given: String) -> Refusal {
    let accepted = spec.accepts.iter().map(|accepted| accepted.type_name.clone()).collect();
    Refusal::Type { function: spec.name.clone(), given, accepted }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(accepts: Vec<Accepted>) -> FunctionSpec {
        FunctionSpec { accepts, ..FunctionSpec::new(TypeName::from_static("a/b")) }
    }

    struct Order;
    struct Other;
    macro_rules! json {
        ($name:ident, $text:literal) => {
            impl Value for $name {
                const TYPE_NAME: TypeName = TypeName::from_static($text);
                type Codec = Check;
            }
        };
    }
    json!(Order, "a/order");
    json!(Other, "a/other");
    struct Check;
    impl<T: Default> statefun_core::Codec<T> for Check {
        const JSON: bool = true;
        fn encode(_: &T) -> Result<Bytes, statefun_core::CodecError> {
            Ok(Bytes::new())
        }
        fn decode(bytes: &[u8]) -> Result<T, statefun_core::CodecError> {
            serde_json::from_slice::<serde_json::Value>(bytes)?;
            Ok(T::default())
        }
    }
    impl Default for Order {
        fn default() -> Self {
            Self
        }
    }
    impl Default for Other {
        fn default() -> Self {
            Self
        }
    }

    #[test]
    fn json_needs_exactly_one_json_type() {
        let one = spec(vec![Accepted::of::<Order>(), Accepted::of::<String>()]);
        assert_eq!(message(&one, Form::Json, Bytes::from("{}")).unwrap().type_name, Order::TYPE_NAME);
        let none = spec(vec![Accepted::of::<String>()]);
        assert!(
            matches!(message(&none, Form::Json, Bytes::from("{}")), Err(Refusal::Type { accepted, .. }) if accepted.len() == 1)
        );
        let two = spec(vec![Accepted::of::<Order>(), Accepted::of::<Other>()]);
        assert!(matches!(message(&two, Form::Json, Bytes::from("{}")), Err(Refusal::Type { .. })));
        assert!(matches!(message(&spec(vec![]), Form::Json, Bytes::from("{}")), Err(Refusal::Type { .. })));
    }

    #[test]
    fn bytes_are_read_at_the_door() {
        let one = spec(vec![Accepted::of::<Order>()]);
        assert!(matches!(message(&one, Form::Json, Bytes::from("{")), Err(Refusal::Unreadable(_))));
        assert!(matches!(message(&one, Form::Type(&Other::TYPE_NAME), Bytes::new()), Err(Refusal::Type { .. })));
        assert!(message(&spec(vec![]), Form::Type(&Other::TYPE_NAME), Bytes::from("x")).is_ok());
    }

    #[test]
    fn text_is_wrapped() {
        let text = spec(vec![Accepted::of::<String>()]);
        let value = message(&text, Form::Text, Bytes::from("Bob")).unwrap();
        assert_eq!(value.get::<String>().unwrap().as_deref(), Some("Bob"));
        assert!(matches!(message(&text, Form::Text, Bytes::from(&[0xff_u8][..])), Err(Refusal::Unreadable(_))));
        let big = Bytes::from(vec![b'x'; MAX_MESSAGE_BYTES]);
        assert!(matches!(message(&text, Form::Text, big), Err(Refusal::TooBig { .. })));
    }
}
