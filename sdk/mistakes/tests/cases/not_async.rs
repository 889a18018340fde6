use lambda_statefun::prelude::*;

fn greet(_: &mut Context, _: String) -> Result<(), FunctionError> {
    Ok(())
}

fn main() {
    Function::new("example/greeter", greet);
}
