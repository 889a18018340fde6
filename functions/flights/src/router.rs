//! The flights' router: what a record becomes, a row of a file as well as one of the stream.

use std::borrow::Cow;

use lambda_statefun::{IngressRecord, RouteError, Routed};
use serde_json::{Map, Value};

use crate::read_row;

/// A flight, for its aircraft or the airport it starts from. The record is a JSON object of a row's columns.
///
/// # Errors
/// Why the row cannot be read.
pub fn route(record: &IngressRecord) -> Result<Vec<Routed>, RouteError> {
    let columns: Map<String, Value> = record.json()?;
    let row = read_row(|column| columns.get(column).map(field)).map_err(RouteError::new)?;
    Ok(vec![Routed::new(row.address(), &row.flight)?])
}

/// A column as a CSV file has it: numbers may be numbers, and what is missing `null`.
fn field(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use lambda_statefun::Timestamp;

    use super::*;
    use crate::Flight;

    const ROW: &str = r#"{"year":2013,"month":"1","day":1,"dep_time":517,"dep_delay":2.0,"arr_time":830,"arr_delay":11,
        "tailnum":"N14228","origin":"EWR","dest":"IAH","air_time":227,"carrier":"UA"}"#;

    fn routed(row: &str) -> Result<Routed, RouteError> {
        route(&IngressRecord::new("flights/departures", "departures", "1", Timestamp(1), row.to_owned()))
            .map(|mut all| all.remove(0))
    }

    #[test]
    fn a_row_goes_to_its_aircraft_or_airport() {
        let first = routed(ROW).unwrap();
        assert_eq!(first.to.to_string(), "flights/aircraft/N14228");
        let flight: Flight = first.value.get().unwrap().unwrap();
        assert_eq!((flight.dep_delay, flight.arr_delay, flight.air_time), (Some(2), Some(11), Some(227)));
        for missing in ["null", "\"\"", "\"NA\""] {
            let other = routed(&ROW.replace("\"N14228\"", missing)).unwrap();
            assert_eq!(other.to.to_string(), "flights/airport/EWR");
        }
    }

    #[test]
    fn what_is_not_a_row_has_a_reason() {
        assert!(routed("{}").unwrap_err().reason().contains("there is no `year`"));
        assert!(routed(&ROW.replace("2.0", "\"late\"")).unwrap_err().reason().contains("not a whole number"));
        assert!(routed("[1]").unwrap_err().reason().contains("JSON"));
    }
}
