//! The program that README.md shows, as it stands there: `tests/readme.rs` compares, and runs it.

use lambda_statefun::prelude::*;

const SEEN: ValueSpec<u64> = ValueSpec::new("seen");

async fn greet(ctx: &mut Context, name: String) -> Result<(), FunctionError> {
    let seen = ctx.get(&SEEN)?.unwrap_or(0) + 1;
    ctx.set(&SEEN, seen)?;
    ctx.egress("example/greetings", &format!("hello {name}, {seen}"))?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), lambda_statefun::Error> {
    let app = Application::new().function(Function::new("example/greeter", greet).state(&SEEN));
    lambda_statefun::run(app).await
}
