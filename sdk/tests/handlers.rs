//! What an author may write as a handler, and what becomes of what it returns.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

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
