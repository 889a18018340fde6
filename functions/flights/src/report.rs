//! All numbers together, as `--report` writes them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{aircraft::Aircraft, airport::Airport, route::Route};

/// Everything the instances know.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// By tail number.
    pub aircraft: BTreeMap<String, AircraftReport>,
    /// By code.
    pub airports: BTreeMap<String, AirportReport>,
    /// By `EWR-IAH`.
    pub routes: BTreeMap<String, RouteReport>,
    /// Records of the egress `flights/alerts`.
    pub alerts: u64,
    /// Rows that could not be read, and messages that were given up.
    pub dead_letters: u64,
}

/// What the report has of an aircraft: all that it keeps.
pub type AircraftReport = Aircraft;

/// What the report has of an airport.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AirportReport {
    /// Flights that left from here.
    pub departures: u64,
    /// Flights from here that were cancelled.
    pub cancelled: u64,
    /// Flights that arrived here.
    pub arrivals: u64,
    /// The mean delay of its departures, in minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_departure_delay: Option<f64>,
    /// The greatest delay of a departure, in minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_departure_delay: Option<i32>,
}

/// What the report has of a route.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouteReport {
    /// Flights flown.
    pub flown: u64,
    /// Flights cancelled.
    pub cancelled: u64,
    /// The mean time in the air, in minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_air_time: Option<f64>,
}

impl From<Airport> for AirportReport {
    fn from(airport: Airport) -> Self {
        Self {
            departures: airport.departures,
            cancelled: airport.cancelled,
            arrivals: airport.arrivals,
            mean_departure_delay: mean(airport.delay_minutes, airport.delays),
            worst_departure_delay: airport.worst_delay,
        }
    }
}

impl From<Route> for RouteReport {
    fn from(route: Route) -> Self {
        let sum = i64::try_from(route.air_minutes).unwrap_or(i64::MAX);
        Self { flown: route.flown, cancelled: route.cancelled, mean_air_time: mean(sum, route.timed) }
    }
}

/// `sum` over `count` to six decimals, halves to the even side; `None` of nothing.
#[must_use]
pub fn mean(sum: i64, count: u64) -> Option<f64> {
    const MILLION: i128 = 1_000_000;
    let (scaled, count) = (i128::from(sum) * MILLION, i128::from(count));
    let (below, rest) = (scaled.checked_div_euclid(count)?, scaled.checked_rem_euclid(count)?);
    let up = 2 * rest > count || (2 * rest == count && below % 2 != 0);
    Some((below + i128::from(up)) as f64 / MILLION as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_have_six_decimals() {
        assert_eq!(mean(0, 0), None);
        assert_eq!(mean(2, 3), Some(0.666_667));
        assert_eq!(mean(-2, 3), Some(-0.666_667));
        assert_eq!(mean(1, 128), Some(0.007_812));
        assert_eq!(mean(3, 128), Some(0.023_438));
        assert_eq!(mean(-1, 128), Some(-0.007_812));
        assert_eq!(mean(24, 2), Some(12.0));
    }

    #[test]
    fn what_cannot_be_averaged_is_absent() {
        let airport = Airport { departures: 1, ..Airport::default() };
        let json = serde_json::to_string(&AirportReport::from(airport)).unwrap();
        assert_eq!(json, r#"{"departures":1,"cancelled":0,"arrivals":0}"#);
        let route = Route { flown: 2, timed: 2, air_minutes: 5, ..Route::default() };
        let json = serde_json::to_string(&RouteReport::from(route)).unwrap();
        assert_eq!(json, r#"{"flown":2,"cancelled":0,"mean_air_time":2.5}"#);
    }

    #[test]
    fn an_aircraft_is_told_as_it_is_kept() {
        let aircraft = Aircraft { flown: 1, cancelled: 2, delay_minutes: 3, knock_on: 4 };
        let json = serde_json::to_string(&aircraft).unwrap();
        assert_eq!(json, r#"{"flown":1,"cancelled":2,"delay_minutes":3,"knock_on":4}"#);
    }
}
