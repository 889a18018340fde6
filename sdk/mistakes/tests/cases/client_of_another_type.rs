use lambda_statefun::prelude::*;

struct Database;
struct Mail;

async fn greet(_: &Mail, _: &mut Context, _: String) -> Result<(), FunctionError> {
    Ok(())
}

fn main() {
    Function::with_clients("example/greeter", Database, greet);
}
