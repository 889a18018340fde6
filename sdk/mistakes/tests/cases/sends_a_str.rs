use lambda_statefun::prelude::*;

async fn greet(ctx: &mut Context, _: String) -> Result<(), FunctionError> {
    ctx.send(("example/inbox", "all"), "hello")?;
    Ok(())
}

fn main() {
    Function::new("example/greeter", greet);
}
