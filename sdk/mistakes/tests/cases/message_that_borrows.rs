use lambda_statefun::prelude::*;

async fn greet(_: &mut Context, _: &str) -> Result<(), FunctionError> {
    Ok(())
}

fn main() {
    Function::new("example/greeter", greet);
}
