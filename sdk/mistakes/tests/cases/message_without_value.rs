use lambda_statefun::prelude::*;

struct Greet;

async fn greet(_: &mut Context, _: Greet) -> Result<(), FunctionError> {
    Ok(())
}

fn main() {
    Function::new("example/greeter", greet);
}
