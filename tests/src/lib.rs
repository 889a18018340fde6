//! What no single crate can test. `src/bin/kill` kills a process again and again, from outside and by its own handler, and counts
//! what it did; `src/bin/bench` measures; `src/bin/readme.rs` is the
//! program that README.md shows.
