use lambda_statefun::prelude::*;

fn main() {
    let greeting = "hello".to_owned();
    Function::new("example/greeter", async |_: &mut Context, name: String| {
        assert_ne!(name, greeting);
        Ok(())
    });
}
