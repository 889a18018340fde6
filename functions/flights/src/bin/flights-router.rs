//! The router Lambda of the flights.

#[tokio::main]
async fn main() -> Result<(), lambda_statefun::Error> {
    lambda_statefun::run_router(flights::route_record).await
}
