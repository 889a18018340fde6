//! A week of departures, kept per aircraft, airport and route.
//!
//! ```text
//!  row with a tail number ────► flights/aircraft ──┬──► flights/airport (origin, destination)
//!                                    │             └──► flights/route
//!                                    └──► flights/alerts
//!  row without ──► flights/airport (origin) ──┬──► flights/airport (destination)
//!                                             └──► flights/route
//! ```
//!
//! [`read_row`] makes a [`Flight`] of a row; [`Report`] is what all instances know in the end.

mod aircraft;
mod airport;
mod date;
#[cfg(feature = "local")]
pub mod local;
mod messages;
mod report;
mod route;
mod router;
mod row;

pub use aircraft::{AIRCRAFT, ALERT_MINUTES, Aircraft, DAYS, Day, Days, LATE_MINUTES, aircraft};
pub use airport::{AIRPORT, Airport, airport};
pub use date::{Date, InvalidDate};
pub use messages::{Alert, Flight, Leg, Movement};
pub use report::{AircraftReport, AirportReport, Report, RouteReport, mean};
pub use route::{ROUTE, Route, route};
pub use router::route as route_record;
pub use row::{COLUMNS, Row, read_row};

use lambda_statefun::{Application, OnFailure};

/// Keeps the numbers of one aircraft; its id is the tail number.
pub const AIRCRAFT_FUNCTION: &str = "flights/aircraft";

/// Keeps the numbers of one airport; its id is the airport's code.
pub const AIRPORT_FUNCTION: &str = "flights/airport";

/// Keeps the numbers of one route; its id is `EWR-IAH`.
pub const ROUTE_FUNCTION: &str = "flights/route";

/// Where alerts go.
pub const ALERTS: &str = "flights/alerts";

/// A message is never given up, however often the process dies while it is on its way: figures are right only if all of it counts.
/// What could fail is kept out before, by [`read_row`].
const ON_FAILURE: OnFailure = OnFailure::RetryForever;

/// Everything that is deployed together.
#[must_use]
pub fn application() -> Application {
    Application::new().function(aircraft()).function(airport()).function(route()).router(route_record)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_application_builds() {
        super::application().build().unwrap();
    }
}
