use std::{future::ready, rc::Rc};

use lambda_statefun::prelude::*;

async fn greet(_: &mut Context, name: String) -> Result<(), FunctionError> {
    let name = Rc::new(name);
    ready(()).await;
    drop(name);
    Ok(())
}

fn main() {
    Function::new("example/greeter", greet);
}
