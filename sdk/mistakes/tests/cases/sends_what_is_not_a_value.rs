use lambda_statefun::prelude::*;

struct Greeting;

async fn greet(ctx: &mut Context, _: String) -> Result<(), FunctionError> {
    ctx.send(("example/inbox", "all"), &Greeting)?;
    Ok(())
}

fn main() {
    Function::new("example/greeter", greet);
}
