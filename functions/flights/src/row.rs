//! From a row of the file to a [`Flight`].

use std::borrow::Cow;

use crate::{AIRCRAFT_FUNCTION, AIRPORT_FUNCTION, date::Date, messages::Flight};

/// The columns that are needed. Others may be there, in any order.
pub const COLUMNS: [&str; 11] =
    ["year", "month", "day", "dep_time", "dep_delay", "arr_time", "arr_delay", "tailnum", "origin", "dest", "air_time"];

/// Bytes of a tail number or an airport's code at most. Real ones have 6 and 4; what is far longer is some other text.
const MAX_NAME_BYTES: usize = 64;

/// A row that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which aircraft flew; absent if the row does not say.
    pub tailnum: Option<String>,
    /// What is sent.
    pub flight: Flight,
}

impl Row {
    /// Function and id that the flight goes to: its aircraft, or else the airport it starts from.
    #[must_use]
    pub fn address(&self) -> (&'static str, &str) {
        match &self.tailnum {
            Some(tailnum) => (AIRCRAFT_FUNCTION, tailnum),
            None => (AIRPORT_FUNCTION, &self.flight.origin),
        }
    }
}

/// Reads a row, whose fields `field` gives by column. A value is missing if it is empty or `NA`.
///
/// # Errors
/// Why the row cannot be read.
pub fn read_row<'a>(field: impl Fn(&str) -> Option<Cow<'a, str>>) -> Result<Row, String> {
    let fields = Fields(|column: &str| match field(column) {
        Some(text) => Ok(text),
        None => Err(format!("there is no `{column}`")),
    });
    let date = date(fields.number("year")?, fields.number("month")?, fields.number("day")?)?;
    let flight = Flight {
        date,
        origin: fields.code("origin")?,
        dest: fields.code("dest")?,
        flown: fields.clock("dep_time")?,
        arrived: fields.clock("arr_time")?,
        dep_delay: fields.minutes("dep_delay")?,
        arr_delay: fields.minutes("arr_delay")?,
        air_time: match fields.minutes("air_time")? {
            Some(minutes) => Some(minutes.try_into().map_err(|_| format!("`air_time` is {minutes}, less than nothing"))?),
            None => None,
        },
    };
    Ok(Row { tailnum: fields.name("tailnum")?, flight })
}

/// The fields of a row by column.
struct Fields<F>(F);

impl<'a, F: Fn(&str) -> Result<Cow<'a, str>, String>> Fields<F> {
    /// The field's text; `None` if its value is missing.
    fn text(&self, column: &str) -> Result<Option<Cow<'a, str>>, String> {
        let text = (self.0)(column)?;
        Ok(Some(text).filter(|text| !matches!(text.trim(), "" | "NA")))
    }

    fn whole(&self, column: &str) -> Result<Option<i32>, String> {
        let Some(text) = self.text(column)? else { return Ok(None) };
        match parse_whole(text.trim()) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("`{column}` is `{}`, not a whole number", shown(&text))),
        }
    }

    fn number(&self, column: &str) -> Result<i32, String> {
        self.whole(column)?.ok_or_else(|| format!("`{column}` is missing"))
    }

    /// Minutes, within the years that anything could take.
    fn minutes(&self, column: &str) -> Result<Option<i32>, String> {
        const LIMIT: i32 = 10_000_000;
        match self.whole(column)? {
            Some(minutes) if !(-LIMIT..=LIMIT).contains(&minutes) => Err(format!("`{column}` is {minutes}, out of range")),
            minutes => Ok(minutes),
        }
    }

    /// Whether there is a time of day, written `1504`.
    fn clock(&self, column: &str) -> Result<bool, String> {
        let Some(time) = self.whole(column)? else { return Ok(false) };
        if !(0..=2400).contains(&time) || time % 100 >= 60 {
            return Err(format!("`{column}` is {time}, not a time of day"));
        }
        Ok(true)
    }

    /// A name of an instance.
    fn name(&self, column: &str) -> Result<Option<String>, String> {
        let Some(text) = self.text(column)? else { return Ok(None) };
        let name = text.trim();
        if name.len() > MAX_NAME_BYTES || name.chars().any(|char| char.is_control() || char.is_whitespace()) {
            return Err(format!("`{column}` is `{}`, not a name", shown(name)));
        }
        Ok(Some(name.to_owned()))
    }

    /// An airport's code. Without `-`, which stands between two of them in a route.
    fn code(&self, column: &str) -> Result<String, String> {
        let code = self.name(column)?.ok_or_else(|| format!("`{column}` is missing"))?;
        if code.contains('-') { Err(format!("`{column}` is `{code}`, not an airport's code")) } else { Ok(code) }
    }
}

