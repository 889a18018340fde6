//! One aircraft: its flights come here in the order of the file, and it informs airports and routes.

use std::collections::BTreeMap;

use lambda_statefun::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    AIRCRAFT_FUNCTION, AIRPORT_FUNCTION, ALERTS, ON_FAILURE,
    date::Date,
    messages::{Alert, Flight},
};

/// A flight is late from one minute more on.
pub const LATE_MINUTES: i32 = 15;

/// Delays of one date add up to an alert from one minute more on.
pub const ALERT_MINUTES: u64 = 300;

/// The numbers of an aircraft.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aircraft {
    /// Flights flown.
    pub flown: u64,
    /// Flights cancelled.
    pub cancelled: u64,
    /// The sum of the positive departure delays of flights flown.
    pub delay_minutes: u64,
    /// Flights that left late after one of the same date that had arrived late.
    pub knock_on: u64,
}

/// What an aircraft must remember of its flights, by date: rows of one date need not stand together in the file. A date of which
/// there is nothing to remember is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Days(pub BTreeMap<Date, Day>);

/// What an aircraft must remember of a date. An alert was given if `delay_minutes` is over [`ALERT_MINUTES`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// The sum of the positive departure delays so far.
    #[serde(rename = "m", default, skip_serializing_if = "is_default")]
    pub delay_minutes: u64,
    /// Whether the last flight flown arrived late.
    #[serde(rename = "l", default, skip_serializing_if = "is_default")]
    pub late: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Value for Aircraft {
    const TYPE_NAME: TypeName = TypeName::from_static("flights/aircraft-numbers");
    type Codec = Json;
}

impl Value for Days {
    const TYPE_NAME: TypeName = TypeName::from_static("flights/aircraft-days");
    type Codec = Json;
}

/// The numbers of an aircraft.
pub const AIRCRAFT: ValueSpec<Aircraft> = ValueSpec::new("numbers");

/// Its dates.
pub const DAYS: ValueSpec<Days> = ValueSpec::new("days");

impl Aircraft {
    fn count(&mut self, day: &mut Day, flight: &Flight) {
        if !flight.flown {
            self.cancelled += 1;
            return;
        }
        let minutes = flight.dep_delay.and_then(|delay| u64::try_from(delay).ok()).unwrap_or(0);
        self.flown += 1;
        self.delay_minutes += minutes;
        self.knock_on += u64::from(day.late && is_late(flight.dep_delay));
        day.delay_minutes += minutes;
        day.late = is_late(flight.arr_delay);
    }
}

fn is_late(delay: Option<i32>) -> bool {
    delay.is_some_and(|delay| delay > LATE_MINUTES)
}

async fn handle(ctx: &mut Context, flight: Flight) -> Result<(), FunctionError> {
    let mut numbers = ctx.get(&AIRCRAFT)?.unwrap_or_default();
    let mut days = ctx.get(&DAYS)?.unwrap_or_default();
    let mut day = days.0.remove(&flight.date).unwrap_or_default();
    let before = day.delay_minutes;
    numbers.count(&mut day, &flight);
    let after = day.delay_minutes;
    if before <= ALERT_MINUTES && after > ALERT_MINUTES {
        let tailnum = ctx.address().id().to_owned();
        ctx.egress(ALERTS, &Alert { tailnum, date: flight.date, delay_minutes: after })?;
    }
    if day != Day::default() {
        days.0.insert(flight.date, day);
    }
    ctx.send((AIRPORT_FUNCTION, &flight.origin), &flight.departure())?;
    flight.tell_destination_and_route(ctx)?;
    ctx.set(&AIRCRAFT, numbers)?;
    ctx.set(&DAYS, days)?;
    Ok(())
}

/// The function `flights/aircraft`.
#[must_use]
pub fn aircraft() -> Function {
    Function::new(AIRCRAFT_FUNCTION, handle).state(&AIRCRAFT).state(&DAYS).on_failure(ON_FAILURE)
}

#[cfg(test)]
mod tests {
    use lambda_statefun::Effects;

    use super::*;
    use crate::{
        ROUTE_FUNCTION,
        messages::{Leg, Movement},
    };

    const FIRST: u8 = 1;
    const SECOND: u8 = 2;

    fn january(day: u8) -> Date {
        Date::new(2013, 1, day).unwrap()
    }

    fn flown(day: u8, dep_delay: i32, arr_delay: impl Into<Option<i32>>) -> Flight {
        let arr_delay = arr_delay.into();
        let (date, origin, dest) = (january(day), "EWR".to_owned(), "IAH".to_owned());
        let arrived = arr_delay.is_some();
        Flight { date, origin, dest, flown: true, arrived, dep_delay: Some(dep_delay), arr_delay, air_time: Some(227) }
    }

