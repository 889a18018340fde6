//! How Rust values become bytes: a type says its name and its codec.

mod builtin;
mod json;
mod protobuf;

use bytes::Bytes;

pub use builtin::Builtin;
pub(crate) use builtin::check as check_builtin;
pub use json::Json;
pub use protobuf::Protobuf;

use crate::type_name::TypeName;

/// A Rust type that can be a message or a state value.
///
/// `bool`, `i32`, `u32`, `i64`, `u64`, `f32`, `f64` and `String` are StateFun's built-in types. Your own types take two lines:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use statefun_core::{Json, TypeName, Value};
///
/// #[derive(Serialize, Deserialize)]
/// struct Greet { name: String }
///
/// impl Value for Greet {
///     const TYPE_NAME: TypeName = TypeName::from_static("example/greet");
///     type Codec = Json;
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a message or a state value yet",
    note = "implement `Value` for it: a `TYPE_NAME` such as `TypeName::from_static(\"example/greet\")` and `type Codec = Json` \
            (for serde types) or `type Codec = Protobuf` (for prost messages)",
    note = "such a type owns what it holds: `String` in place of `str`"
)]
pub trait Value: Sized {
    /// The type's name. It is stored with every value: a type that changes incompatibly needs a new one.
    const TYPE_NAME: TypeName;
    /// How values are written and read.
    type Codec: Codec<Self>;

    /// The value's bytes.
    ///
    /// # Errors
    /// [`EncodeError`] if the codec cannot write it.
    fn encode(&self) -> Result<Bytes, EncodeError> {
        <Self::Codec as Codec<Self>>::encode(self).map_err(|source| EncodeError { type_name: Self::TYPE_NAME.clone(), source })
    }

    /// The value these bytes stand for.
    ///
    /// # Errors
    /// [`DecodeError`] if the codec cannot read them.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        <Self::Codec as Codec<Self>>::decode(bytes).map_err(|source| DecodeError { type_name: Self::TYPE_NAME.clone(), source })
    }
}

/// What a codec fails with.
pub type CodecError = Box<dyn std::error::Error + Send + Sync>;

/// Writes and reads values of `T`: [`Json`], [`Protobuf`], [`Builtin`], or your own.
#[diagnostic::on_unimplemented(
    message = "the codec `{Self}` cannot write and read `{T}`",
    note = "`Json` needs `serde::Serialize` and `serde::Deserialize`; `Protobuf` needs `prost::Message` and `Default`"
)]
pub trait Codec<T> {
    /// Whether the bytes are JSON text, so that ingress may take them from `application/json`.
    const JSON: bool = false;

    /// The value's bytes.
    ///
    /// # Errors
    /// Whatever keeps the value from being written.
    fn encode(value: &T) -> Result<Bytes, CodecError>;

    /// The value the bytes stand for.
    ///
    /// # Errors
    /// Whatever keeps the bytes from being read.
    fn decode(bytes: &[u8]) -> Result<T, CodecError>;
}

/// A value could not be written.
#[derive(Debug, thiserror::Error)]
#[error("a value of `{type_name}` cannot be written")]
pub struct EncodeError {
    /// The type asked for.
    pub type_name: TypeName,
    /// What the codec said.
    pub source: CodecError,
}

/// Bytes could not be read as the type asked for.
#[derive(Debug, thiserror::Error)]
#[error("these bytes cannot be read as `{type_name}`")]
pub struct DecodeError {
    /// The type asked for.
    pub type_name: TypeName,
    /// What the codec said.
    pub source: CodecError,
}

impl DecodeError {
    pub(crate) fn type_mismatch(wanted: &TypeName, found: &TypeName) -> Self {
        Self { type_name: wanted.clone(), source: format!("they are of the type `{found}`").into() }
    }
}
