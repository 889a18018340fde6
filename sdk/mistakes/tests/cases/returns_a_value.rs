use lambda_statefun::prelude::*;

async fn greet(_: &mut Context, name: String) -> Result<String, FunctionError> {
    Ok(name)
}

fn main() {
    Function::new("example/greeter", greet);
}
