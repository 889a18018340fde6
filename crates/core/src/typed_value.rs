//! Bytes with the name of their type.

use bytes::Bytes;

use crate::{
    type_name::TypeName,
    types::{DecodeError, EncodeError, Value, check_builtin},
};

/// A value as the runtime sees it: the type's name, and bytes it never looks into.
///
/// *Absent* (`value` is `None`) and *present but empty* (`Some` of no bytes) are different: in StateFun's built-in types `0`,
/// `0.0`, `false` and `""` all serialise to no bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct TypedValue {
    /// The type's name, such as `io.statefun.types/string`.
    pub type_name: TypeName,
    /// The serialised value, if there is one.
    pub value: Option<Bytes>,
}

impl TypedValue {
    /// A present value (it may be empty).
    #[must_use]
    pub fn present(type_name: TypeName, bytes: impl Into<Bytes>) -> Self {
        Self { type_name, value: Some(bytes.into()) }
    }

    /// The absence of a value of this type.
    #[must_use]
    pub fn absent(type_name: TypeName) -> Self {
        Self { type_name, value: None }
    }

    /// Serialises `value` as its type says.
    ///
    /// # Errors
    /// [`EncodeError`] if the value cannot be written in its type's form.
    pub fn of<T: Value>(value: &T) -> Result<Self, EncodeError> {
        Ok(Self::present(T::TYPE_NAME, T::encode(value)?))
    }

    /// Whether this holds the type `T`.
    #[must_use]
    pub fn is<T: Value>(&self) -> bool {
        self.type_name == T::TYPE_NAME
    }

    /// Reads this as `T`; `None` if the value is absent.
    ///
    /// # Errors
    /// [`DecodeError`] if this is of another type or its bytes cannot be read.
    pub fn get<T: Value>(&self) -> Result<Option<T>, DecodeError> {
        if !self.is::<T>() {
            return Err(DecodeError::type_mismatch(&T::TYPE_NAME, &self.type_name));
        }
        self.value.as_ref().map(|bytes| T::decode(bytes)).transpose()
    }

    /// Whether this, if it is said to be of a built-in type, is what that type writes. What comes from outside is to be checked:
    /// plain text would be read as the empty string.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not.
    pub fn check_builtin(&self) -> Result<(), DecodeError> {
        let Some(bytes) = &self.value else { return Ok(()) };
        check_builtin(&self.type_name, bytes).map_err(|source| DecodeError { type_name: self.type_name.clone(), source })
    }

    /// Bytes of the value, 0 if absent.
    #[must_use]
    pub fn len(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
    }

    /// Whether there are no bytes, absent or not.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Shows the type and the size, never the bytes: they may be private.
impl std::fmt::Debug for TypedValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(bytes) => write!(f, "{}({} bytes)", self.type_name, bytes.len()),
            None => write!(f, "{}(absent)", self.type_name),
        }
    }
}
