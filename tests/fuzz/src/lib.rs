//! Fuzz targets of everything that reads outside input.
//!
//! A target checks more than that nothing panics: what is read is written down and read again, two readers agree, what is refused is
//! refused with a place. Its inputs are in `corpus/<target>`; `cargo test` replays them, and `cargo xtask fuzz` changes them at random.
//! An input that breaks a property is made small and put into the corpus.
//!
//! There is no instrumented build: that needs a nightly compiler, or an engine under a licence that this project does not take. Instead
//! a target says of each input what became of it (its [`Shape`]), and an input of a new shape is changed further. A target is a function
//! of bytes, so that any other fuzzer can drive it too.

mod mutate;
mod run;
mod targets;

use std::path::PathBuf;

pub use run::{Progress, fuzz, replay};

/// What became of an input, without what is particular to it: a counter, an error's text without names and numbers. Inputs of one shape
/// are taken to run the same code.
pub type Shape = String;

/// Checks one input. The error says which property it breaks.
pub type Check = Box<dyn FnMut(&[u8]) -> Result<Shape, String>>;

/// Something that reads outside input.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of its corpus's folder, too.
    pub name: &'static str,
    /// Texts that mean something to it.
    pub words: &'static [&'static str],
    /// Makes what checks its inputs.
    pub start: fn() -> Check,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    targets::rows::CSV,
    targets::rows::JSON_LINES,
    targets::module::MODULE,
    targets::envelope::ENVELOPE,
    targets::kpl::KPL,
    targets::event::EVENT,
    targets::http::HTTP,
];

impl Target {
    /// Where its inputs lie.
    #[must_use]
    pub fn corpus(&self) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "corpus", self.name].iter().collect()
    }
}
