use lambda_statefun::prelude::*;

async fn greet(_: &Context, _: String) -> Result<(), FunctionError> {
    Ok(())
}

fn main() {
    Function::new("example/greeter", greet);
}
