//! JSON text, by serde. JSON has no NaN and no infinities, and serde_json writes `null` for them, which no `f64` can be read
//! from: here they are an error that says where the number stands. It is found while the value is written.

mod parts;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, fmt::Display};

use bytes::Bytes;
use serde::{
    Serialize,
    de::DeserializeOwned,
    ser::{self, Serializer},
};

use super::{Codec, CodecError};
use parts::Parts;

/// JSON text, by serde. Numbers have to be finite.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    const JSON: bool = true;

    fn encode(value: &T) -> Result<Bytes, CodecError> {
        let (mut bytes, trail) = (Vec::new(), Trail::default());
        let finite = Finite { inner: &mut serde_json::Serializer::new(&mut bytes), trail: &trail };
        match value.serialize(finite) {
            Ok(()) => Ok(bytes.into()),
            Err(error) => Err(trail.explain(error)),
        }
    }

    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// The way back from what cannot be written, its end first. Empty until then: what goes well costs nothing.
#[derive(Debug, Default)]
struct Trail(RefCell<Vec<String>>);

impl Trail {
    /// Notes a step if what it led to cannot be written.
    fn step<T, E>(&self, result: Result<T, E>, step: impl FnOnce() -> String) -> Result<T, E> {
        result.inspect_err(|_| self.0.borrow_mut().push(step()))
    }

    fn explain(self, error: serde_json::Error) -> CodecError {
        let steps = self.0.into_inner();
        let path: String = steps.iter().rev().map(String::as_str).collect();
        match path.strip_prefix('.').unwrap_or(&path) {
            "" => error.into(),
            path => format!("`{path}`: {error}").into(),
        }
    }
}

/// A value, to be written with finite numbers only.
struct Inside<'a, T: ?Sized> {
    value: &'a T,
    trail: &'a Trail,
}

impl<T: Serialize + ?Sized> Serialize for Inside<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Finite { inner, trail: self.trail })
    }
}

/// A serializer, or a part of one, that refuses numbers that are not finite.
struct Finite<'a, S> {
    inner: S,
    trail: &'a Trail,
}

fn finite<T: Display, E: ser::Error>(value: T, is: bool) -> Result<T, E> {
    if is { Ok(value) } else { Err(E::custom(format_args!("JSON has no number {value}"))) }
}

/// Passes these on as they are.
macro_rules! pass {
    ($($name:ident: $type:ty),* $(,)?) => {
        $(fn $name(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$name(value)
        })*
    };
}

/// A part of the inner serializer, with the same trail.
macro_rules! part {
    ($name:ident($($argument:ident: $type:ty),*) -> $part:ident) => {
        fn $name(self, $($argument: $type),*) -> Result<Self::$part, S::Error> {
            Ok(Parts::new(self.inner.$name($($argument),*)?, self.trail, ""))
        }
    };
}

impl<'a, S: Serializer> Serializer for Finite<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<'a, S::SerializeSeq>;
    type SerializeTuple = Parts<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Parts<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<'a, S::SerializeTupleVariant>;
    type SerializeMap = Parts<'a, S::SerializeMap>;
    type SerializeStruct = Parts<'a, S::SerializeStruct>;
    type SerializeStructVariant = Parts<'a, S::SerializeStructVariant>;

    pass! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_char: char, serialize_str: &str, serialize_bytes: &[u8], serialize_unit_struct: &'static str,
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.inner.serialize_f32(finite(value, value.is_finite())?)
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.inner.serialize_f64(finite(value, value.is_finite())?)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&Inside { value, trail: self.trail })
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &Inside { value, trail: self.trail })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let written = self.inner.serialize_newtype_variant(name, index, variant, &Inside { value, trail: self.trail });
        self.trail.step(written, || format!(".{variant}"))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    part!(serialize_seq(length: Option<usize>) -> SerializeSeq);
    part!(serialize_tuple(length: usize) -> SerializeTuple);
    part!(serialize_tuple_struct(name: &'static str, length: usize) -> SerializeTupleStruct);
    part!(serialize_map(length: Option<usize>) -> SerializeMap);
    part!(serialize_struct(name: &'static str, length: usize) -> SerializeStruct);

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        Ok(Parts::new(self.inner.serialize_tuple_variant(name, index, variant, length)?, self.trail, variant))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        Ok(Parts::new(self.inner.serialize_struct_variant(name, index, variant, length)?, self.trail, variant))
    }
}
