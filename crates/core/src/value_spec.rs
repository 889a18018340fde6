//! What a function declares about a state value: name, type, expiration.

use std::time::Duration;

use crate::{
    limits::{MAX_READERS, MAX_STATE_NAME_BYTES},
    record::StoredValue,
    time::Timestamp,
    type_name::TypeName,
    typed_value::TypedValue,
    types::{CodecError, DecodeError, Value},
};

/// When a state value goes away by itself (StateFun's `Expiration`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiration {
    /// Never.
    None,
    /// This long after it was last written.
    AfterWrite(Duration),
    /// This long after the instance was last invoked, whether or not the value was touched (StateFun's *after call*).
    AfterInvoke(Duration),
}

/// A state value of type `T` that a function declares and then reads and writes through its context.
///
/// ```
/// use std::time::Duration;
/// use statefun_core::ValueSpec;
///
/// const SEEN: ValueSpec<u64> = ValueSpec::new("seen").expire_after_write(Duration::from_secs(86_400));
/// ```
pub struct ValueSpec<T> {
    name: &'static str,
    expiration: Expiration,
    /// In the order in which they are tried; `None` behind the last.
    readers: [Option<Reader<T>>; MAX_READERS],
}

/// Reads values that an older version of the program stored.
struct Reader<T> {
    type_name: fn() -> TypeName,
    read: fn(&[u8]) -> Result<T, DecodeError>,
}

fn read_older<T: TryFrom<U, Error: Into<CodecError>>, U: Value>(bytes: &[u8]) -> Result<T, DecodeError> {
    let older = U::decode(bytes)?;
    T::try_from(older).map_err(|error| DecodeError { type_name: U::TYPE_NAME, source: error.into() })
}

impl<T: Value> ValueSpec<T> {
    /// A value that never expires. The name starts with a letter or `_`, then letters, digits and `_`; it is checked when the
    /// application is built.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, expiration: Expiration::None, readers: [const { None }; MAX_READERS] }
    }

    /// The value goes away `ttl` after it was last written. Whole milliseconds count.
    #[must_use]
    pub const fn expire_after_write(mut self, ttl: Duration) -> Self {
        self.expiration = Expiration::AfterWrite(ttl);
        self
    }

    /// The value goes away `ttl` after the instance was last invoked. Whole milliseconds count.
    #[must_use]
    pub const fn expire_after_invoke(mut self, ttl: Duration) -> Self {
        self.expiration = Expiration::AfterInvoke(ttl);
        self
    }

    /// Values that were stored as `U` are read, too: of an older type name, or of an older form under the same name. The type `T`
    /// itself is tried first, then these in the order given. What is set is stored as `T`.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use statefun_core::{Json, TypeName, Value, ValueSpec};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Total { cents: u64, currency: String }
    ///
    /// impl Value for Total {
    ///     const TYPE_NAME: TypeName = TypeName::from_static("shop/total");
    ///     type Codec = Json;
    /// }
    ///
    /// /// What was stored before there were currencies: a bare number.
    /// impl From<u64> for Total {
    ///     fn from(cents: u64) -> Self {
    ///         Self { cents, currency: "EUR".to_owned() }
    ///     }
    /// }
    ///
    /// const TOTAL: ValueSpec<Total> = ValueSpec::new("total").reads::<u64>();
    /// ```
    ///
    /// # Panics
    /// At more than [`MAX_READERS`]; in a `const` that is a compile error.
    #[must_use]
    pub const fn reads<U: Value>(mut self) -> Self
    where
        T: TryFrom<U, Error: Into<CodecError>>,
    {
        let mut free = 0;
        while free < MAX_READERS && self.readers[free].is_some() {
            free += 1;
        }
        assert!(free < MAX_READERS, "too many older types for one state");
        self.readers[free] = Some(Reader { type_name: || U::TYPE_NAME, read: read_older::<T, U> });
        self
    }

    /// Whether values of this type can be read.
    pub(crate) fn knows(&self, stored: &TypeName) -> bool {
        *stored == T::TYPE_NAME || self.older().any(|older| older == *stored)
    }

    fn older(&self) -> impl Iterator<Item = TypeName> {
        self.readers.iter().flatten().map(|reader| (reader.type_name)())
    }

    /// Reads a stored value; `None` if it is absent.
    ///
    /// # Errors
    /// What `T` says, or else the reader that was tried last.
    pub(crate) fn read(&self, stored: &TypedValue) -> Result<Option<T>, DecodeError> {
        if !self.knows(&stored.type_name) {
            return Err(DecodeError::type_mismatch(&T::TYPE_NAME, &stored.type_name));
        }
        let Some(bytes) = &stored.value else { return Ok(None) };
        let own = stored.is::<T>().then(|| T::decode(bytes));
        if let Some(Ok(value)) = own {
            return Ok(Some(value));
        }
        let mut last = None;
        for reader in self.readers.iter().flatten().filter(|reader| (reader.type_name)() == stored.type_name) {
            match (reader.read)(bytes) {
                Ok(value) => return Ok(Some(value)),
                Err(error) => last = Some(error),
            }
        }
        let own = own.and_then(Result::err);
        Err(own.or(last).unwrap_or_else(|| DecodeError::type_mismatch(&T::TYPE_NAME, &stored.type_name)))
    }

    /// The state's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The same without its Rust type, as the engine needs it.
    #[must_use]
    pub fn erase(&self) -> StateSpec {
        let (name, type_name, older) = (self.name, T::TYPE_NAME, self.older().collect());
        StateSpec { name, type_name, older, expiration: self.expiration }
    }
}

