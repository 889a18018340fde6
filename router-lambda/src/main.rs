//! The router Lambda.
fn main() {}
