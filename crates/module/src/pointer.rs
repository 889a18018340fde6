//! JSON pointers (RFC 6901).

use std::fmt;

/// A JSON pointer: empty for the whole, or `/`-separated keys, in which `~1` is a `/` and `~0` a `~`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JsonPointer(String);

/// A text is not a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a JSON pointer: write `/key` or `/key/0/key`, with `~1` for a `/` and `~0` for a `~` in a key")]
pub struct InvalidJsonPointer {
    /// The text.
    pub text: String,
}

impl JsonPointer {
    /// Checks a pointer.
    ///
    /// # Errors
    /// [`InvalidJsonPointer`], which says what a pointer looks like.
    pub fn parse(text: &str) -> Result<Self, InvalidJsonPointer> {
        let escapes = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
        match escapes && (text.is_empty() || text.starts_with('/')) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidJsonPointer { text: text.chars().take(160).collect() }),
        }
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_and_what_is_none() {
        for good in ["", "/", "/a", "/a/0/b~1c~0"] {
            assert_eq!(JsonPointer::parse(good).unwrap().as_str(), good);
        }
        for bad in ["a", "$.a", "/a~", "/~2", "/a~/b"] {
            assert!(JsonPointer::parse(bad).is_err(), "{bad}");
        }
    }
}
