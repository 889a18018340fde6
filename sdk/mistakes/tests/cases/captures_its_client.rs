use lambda_statefun::prelude::*;

struct Database;

impl Database {
    async fn has(&self, _: &str) -> bool {
        true
    }
}

fn main() {
    let database = Database;
    Function::new("example/greeter", async move |ctx: &mut Context, name: String| {
        if database.has(&name).await {
            ctx.egress("example/greetings", &name)?;
        }
        Ok(())
    });
}
