//! Where a message goes: a function type and an id.

use std::{fmt, sync::Arc};

use crate::{
    limits::MAX_ID_BYTES,
    type_name::{InvalidTypeName, TypeName},
};

/// The address of one virtual instance: a function's [`TypeName`] and an id. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    function: TypeName,
    id: Arc<str>,
}

/// Why something is not an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// The function part is not a type name.
    #[error(transparent)]
    Function(#[from] InvalidTypeName),
    /// The id is empty or too long.
    #[error("an id has 1 to {MAX_ID_BYTES} bytes, this one has {0}")]
    Id(usize),
    /// There are not three parts.
    #[error("`{0}` is not an address: write `namespace/name/id`")]
    Form(String),
}

impl Address {
    /// An address of a function's type and an id of 1 to [`MAX_ID_BYTES`] bytes.
    ///
    /// # Errors
    /// [`InvalidAddress::Id`] if the id is empty or too long.
    pub fn new(function: TypeName, id: impl AsRef<str>) -> Result<Self, InvalidAddress> {
        let id = id.as_ref();
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return Err(InvalidAddress::Id(id.len()));
        }
        Ok(Self { function, id: id.into() })
    }

    /// Reads `namespace/name/id`; the id may itself hold `/`.
    ///
    /// # Errors
    /// [`InvalidAddress`], which says what an address looks like.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let form = || InvalidAddress::Form(text.chars().take(160).collect());
        let name = text.find('/').ok_or_else(form)? + 1;
        let id = name + text[name..].find('/').ok_or_else(form)?;
        Self::new(TypeName::parse(&text[..id])?, &text[id + 1..])
    }

    /// The function's type.
    #[must_use]
    pub fn function(&self) -> &TypeName {
        &self.function
    }

    /// The instance's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.function, self.id)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What can be given where an address is asked for: an [`Address`], or a pair of function type and id.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an address",
    note = "give an `Address`, or a pair such as `(\"example/greeter\", \"bob\")`"
)]
pub trait ToAddress {
    /// The address.
    ///
    /// # Errors
    /// [`InvalidAddress`] if a part of it is not well formed.
    fn to_address(self) -> Result<Address, InvalidAddress>;
}

impl ToAddress for Address {
    fn to_address(self) -> Result<Address, InvalidAddress> {
        Ok(self)
    }
}

impl ToAddress for &Address {
    fn to_address(self) -> Result<Address, InvalidAddress> {
        Ok(self.clone())
    }
}

impl<I: AsRef<str>> ToAddress for (&str, I) {
    fn to_address(self) -> Result<Address, InvalidAddress> {
        Address::new(TypeName::parse(self.0)?, self.1)
    }
}

impl<I: AsRef<str>> ToAddress for (TypeName, I) {
    fn to_address(self) -> Result<Address, InvalidAddress> {
        Address::new(self.0, self.1)
    }
}

impl<I: AsRef<str>> ToAddress for (&TypeName, I) {
    fn to_address(self) -> Result<Address, InvalidAddress> {
        Address::new(self.0.clone(), self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in ["a/b/c", "a/b/c/d e", "a/b//"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Address::parse("a/b/c/d").unwrap().id(), "c/d");
        for bad in ["", "a/b", "a/b/", "a", "//x"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pairs_are_addresses() {
        assert_eq!(("a/b", String::from("c")).to_address().unwrap(), Address::parse("a/b/c").unwrap());
        assert!(("nonsense", "c").to_address().is_err());
        assert!(("a/b", "x".repeat(MAX_ID_BYTES + 1)).to_address().is_err());
    }
}