    fn cancelled(day: u8) -> Flight {
        Flight { flown: false, arrived: false, dep_delay: None, arr_delay: None, air_time: None, ..flown(day, 0, 0) }
    }

    fn after(flights: &[Flight]) -> (Aircraft, Effects) {
        let mut instance = TestContext::new(aircraft(), "N14228");
        let effects = flights.iter().map(|flight| instance.invoke(flight).unwrap()).collect::<Vec<_>>();
        (instance.get(&AIRCRAFT).unwrap(), effects.into_iter().next_back().unwrap())
    }

    fn alerts(flights: &[Flight]) -> Vec<Alert> {
        let mut instance = TestContext::new(aircraft(), "N14228");
        flights.iter().flat_map(|flight| instance.invoke(flight).unwrap().egress_of(ALERTS)).collect()
    }

    #[test]
    fn tells_airports_and_route_what_they_need() {
        let (_, effects) = after(&[flown(FIRST, 2, 11)]);
        assert_eq!(effects.sent_to::<Movement>((AIRPORT_FUNCTION, "EWR")), [Movement::Departed { delay: Some(2) }]);
        assert_eq!(effects.sent_to::<Movement>((AIRPORT_FUNCTION, "IAH")), [Movement::Arrived]);
        assert_eq!(effects.sent_to::<Leg>((ROUTE_FUNCTION, "EWR-IAH")), [Leg { flown: true, air_time: Some(227) }]);
        assert_eq!(effects.sent.len(), 3);
    }

    #[test]
    fn a_cancelled_flight_does_not_arrive() {
        let (numbers, effects) = after(&[cancelled(FIRST)]);
        assert_eq!(numbers, Aircraft { cancelled: 1, ..Aircraft::default() });
        assert_eq!(effects.sent_to::<Movement>((AIRPORT_FUNCTION, "EWR")), [Movement::Cancelled]);
        assert_eq!(effects.sent_to::<Leg>((ROUTE_FUNCTION, "EWR-IAH")), [Leg { flown: false, air_time: None }]);
        assert_eq!(effects.sent.len(), 2);
    }

    #[test]
    fn only_positive_delays_add_up() {
        let (numbers, _) = after(&[flown(FIRST, 20, 0), flown(FIRST, -10, 0), flown(FIRST, 3, 0)]);
        assert_eq!(numbers, Aircraft { flown: 3, delay_minutes: 23, ..Aircraft::default() });
    }

    #[test]
    fn a_delay_knocks_on_within_its_date_alone() {
        let knock_on = |flights: &[Flight]| after(flights).0.knock_on;
        assert_eq!(knock_on(&[flown(FIRST, 0, 16), flown(FIRST, 16, 0)]), 1);
        assert_eq!(knock_on(&[flown(FIRST, 0, 15), flown(FIRST, 16, 0)]), 0, "had not arrived late");
        assert_eq!(knock_on(&[flown(FIRST, 0, 16), flown(FIRST, 15, 0)]), 0, "does not leave late");
        assert_eq!(knock_on(&[flown(FIRST, 0, 16), flown(SECOND, 16, 0)]), 0, "another date");
        assert_eq!(knock_on(&[flown(FIRST, 0, 16), flown(FIRST, 0, None), flown(FIRST, 16, 0)]), 0, "not known to be late");
    }

    #[test]
    fn cancelled_flights_and_other_dates_may_lie_between() {
        let knock_on = |flights: &[Flight]| after(flights).0.knock_on;
        assert_eq!(knock_on(&[flown(FIRST, 0, 16), cancelled(FIRST), flown(FIRST, 16, 0)]), 1);
        assert_eq!(knock_on(&[flown(FIRST, 0, 16), flown(SECOND, 0, 0), flown(FIRST, 16, 0)]), 1);
    }

    #[test]
    fn one_alert_per_date() {
        let flights = [
            flown(FIRST, 300, 0),
            flown(SECOND, 301, 0),
            flown(FIRST, -5, 0),
            flown(FIRST, 1, 0),
            flown(FIRST, 400, 0),
            flown(SECOND, 1, 0),
        ];
        let alert = |day, delay_minutes| Alert { tailnum: "N14228".to_owned(), date: january(day), delay_minutes };
        assert_eq!(alerts(&flights), [alert(SECOND, 301), alert(FIRST, 301)]);
    }
}
