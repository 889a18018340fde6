//! The targets, one per form of outside input.

pub(crate) mod envelope;
pub(crate) mod event;
pub(crate) mod http;
pub(crate) mod kpl;
pub(crate) mod module;
pub(crate) mod rows;

/// A text without names, numbers and quoted parts.
pub(crate) fn shape(text: &str) -> String {
    let mut shape = String::new();
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 0 {
            shape.extend(part.chars().filter(|character| character.is_ascii_alphabetic() || *character == ' '));
        }
    }
    shape.truncate(80);
    shape
}

/// How many, roughly: more than a few are one shape.
pub(crate) fn some(count: usize) -> u32 {
    count.checked_ilog2().map_or(0, |log| log + 1)
}

/// An error unless it holds.
pub(crate) fn ensure(holds: bool, property: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(property()) }
}
