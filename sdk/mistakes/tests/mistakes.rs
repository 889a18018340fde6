//! Each file of `cases` makes one mistake. The file of its name that ends in `.stderr` is what the pinned compiler says to it;
//! `TRYBUILD=overwrite cargo test -p statefun-mistakes` writes these anew.

use std::{fs, path::Path};

/// Each mistake, and the advice that the compiler's message has to hold.
const ADVICE: &[(&str, &str)] = &[
    ("borrows_local_data", "argument requires that `greeting` is borrowed for `'static`"),
    ("captures_its_client", "give them to `Function::with_clients`"),
    ("client_of_another_type", "async fn name(clients: &Database, ctx: &mut Context, message: M)"),
    ("context_that_is_not_mutable", "async fn name(ctx: &mut Context, message: M) -> Result<(), FunctionError>"),
    ("message_that_borrows", "message types own what they hold: `String` in place of `&str`"),
    ("message_without_value", "implement `Value` for one message type"),
    ("not_async", "async fn name(ctx: &mut Context, message: M) -> Result<(), FunctionError>"),
    ("not_send_across_await", "future is not `Send` as this value is used across an await"),
    ("one_argument", "async fn name(ctx: &mut Context, message: M) -> Result<(), FunctionError>"),
    ("question_mark_on_no_error", "`Failed` needs to implement `std::error::Error`"),
    ("returns_another_error", "async fn name(ctx: &mut Context, message: M) -> Result<(), FunctionError>"),
    ("returns_a_value", "async fn name(ctx: &mut Context, message: M) -> Result<(), FunctionError>"),
    ("returns_nothing", "async fn name(ctx: &mut Context, message: M) -> Result<(), FunctionError>"),
    ("sends_a_str", "such a type owns what it holds: `String` in place of `str`"),
    ("sends_what_is_not_a_value", "implement `Value` for it"),
    ("state_of_another_type", "the state holds `u64`, not `String`"),
    ("swapped_arguments", "async fn name(ctx: &mut Context, message: M) -> Result<(), FunctionError>"),
    ("value_without_serde", "consider adding `#[derive(serde::Serialize)]` to your `Greet` type"),
];

#[test]
fn the_compiler_advises_whoever_makes_a_likely_mistake() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    trybuild::TestCases::new().compile_fail("tests/cases/*.rs");
    let mut files: Vec<_> = fs::read_dir(&cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "rs"));
    assert_eq!(files.len(), ADVICE.len(), "each mistake has its advice");
    for (name, advice) in ADVICE {
        let said = fs::read_to_string(cases.join(format!("{name}.stderr"))).unwrap();
        assert!(said.contains(advice), "{name}: `{advice}` in\n{said}");
        assert!(!said.contains("Borrowing") && !said.contains("expected to take"), "{name}:\n{said}");
    }
}
