//! The parts of lists, maps and structs: each is written with finite numbers only, and notes its place if it cannot be.

use serde::{Serialize, ser};

use super::{Inside, Trail};

/// A list, a map or a struct that is being written.
pub(super) struct Parts<'a, P> {
    inner: P,
    trail: &'a Trail,
    /// The name of the enum's variant that this is of, or nothing.
    variant: &'static str,
    /// Parts before this one.
    at: usize,
}

impl<'a, P> Parts<'a, P> {
    pub(super) fn new(inner: P, trail: &'a Trail, variant: &'static str) -> Self {
        Self { inner, trail, variant, at: 0 }
    }

    fn step<T, E>(&self, result: Result<T, E>, part: impl FnOnce() -> String) -> Result<T, E> {
        self.trail.step(result, || match self.variant {
            "" => part(),
            variant => format!(".{variant}{}", part()),
        })
    }
}

/// Lists and tuples: a part's place is its number.
macro_rules! numbered {
    ($($part:ident::$method:ident),* $(,)?) => {
        $(impl<P: ser::$part> ser::$part for Parts<'_, P> {
            type Ok = P::Ok;
            type Error = P::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), P::Error> {
                let written = self.inner.$method(&Inside { value, trail: self.trail });
                self.step(written, || format!("[{}]", self.at))?;
                self.at += 1;
                Ok(())
            }

            fn end(self) -> Result<P::Ok, P::Error> {
                self.inner.end()
            }
        })*
    };
}

numbered! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}

/// Structs: a part's place is its name.
macro_rules! named {
    ($($part:ident),* $(,)?) => {
        $(impl<P: ser::$part> ser::$part for Parts<'_, P> {
            type Ok = P::Ok;
            type Error = P::Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), P::Error> {
                let written = self.inner.serialize_field(name, &Inside { value, trail: self.trail });
                self.step(written, || format!(".{name}"))
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), P::Error> {
                self.inner.skip_field(name)
            }

            fn end(self) -> Result<P::Ok, P::Error> {
                self.inner.end()
            }
        })*
    };
}

named!(SerializeStruct, SerializeStructVariant);

/// Maps: a part's place is its key, or its number if keys and values come apart.
impl<P: ser::SerializeMap> ser::SerializeMap for Parts<'_, P> {
    type Ok = P::Ok;
    type Error = P::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), P::Error> {
        self.inner.serialize_key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), P::Error> {
        let written = self.inner.serialize_value(&Inside { value, trail: self.trail });
        self.step(written, || format!("[{}]", self.at))?;
        self.at += 1;
        Ok(())
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(&mut self, key: &K, value: &V) -> Result<(), P::Error> {
        let written = self.inner.serialize_entry(key, &Inside { value, trail: self.trail });
        self.step(written, || place(key))
    }

    fn end(self) -> Result<P::Ok, P::Error> {
        self.inner.end()
    }
}

/// A key as it stands in a path: as a field's name where it could be one, since structs may be written as maps.
fn place(key: &(impl Serialize + ?Sized)) -> String {
    let json = serde_json::to_string(key).unwrap_or_default();
    let name = json.trim_matches('"');
    match name.starts_with(|first: char| first.is_alphabetic()) && name.chars().all(|char| char.is_alphanumeric() || char == '_')
    {
        true => format!(".{name}"),
        false => format!("[{json}]"),
    }
}
