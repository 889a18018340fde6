//! Whole files: good ones, and what is said of bad ones.

use std::fs;

use proptest::prelude::*;

use super::*;

#[test]
fn golden_mistakes() {
    let error = Module::parse("infra/module.yaml", include_str!("../golden/mistakes.yaml")).unwrap_err();
    let report = format!("{error}\n");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/mistakes.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(golden, &report).unwrap();
    }
    assert_eq!(report, fs::read_to_string(golden).unwrap());
}
