//! One airport: departures, arrivals and cancellations, as aircraft report them. For flights without a tail number the airport
//! they start from does what the aircraft would have done.

use lambda_statefun::{ContextError, prelude::*};
use serde::{Deserialize, Serialize};

use crate::{
    AIRPORT_FUNCTION, ON_FAILURE,
    messages::{Flight, Movement},
};

/// The numbers of an airport. Sums, so that means are exact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Airport {
    /// Flights that left from here.
    pub departures: u64,
    /// Flights from here that were cancelled.
    pub cancelled: u64,
    /// Flights that arrived here.
    pub arrivals: u64,
    /// Departures whose delay is known.
    pub delays: u64,
    /// The sum of these delays; flights that left early count against it.
    pub delay_minutes: i64,
    /// The greatest of these delays.
    pub worst_delay: Option<i32>,
}

impl Value for Airport {
    const TYPE_NAME: TypeName = TypeName::from_static("flights/airport-numbers");
    type Codec = Json;
}

/// The numbers of an airport.
pub const AIRPORT: ValueSpec<Airport> = ValueSpec::new("numbers");

impl Airport {
    fn count(&mut self, movement: &Movement) {
        match movement {
            Movement::Cancelled => self.cancelled += 1,
            Movement::Arrived => self.arrivals += 1,
            Movement::Departed { delay } => {
                self.departures += 1;
                self.delays += u64::from(delay.is_some());
                self.delay_minutes += i64::from(delay.unwrap_or(0));
                self.worst_delay = self.worst_delay.max(*delay);
            }
        }
    }
}

/// What an airport takes.
enum Message {
    /// A flight without a tail number that starts here.
    Flight(Flight),
    /// What an aircraft or another airport reports.
    Movement(Movement),
}

impl FromMessage for Message {
    fn accepts() -> Vec<Accepted> {
        vec![Accepted::of::<Flight>(), Accepted::of::<Movement>()]
    }

    fn from_message(message: &TypedValue) -> Result<Self, ContextError> {
        MatchType::new(message).case(Self::Flight)?.case(Self::Movement)?.finish()
    }
}

async fn handle(ctx: &mut Context, message: Message) -> Result<(), FunctionError> {
    let mut numbers = ctx.get(&AIRPORT)?.unwrap_or_default();
    match message {
        Message::Movement(movement) => numbers.count(&movement),
        Message::Flight(flight) => {
            numbers.count(&flight.departure());
            flight.tell_destination_and_route(ctx)?;
        }
    }
    ctx.set(&AIRPORT, numbers)?;
    Ok(())
}

/// The function `flights/airport`.
#[must_use]
pub fn airport() -> Function {
    Function::new(AIRPORT_FUNCTION, handle).state(&AIRPORT).on_failure(ON_FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Date, ROUTE_FUNCTION, messages::Leg};

    fn newark() -> TestContext {
        TestContext::new(airport(), "EWR")
    }

    #[test]
    fn counts_what_it_is_told() {
        let mut newark = newark();
        for delay in [Some(-5), Some(20), None] {
            assert!(newark.invoke(&Movement::Departed { delay }).unwrap().is_empty());
        }
        newark.invoke(&Movement::Cancelled).unwrap();
        newark.invoke(&Movement::Arrived).unwrap();
        let expected = Airport { departures: 3, cancelled: 1, arrivals: 1, delays: 2, delay_minutes: 15, worst_delay: Some(20) };
        assert_eq!(newark.get(&AIRPORT), Some(expected));
    }

    #[test]
    fn the_worst_delay_may_be_an_early_departure() {
        let mut newark = newark();
        newark.invoke(&Movement::Departed { delay: None }).unwrap();
        assert_eq!(newark.get(&AIRPORT).unwrap().worst_delay, None);
        newark.invoke(&Movement::Departed { delay: Some(-7) }).unwrap();
        assert_eq!(newark.get(&AIRPORT).unwrap().worst_delay, Some(-7));
    }

    #[test]
    fn passes_on_what_has_no_tail_number() {
        let mut newark = newark();
        let (date, origin, dest) = (Date::new(2013, 1, 1).unwrap(), "EWR".to_owned(), "IAH".to_owned());
        let flight = Flight {
            date,
            origin,
            dest,
            flown: true,
            arrived: true,
            dep_delay: Some(2),
            arr_delay: Some(11),
            air_time: Some(227),
        };
        let effects = newark.invoke(&flight).unwrap();
        assert_eq!(effects.sent_to::<Movement>((AIRPORT_FUNCTION, "IAH")), [Movement::Arrived]);
        assert_eq!(effects.sent_to::<Leg>((ROUTE_FUNCTION, "EWR-IAH")), [Leg { flown: true, air_time: Some(227) }]);
        assert_eq!(effects.sent.len(), 2);
        assert_eq!(newark.get(&AIRPORT).unwrap().departures, 1);
    }
}