impl<T: Value> From<&ValueSpec<T>> for StateSpec {
    fn from(spec: &ValueSpec<T>) -> Self {
        spec.erase()
    }
}

/// A [`ValueSpec`] without its Rust type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSpec {
    /// The state's name.
    pub name: &'static str,
    /// The type of its values.
    pub type_name: TypeName,
    /// Types of older values that can be read, too.
    pub older: Vec<TypeName>,
    /// When it goes away by itself.
    pub expiration: Expiration,
}

impl StateSpec {
    /// Whether values of this type can be read.
    #[must_use]
    pub fn knows(&self, stored: &TypeName) -> bool {
        *stored == self.type_name || self.older.contains(stored)
    }

    /// Whether the name is a letter or `_`, then letters, digits and `_`, and not too long (StateFun's rule).
    #[must_use]
    pub fn has_valid_name(&self) -> bool {
        let mut bytes = self.name.bytes();
        self.name.len() <= MAX_STATE_NAME_BYTES
            && bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }

    /// Whether `stored` has expired at `now`, in an instance last invoked at `invoked_at` (zero if never).
    #[must_use]
    pub fn is_expired(&self, stored: &StoredValue, invoked_at: Timestamp, now: Timestamp) -> bool {
        match self.expiration {
            Expiration::None => false,
            Expiration::AfterWrite(ttl) => now >= stored.written_at.plus(ttl),
            Expiration::AfterInvoke(ttl) => now >= stored.written_at.max(invoked_at).plus(ttl),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &'static str) -> StateSpec {
        ValueSpec::<bool>::new(name).erase()
    }

    #[test]
    fn names_as_statefun_has_them() {
        assert!(["seen", "_a1", "A"].iter().all(|name| spec(name).has_valid_name()));
        assert!(["", "1a", "a-b", "a b", "ä"].iter().all(|name| !spec(name).has_valid_name()));
    }

    #[test]
    fn expirations() {
        let stored = StoredValue { value: TypedValue::absent(bool::TYPE_NAME), written_at: Timestamp(1_000) };
        let ttl = Duration::from_millis(100);
        let written = ValueSpec::<bool>::new("a").expire_after_write(ttl).erase();
        assert!(!written.is_expired(&stored, Timestamp(5_000), Timestamp(1_099)));
        assert!(written.is_expired(&stored, Timestamp(5_000), Timestamp(1_100)));
        let invoked = ValueSpec::<bool>::new("a").expire_after_invoke(ttl).erase();
        assert!(!invoked.is_expired(&stored, Timestamp(1_090), Timestamp(1_189)));
        assert!(invoked.is_expired(&stored, Timestamp(1_090), Timestamp(1_190)));
        assert!(!spec("a").is_expired(&stored, Timestamp::ZERO, Timestamp(u64::MAX)));
    }
}
