use lambda_statefun::prelude::*;

async fn greet(_: &mut Context, _: String) {}

fn main() {
    Function::new("example/greeter", greet);
}
