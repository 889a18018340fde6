//! Serves Lambda where Lambda runs it, and hosts the same application in one process everywhere else.

#[tokio::main]
async fn main() -> Result<(), lambda_statefun::Error> {
    lambda_statefun::run(shopping_cart::application()).await
}
