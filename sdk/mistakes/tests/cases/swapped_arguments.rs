use lambda_statefun::prelude::*;

async fn greet(_: String, _: &mut Context) -> Result<(), FunctionError> {
    Ok(())
}

fn main() {
    Function::new("example/greeter", greet);
}
