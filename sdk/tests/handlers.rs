//! What an author may write as a handler, and what becomes of what it returns.

use std::{
    error::Error,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Context as _;

use lambda_statefun::prelude::*;

/// Stands for an HTTP client or a pool: cheap to clone, shared by all invocations.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicUsize>);

impl Counter {
    async fn next(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

async fn with_client(counter: &Counter, ctx: &mut Context, name: String) -> Result<(), FunctionError> {
    let call = counter.next().await;
    ctx.egress("example/calls", &format!("{name} {call}"))?;
    Ok(())
}

#[test]
fn a_handler_takes_its_clients_first_and_all_invocations_share_them() {
    let counter = Counter::default();
    let function = || Function::with_clients("example/caller", counter.clone(), with_client);
    let (mut ann, mut bob) = (TestContext::new(function(), "Ann"), TestContext::new(function(), "Bob"));
    let calls = [&mut ann, &mut bob].map(|instance| {
        let name = instance.invoke(&"hi".to_owned()).unwrap();
        name.egress_of::<String>("example/calls").concat()
    });
    assert_eq!(calls, ["hi 1", "hi 2"]);
    let name = "a closure that captures nothing is a handler, too".to_owned();
    let closure = async |ctx: &mut Context, name: String| Ok(ctx.egress("example/calls", &name)?);
    let effects = TestContext::new(Function::new("example/closure", closure), "Ann").invoke(&name).unwrap();
    assert_eq!(effects.egress_of::<String>("example/calls"), [name]);
}

/// An author's error, with the context's mistake as its cause.
#[derive(Debug)]
struct Failed(lambda_statefun::ContextError);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the order was not taken")
    }
}

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

type Boxed = Box<dyn Error + Send + Sync>;

const UNDECLARED: ValueSpec<u64> = ValueSpec::new("undeclared");

fn unreachable_service() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionRefused)
}

/// Fails in the way that the message names.
async fn fail(ctx: &mut Context, way: String) -> Result<(), FunctionError> {
    match way.as_str() {
        "io" => Err(unreachable_service())?,
        "anyhow" => Err(anyhow::Error::new(unreachable_service()))?,
        "anyhow, with context" => Err(unreachable_service()).context("no prices")?,
        "boxed" => Err(Boxed::from(unreachable_service()))?,
        "text" => Err("no prices")?,
        "mistake" => drop(ctx.get(&UNDECLARED)?),
        "mistake in anyhow" => drop(ctx.get(&UNDECLARED).map_err(anyhow::Error::new)?),
        "mistake in anyhow, with context" => drop(ctx.get(&UNDECLARED).context("no count")?),
        "boxed mistake" => drop(ctx.get(&UNDECLARED).map_err(Boxed::from)?),
        "mistake as a cause" => drop(ctx.get(&UNDECLARED).map_err(Failed)?),
        "mistake in anyhow in a box" => drop(ctx.get(&UNDECLARED).context("no count").map_err(Boxed::from)?),
        "said to be retryable" => drop(ctx.get(&UNDECLARED).map_err(FunctionError::retryable)?),
        other => panic!("{other}"),
    }
    Ok(())
}

#[test]
fn the_question_mark_takes_every_error_and_a_mistake_inside_stays_terminal() {
    let mut instance = TestContext::new(Function::new("example/failing", fail), "Ann");
    let mut is_terminal = |way: &str| instance.invoke(&way.to_owned()).unwrap_err().is_terminal();
    for way in ["io", "anyhow", "anyhow, with context", "boxed", "text", "said to be retryable"] {
        assert!(!is_terminal(way), "{way}");
    }
    for way in [
        "mistake",
        "mistake in anyhow",
        "mistake in anyhow, with context",
        "boxed mistake",
        "mistake as a cause",
        "mistake in anyhow in a box",
    ] {
        assert!(is_terminal(way), "{way}");
    }
}
