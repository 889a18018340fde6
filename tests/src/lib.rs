//! What no single crate can test. `src/bin/kill.rs` kills a loaded process again and again and counts what it did;
//! `src/bin/bench.rs` measures.
