//! `namespace/name`: how functions, message types, state types and egresses are called.

use std::{fmt, sync::Arc};

use crate::limits::MAX_TYPE_NAME_BYTES;

/// A name of the form `namespace/name`, with exactly one `/` (StateFun's `TypeName`).
///
/// Both parts are made of ASCII letters, digits, `.`, `-` and `_`, and start with a letter or a digit;
/// the whole is at most [`MAX_TYPE_NAME_BYTES`] bytes. Cloning is cheap.
#[derive(Clone)]
pub struct TypeName(Text);

#[derive(Clone)]
enum Text {
    Static(&'static str),
    Shared(Arc<str>),
}

/// Why a text is not a [`TypeName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a type name: write `namespace/name` with exactly one `/`, each part of letters, digits, `.`, `-`, `_`, \
     starting with a letter or a digit, {MAX_TYPE_NAME_BYTES} bytes at most"
)]
pub struct InvalidTypeName {
    /// The text as given, cut to a readable length.
    pub text: String,
}

impl TypeName {
    /// A name known at compile time.
    ///
    /// # Panics
    /// If the text is not a type name. In a `const` that is a compile error, which is the intended use.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        assert!(is_valid(text.as_bytes()), "not a type name: write `namespace/name`");
        Self(Text::Static(text))
    }

    /// Checks and keeps a name that is known only at run time.
    ///
    /// # Errors
    /// [`InvalidTypeName`], which says what a name looks like.
    pub fn parse(text: &str) -> Result<Self, InvalidTypeName> {
        if is_valid(text.as_bytes()) {
            Ok(Self(Text::Shared(text.into())))
        } else {
            Err(InvalidTypeName { text: text.chars().take(160).collect() })
        }
    }

    /// The whole name, `namespace/name`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Static(text) => text,
            Text::Shared(text) => text,
        }
    }

    /// The part before the `/`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.as_str().split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The part after the `/`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.as_str().split_once('/').map_or("", |(_, name)| name)
    }
}

const fn is_valid(bytes: &[u8]) -> bool {
    if bytes.len() > MAX_TYPE_NAME_BYTES {
        return false;
    }
    let (mut slashes, mut at_start, mut index) = (0, true, 0);
    while index < bytes.len() {
        let byte = bytes[index];
        if byte == b'/' && !at_start {
            slashes += 1;
            at_start = true;
        } else if byte.is_ascii_alphanumeric() || (!at_start && matches!(byte, b'.' | b'-' | b'_')) {
            at_start = false;
        } else {
            return false;
        }
        index += 1;
    }
    slashes == 1 && !at_start
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for TypeName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for TypeName {}

impl std::hash::Hash for TypeName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialOrd for TypeName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TypeName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl std::borrow::Borrow<str> for TypeName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl TryFrom<&str> for TypeName {
    type Error = InvalidTypeName;
    fn try_from(text: &str) -> Result<Self, InvalidTypeName> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slash_and_plain_characters() {
        for good in ["example/greeter", "com.example/a-b_c", "a/b", "1/2"] {
            assert_eq!(TypeName::parse(good).unwrap().as_str(), good);
        }
        let long = format!("a/{}", "b".repeat(MAX_TYPE_NAME_BYTES));
        for bad in ["", "/", "a/", "/b", "a", "a/b/c", "a//b", "a b/c", "_a/b", "ä/b", "a/-b", &long] {
            assert!(TypeName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn static_and_shared_are_the_same_name() {
        const NAME: TypeName = TypeName::from_static("example/greeter");
        assert_eq!(NAME, TypeName::parse("example/greeter").unwrap());
        assert_eq!((NAME.namespace(), NAME.name()), ("example", "greeter"));
    }
}
