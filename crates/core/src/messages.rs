//! What a handler takes: one message type, several as an enum, or any.

use crate::{
    error::ContextError,
    type_name::TypeName,
    typed_value::TypedValue,
    types::{Codec, DecodeError, Value},
};

/// What a handler takes as its message: every [`Value`]; [`TypedValue`] for any type; or an enum of several types:
///
/// ```
/// use statefun_core::{Accepted, ContextError, FromMessage, MatchType, TypedValue};
///
/// enum Input { Count(i64), Name(String) }
///
/// impl FromMessage for Input {
///     fn accepts() -> Vec<Accepted> {
///         vec![Accepted::of::<i64>(), Accepted::of::<String>()]
///     }
///     fn from_message(message: &TypedValue) -> Result<Self, ContextError> {
///         MatchType::new(message).case(Input::Count)?.case(Input::Name)?.finish()
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler cannot take `{Self}` as its message",
    note = "implement `Value` for one message type, implement `FromMessage` for an enum of several, or take a `TypedValue`",
    note = "message types own what they hold: `String` in place of `&str`"
)]
pub trait FromMessage: Sized {
    /// The types it takes; none means any.
    fn accepts() -> Vec<Accepted>;

    /// Reads the message.
    ///
    /// # Errors
    /// [`ContextError`] if it is of another type or cannot be read: the message is then given up, since no try can help.
    fn from_message(message: &TypedValue) -> Result<Self, ContextError>;
}

impl<T: Value> FromMessage for T {
    fn accepts() -> Vec<Accepted> {
        vec![Accepted::of::<T>()]
    }

    fn from_message(message: &TypedValue) -> Result<Self, ContextError> {
        MatchType::new(message).case(|value: T| value)?.finish()
    }
}

impl FromMessage for TypedValue {
    fn accepts() -> Vec<Accepted> {
        Vec::new()
    }

    fn from_message(message: &TypedValue) -> Result<Self, ContextError> {
        Ok(message.clone())
    }
}

/// A message type that a function takes, so that ingress can refuse others at the door.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The type.
    pub type_name: TypeName,
    /// Whether its bytes are JSON text.
    pub json: bool,
    check: fn(&[u8]) -> Result<(), DecodeError>,
}

impl Accepted {
    /// The type `T`.
    #[must_use]
    pub fn of<T: Value>() -> Self {
        Self { type_name: T::TYPE_NAME, json: T::Codec::JSON, check: |bytes| T::decode(bytes).map(drop) }
    }

    /// Whether these bytes can be read as this type.
    ///
    /// # Errors
    /// What the codec says.
    pub fn check(&self, bytes: &[u8]) -> Result<(), DecodeError> {
        (self.check)(bytes)
    }
}

/// Finds the case that fits a message's type.
#[derive(Debug)]
pub struct MatchType<'a, O> {
    message: &'a TypedValue,
    wanted: Vec<TypeName>,
    found: Option<O>,
}

impl<'a, O> MatchType<'a, O> {
    /// Nothing tried yet.
    #[must_use]
    pub fn new(message: &'a TypedValue) -> Self {
        Self { message, wanted: Vec::new(), found: None }
    }

    /// If the message is a `T`, reads it and makes it into the output.
    ///
    /// # Errors
    /// If it is a `T` by name, but absent or not readable.
    pub fn case<T: Value>(mut self, make: impl FnOnce(T) -> O) -> Result<Self, ContextError> {
        if self.found.is_none() && self.message.is::<T>() {
            self.found = self.message.get::<T>()?.map(make);
        }
        self.wanted.push(T::TYPE_NAME);
        Ok(self)
    }

    /// What the case that fitted made.
    ///
    /// # Errors
    /// [`ContextError::MessageType`] if none did.
    pub fn finish(self) -> Result<O, ContextError> {
        self.found.ok_or_else(|| ContextError::MessageType {
            wanted: self.wanted.iter().map(TypeName::as_str).collect::<Vec<_>>().join("` or `"),
            found: self.message.type_name.clone(),
        })
    }
}
