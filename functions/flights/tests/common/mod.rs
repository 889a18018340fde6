//! What the tests share.
#![allow(dead_code, reason = "every test takes what it needs")]

pub(crate) mod reference;
pub(crate) mod year;

use std::path::PathBuf;

use serde_json::Value;

/// The week of departures.
pub(crate) fn week() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/flights-week.csv")
}

/// Compares two reports part by part, so that what differs can be read.
pub(crate) fn assert_same(found: &Value, expected: &Value) {
    for part in ["aircraft", "airports", "routes"] {
        let (found, expected) = (found[part].as_object().unwrap(), expected[part].as_object().unwrap());
        for (id, numbers) in expected {
            assert_eq!(found.get(id), Some(numbers), "{part} {id}");
        }
        assert_eq!(found.len(), expected.len(), "{part}");
    }
    assert_eq!(found, expected);
}
