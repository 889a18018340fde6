use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct All {
    number: f64,
    small: f32,
    maybe: Option<f64>,
    list: Vec<f64>,
    pair: (i32, f64),
    map: BTreeMap<String, f64>,
    numbers: HashMap<u8, Vec<f32>>,
    nested: Vec<BTreeMap<String, Option<f64>>>,
    kind: Kind,
    tagged: Tagged,
    any: Any,
    #[serde(flatten)]
    more: BTreeMap<String, f64>,
    wrapped: Wrapped,
    unit: (),
    big: u128,
    text: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
enum Kind {
    #[default]
    Unit,
    New(f64),
    Tuple(u8, f64),
    Struct {
        x: f64,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Point { x: f64 },
}

impl Default for Tagged {
    fn default() -> Self {
        Self::Point { x: 0.5 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Any {
    Number(f64),
    Map(BTreeMap<String, f64>),
}

impl Default for Any {
    fn default() -> Self {
        Self::Number(1.5)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Wrapped(f64);

fn encode<T: Serialize + DeserializeOwned>(value: &T) -> Result<Bytes, String> {
    <Json as Codec<T>>::encode(value).map_err(|error| error.to_string())
}

/// `All` with one number that JSON does not have, wherever there can be one; and where that is.
fn one_bad(bad: f64) -> Vec<(&'static str, All)> {
    let map = |key: &str| BTreeMap::from([("good".to_owned(), 1.0), (key.to_owned(), bad)]);
    let all = All::default;
    vec![
        ("number", All { number: bad, ..all() }),
        ("small", All { small: bad as f32, ..all() }),
        ("maybe", All { maybe: Some(bad), ..all() }),
        ("list[1]", All { list: vec![1.0, bad], ..all() }),
        ("pair[1]", All { pair: (1, bad), ..all() }),
        ("map[\"a b\"]", All { map: map("a b"), ..all() }),
        ("numbers[7][0]", All { numbers: HashMap::from([(7, vec![bad as f32])]), ..all() }),
        ("nested[0].x", All { nested: vec![BTreeMap::from([("x".to_owned(), Some(bad))])], ..all() }),
        ("kind.New", All { kind: Kind::New(bad), ..all() }),
        ("kind.Tuple[1]", All { kind: Kind::Tuple(1, bad), ..all() }),
        ("kind.Struct.x", All { kind: Kind::Struct { x: bad }, ..all() }),
        ("tagged.x", All { tagged: Tagged::Point { x: bad }, ..all() }),
        ("any", All { any: Any::Number(bad), ..all() }),
        ("any.x", All { any: Any::Map(map("x")), ..all() }),
        ("rest", All { more: map("rest"), ..all() }),
        ("wrapped", All { wrapped: Wrapped(bad), ..all() }),
    ]
}

#[test]
fn a_number_that_json_does_not_have_is_an_error_that_says_where() {
    for (bad, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
        for (path, value) in one_bad(bad) {
            assert_eq!(encode(&value), Err(format!("`{path}`: JSON has no number {shown}")));
        }
        assert_eq!(encode(&bad), Err(format!("JSON has no number {shown}")));
    }
}

#[test]
fn a_key_that_cannot_be_written_is_an_error() {
    let keys = std::collections::BTreeMap::from([(Some("x".to_owned()), BTreeMap::from([("y".to_owned(), f64::NAN)]))]);
    assert!(encode(&keys).unwrap_err().contains("`x.y`"));
    assert!(encode(&BTreeMap::from([(vec![1], 1)])).unwrap_err().contains("key must be a string"));
}

proptest! {
    /// What can be written is written as serde_json writes it.
    #[test]
    fn all_else_is_written_as_ever(number in any::<f64>(), small in any::<f32>(), big: u128, text: String, key: String) {
        prop_assume!(number.is_finite() && small.is_finite());
        for (_, mut value) in one_bad(number).into_iter().filter(|(path, _)| *path != "small" && !path.starts_with("numbers")) {
            (value.small, value.big, value.text) = (small, big, text.clone());
            value.map.insert(key.clone(), number);
            prop_assert_eq!(encode(&value).unwrap(), serde_json::to_vec(&value).unwrap());
        }
    }
}

#[test]
fn raw_json_and_numbers_of_any_length_stay_as_they_are() {
    let raw = serde_json::value::RawValue::from_string("{\"a\": 1e400}".to_owned()).unwrap();
    assert_eq!(&encode(&raw).unwrap()[..], b"{\"a\": 1e400}");
    assert_eq!(&encode(&vec![u128::MAX]).unwrap()[..], format!("[{}]", u128::MAX).as_bytes());
}
