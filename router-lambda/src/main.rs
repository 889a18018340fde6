//! The router Lambda: records of the streams and queues that `module.yaml` declares become messages to functions.

#[tokio::main]
async fn main() -> Result<(), lambda_statefun::Error> {
    lambda_statefun::run_module_router().await
}