/// A whole number; some programs write it `517.0`.
fn parse_whole(text: &str) -> Option<i32> {
    let whole = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() && fraction.bytes().all(|digit| digit == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    whole.parse().ok()
}

/// The beginning of a text, for a message.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

fn date(year: i32, month: i32, day: i32) -> Result<Date, String> {
    let date = || Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?);
    date().ok_or_else(|| format!("`{year}-{month}-{day}` is not a date"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [(&str, &str); 11] = [
        ("year", "2013"),
        ("month", "1"),
        ("day", "1"),
        ("dep_time", "517"),
        ("dep_delay", "2"),
        ("arr_time", "830"),
        ("arr_delay", "11"),
        ("tailnum", "N14228"),
        ("origin", "EWR"),
        ("dest", "IAH"),
        ("air_time", "227"),
    ];

    /// A good row with some fields changed.
    fn row(changes: &[(&str, &str)]) -> Result<Row, String> {
        read_row(|column| {
            let field = changes.iter().chain(&FIELDS).find(|(name, _)| *name == column)?;
            Some(Cow::Owned(field.1.to_owned()))
        })
    }

    fn reason(changes: &[(&str, &str)]) -> String {
        row(changes).unwrap_err()
    }

    #[test]
    fn a_row_is_read() {
        let flight = Flight {
            date: Date::new(2013, 1, 1).unwrap(),
            origin: "EWR".to_owned(),
            dest: "IAH".to_owned(),
            flown: true,
            arrived: true,
            dep_delay: Some(2),
            arr_delay: Some(11),
            air_time: Some(227),
        };
        let read = row(&[]).unwrap();
        assert_eq!(read.address(), (AIRCRAFT_FUNCTION, "N14228"));
        assert_eq!(read, Row { tailnum: Some("N14228".to_owned()), flight });
        assert_eq!(row(&[("dep_time", "517.0"), ("dep_delay", " 2 "), ("air_time", "227.00")]), row(&[]));
    }

    #[test]
    fn missing_values_are_empty_or_na() {
        for missing in ["", "NA", " "] {
            let columns = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum"];
            let read = row(&columns.map(|column| (column, missing))).unwrap();
            assert_eq!((read.address(), read.flight.flown, read.flight.arrived), ((AIRPORT_FUNCTION, "EWR"), false, false));
            assert_eq!((read.flight.dep_delay, read.flight.arr_delay, read.flight.air_time), (None, None, None));
            assert_eq!(reason(&[("origin", missing)]), "`origin` is missing");
            assert_eq!(reason(&[("year", missing)]), "`year` is missing");
        }
    }

    #[test]
    fn what_is_not_a_number_is_said() {
        assert_eq!(reason(&[("dep_delay", "late")]), "`dep_delay` is `late`, not a whole number");
        for text in ["1.5", "1.", ".0", "0x1", "1e3", "99999999999", "٣"] {
            assert!(reason(&[("arr_delay", text)]).ends_with("not a whole number"), "{text}");
        }
        assert_eq!(reason(&[("dep_delay", "10000001")]), "`dep_delay` is 10000001, out of range");
        assert_eq!(reason(&[("air_time", "-1")]), "`air_time` is -1, less than nothing");
    }

    #[test]
    fn times_of_day_and_dates_must_be_possible() {
        for time in ["2401", "1260", "-1"] {
            assert!(reason(&[("dep_time", time)]).ends_with("not a time of day"), "{time}");
        }
        assert!(row(&[("dep_time", "2400"), ("arr_time", "0")]).is_ok());
        for (month, day) in [("0", "1"), ("13", "1"), ("1", "0"), ("1", "32"), ("4", "31"), ("2", "29")] {
            assert_eq!(reason(&[("month", month), ("day", day)]), format!("`2013-{month}-{day}` is not a date"));
        }
        assert_eq!(reason(&[("year", "99999999")]), "`99999999-1-1` is not a date");
    }

    #[test]
    fn names_must_be_names() {
        assert_eq!(reason(&[("origin", "E-R")]), "`origin` is `E-R`, not an airport's code");
        assert_eq!(reason(&[("tailnum", "N1 4")]), "`tailnum` is `N1 4`, not a name");
        assert!(row(&[("tailnum", &"N".repeat(65))]).is_err());
    }

    #[test]
    fn a_column_that_is_not_there_is_said() {
        assert_eq!(read_row(|_| None).unwrap_err(), "there is no `year`");
    }
}
