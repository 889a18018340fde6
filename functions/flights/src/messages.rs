//! What aircraft, airports and routes are sent, and what comes out. All of it is JSON.

use lambda_statefun::{Context, FunctionError, Json, TypeName, Value};
use serde::{Deserialize, Serialize};

use crate::{AIRPORT_FUNCTION, ROUTE_FUNCTION, date::Date};

/// A departure, flown or cancelled: what a row says, as far as it is needed here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// Its date.
    pub date: Date,
    /// The code of the airport it starts from.
    pub origin: String,
    /// The code of the airport it goes to.
    pub dest: String,
    /// Whether it left; else it was cancelled.
    pub flown: bool,
    /// Whether it has a time of arrival.
    pub arrived: bool,
    /// Minutes it left late; negative if early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dep_delay: Option<i32>,
    /// Minutes it arrived late; negative if early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arr_delay: Option<i32>,
    /// Minutes in the air.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub air_time: Option<u32>,
}

impl Flight {
    /// Its route, `EWR-IAH`.
    #[must_use]
    pub fn route(&self) -> String {
        format!("{}-{}", self.origin, self.dest)
    }

    /// What its origin needs to know.
    #[must_use]
    pub fn departure(&self) -> Movement {
        if self.flown { Movement::Departed { delay: self.dep_delay } } else { Movement::Cancelled }
    }

    /// Informs its destination, if it arrived there, and its route.
    pub(crate) fn tell_destination_and_route(&self, ctx: &mut Context) -> Result<(), FunctionError> {
        if self.arrived {
            ctx.send((AIRPORT_FUNCTION, &self.dest), &Movement::Arrived)?;
        }
        ctx.send((ROUTE_FUNCTION, self.route()), &Leg { flown: self.flown, air_time: self.air_time })?;
        Ok(())
    }
}

impl Value for Flight {
    const TYPE_NAME: TypeName = TypeName::from_static("flights/flight");
    type Codec = Json;
}

/// What happened at an airport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Movement {
    /// A flight left from here.
    Departed {
        /// Minutes it was late, if they are known; negative if early.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delay: Option<i32>,
    },
    /// A flight from here was cancelled.
    Cancelled,
    /// A flight arrived here.
    Arrived,
}

impl Value for Movement {
    const TYPE_NAME: TypeName = TypeName::from_static("flights/movement");
    type Codec = Json;
}

/// What happened on a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// Whether it was flown; else it was cancelled.
    pub flown: bool,
    /// Minutes in the air, if they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub air_time: Option<u32>,
}

impl Value for Leg {
    const TYPE_NAME: TypeName = TypeName::from_static("flights/leg");
    type Codec = Json;
}

/// An aircraft has lost a lot of time on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The aircraft's tail number.
    pub tailnum: String,
    /// The date.
    pub date: Date,
    /// The delays of that date so far.
    pub delay_minutes: u64,
}

impl Value for Alert {
    const TYPE_NAME: TypeName = TypeName::from_static("flights/alert");
    type Codec = Json;
}
