//! StateFun's built-in types: protobuf messages with the single field `value = 1`, where a default value is no bytes at all.
//! Source: `types.proto` of apache/flink-statefun (int = sfixed32, long = sfixed64).

use bytes::Bytes;

use super::{Codec, CodecError, Value};
use crate::type_name::TypeName;

/// StateFun's own encoding of `bool`, integers, floats and strings.
#[derive(Debug, Clone, Copy)]
pub struct Builtin;

/// One field `value = 1` of the given protobuf kind.
macro_rules! wrapper {
    ($wrapper:ident, $rust:ty, $kind:ident) => {
        #[derive(Clone, PartialEq, prost::Message)]
        struct $wrapper {
            #[prost($kind, tag = "1")]
            value: $rust,
        }

        impl Codec<$rust> for Builtin {
            fn encode(value: &$rust) -> Result<Bytes, CodecError> {
                Ok(prost::Message::encode_to_vec(&$wrapper { value: value.clone() }).into())
            }

            fn decode(bytes: &[u8]) -> Result<$rust, CodecError> {
                Ok(<$wrapper as prost::Message>::decode(bytes)?.value)
            }
        }
    };
}

wrapper!(BooleanWrapper, bool, bool);
wrapper!(IntWrapper, i32, sfixed32);
wrapper!(LongWrapper, i64, sfixed64);
wrapper!(StringWrapper, String, string);

/// Floats are written by hand: protobuf leaves out what equals 0.0 *bit for bit*, and `-0.0` does not.
macro_rules! float_wrapper {
    ($wrapper:ident, $rust:ty, $kind:ident, $tag:literal) => {
        #[derive(Clone, PartialEq, prost::Message)]
        struct $wrapper {
            #[prost($kind, tag = "1")]
            value: $rust,
        }

        impl Codec<$rust> for Builtin {
            fn encode(value: &$rust) -> Result<Bytes, CodecError> {
                if value.to_bits() == 0 {
                    return Ok(Bytes::new());
                }
                let mut bytes = vec![$tag];
                bytes.extend_from_slice(&value.to_le_bytes());
                Ok(bytes.into())
            }

            fn decode(bytes: &[u8]) -> Result<$rust, CodecError> {
                Ok(<$wrapper as prost::Message>::decode(bytes)?.value)
            }
        }
    };
}

float_wrapper!(FloatWrapper, f32, float, 0x0d);
float_wrapper!(DoubleWrapper, f64, double, 0x09);

/// Unsigned integers travel as `long`: other languages' SDKs know no unsigned types.
macro_rules! unsigned_as_long {
    ($rust:ty) => {
        impl Codec<$rust> for Builtin {
            fn encode(value: &$rust) -> Result<Bytes, CodecError> {
                <Self as Codec<i64>>::encode(&i64::try_from(*value)?)
            }

            fn decode(bytes: &[u8]) -> Result<$rust, CodecError> {
                Ok(<$rust>::try_from(<Self as Codec<i64>>::decode(bytes)?)?)
            }
        }
    };
}

unsigned_as_long!(u32);
unsigned_as_long!(u64);

macro_rules! named {
    ($($rust:ty => $name:literal),* $(,)?) => {
        $(impl Value for $rust {
            const TYPE_NAME: TypeName = TypeName::from_static($name);
            type Codec = Builtin;
        })*
    };
}

named! {
    bool => "io.statefun.types/bool",
    i32 => "io.statefun.types/int",
    i64 => "io.statefun.types/long",
    u32 => "io.statefun.types/long",
    u64 => "io.statefun.types/long",
    f32 => "io.statefun.types/float",
    f64 => "io.statefun.types/double",
    String => "io.statefun.types/string",
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the Java SDK writes, byte for byte.
    #[test]
    fn encoded_as_statefun_encodes_them() {
        assert_eq!(&true.encode().unwrap()[..], [0x08, 1]);
        assert_eq!(&1_i32.encode().unwrap()[..], [0x0d, 1, 0, 0, 0]);
        assert_eq!(&(-2_i64).encode().unwrap()[..], [0x09, 0xfe, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(&1.0_f32.encode().unwrap()[..], [0x0d, 0, 0, 0x80, 0x3f]);
        assert_eq!(&1.0_f64.encode().unwrap()[..], [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        assert_eq!(&"Bob".to_owned().encode().unwrap()[..], [0x0a, 3, b'B', b'o', b'b']);
    }

    #[test]
    fn defaults_are_no_bytes() {
        assert!(false.encode().unwrap().is_empty());
        assert!(0_i32.encode().unwrap().is_empty());
        assert!(0_u64.encode().unwrap().is_empty());
        assert!(0.0_f64.encode().unwrap().is_empty());
        assert!(String::new().encode().unwrap().is_empty());
        assert!(!(-0.0_f64).encode().unwrap().is_empty());
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(u64::MAX.encode().is_err());
        let negative = (-1_i64).encode().unwrap();
        assert!(<u32 as Value>::decode(&negative).is_err());
        assert!(<String as Value>::decode(&[0x0a, 9, b'x']).is_err());
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(a: i32, b: i64, c: f32, d: f64, e: bool, f: String, g in 0..=i64::MAX as u64) {
            prop_assert_eq!(<i32 as Value>::decode(&a.encode().unwrap()).unwrap(), a);
            prop_assert_eq!(<i64 as Value>::decode(&b.encode().unwrap()).unwrap(), b);
            prop_assert_eq!(<f32 as Value>::decode(&c.encode().unwrap()).unwrap().to_bits(), c.to_bits());
            prop_assert_eq!(<f64 as Value>::decode(&d.encode().unwrap()).unwrap().to_bits(), d.to_bits());
            prop_assert_eq!(<bool as Value>::decode(&e.encode().unwrap()).unwrap(), e);
            prop_assert_eq!(<String as Value>::decode(&f.encode().unwrap()).unwrap(), f);
            prop_assert_eq!(<u64 as Value>::decode(&g.encode().unwrap()).unwrap(), g);
        }
    }
}
