use lambda_statefun::prelude::*;

struct Failed;

fn price() -> Result<u64, Failed> {
    Err(Failed)
}

async fn greet(_: &mut Context, _: String) -> Result<(), FunctionError> {
    price()?;
    Ok(())
}

fn main() {
    Function::new("example/greeter", greet);
}
