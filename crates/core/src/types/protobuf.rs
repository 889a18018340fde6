//! Protocol buffers, by prost.

use bytes::Bytes;

use super::{Codec, CodecError};

/// Protocol buffers, by prost.
#[derive(Debug, Clone, Copy)]
pub struct Protobuf;

impl<T: prost::Message + Default> Codec<T> for Protobuf {
    fn encode(value: &T) -> Result<Bytes, CodecError> {
        Ok(value.encode_to_vec().into())
    }

    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        Ok(T::decode(bytes)?)
    }
}
