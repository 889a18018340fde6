use lambda_statefun::prelude::*;

const SEEN: ValueSpec<u64> = ValueSpec::new("seen");

async fn greet(ctx: &mut Context, name: String) -> Result<(), FunctionError> {
    ctx.set(&SEEN, name)?;
    Ok(())
}

fn main() {
    Function::new("example/greeter", greet).state(&SEEN);
}
