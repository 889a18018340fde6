//! StateFun's built-in types: protobuf messages with the single field `value = 1`, where a default value has no bytes at all.
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

/// Whether bytes that are said to be of a built-in type are what that type writes; of other types nothing is known. protobuf
/// passes over what it does not know, and so would read plain text as the wrapper of nothing.
pub(crate) fn check(name: &TypeName, bytes: &[u8]) -> Result<(), CodecError> {
    fn read<T: Value>(name: &TypeName, bytes: &[u8]) -> Option<Result<bool, CodecError>> {
        let same = || Ok(*T::Codec::decode(bytes).and_then(|value| T::Codec::encode(&value))? == *bytes);
        (*name == T::TYPE_NAME).then(same)
    }
    let read = read::<String>(name, bytes)
        .or_else(|| read::<i64>(name, bytes))
        .or_else(|| read::<i32>(name, bytes))
        .or_else(|| read::<bool>(name, bytes))
        .or_else(|| read::<f64>(name, bytes))
        .or_else(|| read::<f32>(name, bytes));
    match read.transpose()? {
        None | Some(true) => Ok(()),
        Some(false) => Err("they are not the protobuf message that wraps one value of it".into()),
    }
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

    #[test]
    fn what_is_not_the_wrapper_of_a_built_in_type_is_found() {
        let string = String::TYPE_NAME;
        for text in [&b"hi"[..], b"\x0a\x02hi\x0a\x02hi", b"\x0a\x80\x00", b"\x12\x01x", b"\x0a\x09x", b"{}"] {
            assert!(check(&string, text).is_err(), "{text:?}");
        }
        for (name, bytes) in
            [(bool::TYPE_NAME, &[8, 0][..]), (bool::TYPE_NAME, &[8, 2]), (i64::TYPE_NAME, b"7"), (f64::TYPE_NAME, b"0.5")]
        {
            assert!(check(&name, bytes).is_err(), "{name} {bytes:?}");
        }
        assert!(check(&TypeName::from_static("a/b"), b"hi").is_ok());
    }

    proptest! {
        #[test]
        fn what_was_written_is_the_wrapper(a: i32, b: i64, c in any::<f32>(), d in any::<f64>(), e: bool, f: String) {
            fn ok<T: Value>(value: &T) -> bool {
                check(&T::TYPE_NAME, &value.encode().unwrap()).is_ok()
            }
            prop_assert!(ok(&a) && ok(&b) && ok(&c) && ok(&d) && ok(&e) && ok(&f));
        }

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
