//! What a function declares about a state value: name, type, expiration.

use std::{marker::PhantomData, time::Duration};

use crate::{limits::MAX_STATE_NAME_BYTES, record::StoredValue, time::Timestamp, type_name::TypeName, types::Value};

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
    value: PhantomData<fn() -> T>,
}

impl<T: Value> ValueSpec<T> {
    /// A value that never expires. The name starts with a letter or `_`, then letters, digits and `_`; it is checked when the
    /// application is built.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, expiration: Expiration::None, value: PhantomData }
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

    /// The state's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The same without its Rust type, as the engine needs it.
    #[must_use]
    pub const fn erase(&self) -> StateSpec {
        StateSpec { name: self.name, type_name: T::TYPE_NAME, expiration: self.expiration }
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
    /// When it goes away by itself.
    pub expiration: Expiration,
}

impl StateSpec {
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
    use crate::typed_value::TypedValue;

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
