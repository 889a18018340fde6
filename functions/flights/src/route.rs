//! One route, such as `EWR-IAH`.

use lambda_statefun::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{ON_FAILURE, ROUTE_FUNCTION, messages::Leg};

/// The numbers of a route. Sums, so that means are exact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Flights flown.
    pub flown: u64,
    /// Flights cancelled.
    pub cancelled: u64,
    /// Flights whose time in the air is known.
    pub timed: u64,
    /// The sum of these times.
    pub air_minutes: u64,
}

impl Value for Route {
    const TYPE_NAME: TypeName = TypeName::from_static("flights/route-numbers");
    type Codec = Json;
}

/// The numbers of a route.
pub const ROUTE: ValueSpec<Route> = ValueSpec::new("numbers");

async fn handle(ctx: &mut Context, leg: Leg) -> Result<(), FunctionError> {
    let mut numbers = ctx.get(&ROUTE)?.unwrap_or_default();
    let count = if leg.flown { &mut numbers.flown } else { &mut numbers.cancelled };
    *count += 1;
    numbers.timed += u64::from(leg.air_time.is_some());
    numbers.air_minutes += u64::from(leg.air_time.unwrap_or(0));
    ctx.set(&ROUTE, numbers)?;
    Ok(())
}

/// The function `flights/route`.
#[must_use]
pub fn route() -> Function {
    Function::new(ROUTE_FUNCTION, handle).state(&ROUTE).on_failure(ON_FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_flights_and_their_times() {
        let mut route = TestContext::new(route(), "EWR-IAH");
        for (flown, air_time) in [(true, Some(227)), (true, None), (false, None), (true, Some(230))] {
            assert!(route.invoke(&Leg { flown, air_time }).unwrap().is_empty());
        }
        assert_eq!(route.get(&ROUTE), Some(Route { flown: 3, cancelled: 1, timed: 2, air_minutes: 457 }));
    }
}
