use lambda_statefun::prelude::*;

async fn greet(_: &mut Context, _: String) -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {
    Function::new("example/greeter", greet);
}
