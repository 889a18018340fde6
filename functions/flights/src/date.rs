//! A day of the calendar. In messages and state it is text, `2013-01-01`.

use std::{fmt, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// The date, if there is such a day.
    #[must_use]
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let days = match month {
            4 | 6 | 9 | 11 => 30,
            2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
            2 => 28,
            1..=12 => 31,
            _ => 0,
        };
        ((1..=9999).contains(&year) && (1..=days).contains(&day)).then_some(Self { year, month, day })
    }

    /// As text. Written digit by digit, since an aircraft has hundreds of dates.
    fn text(self) -> [u8; 10] {
        let digit = |number: u16| b'0' + (number % 10) as u8;
        let (year, month, day) = (self.year, u16::from(self.month), u16::from(self.day));
        let [y, m, d] =
            [year, month, day].map(|number| [digit(number / 1000), digit(number / 100), digit(number / 10), digit(number)]);
        [y[0], y[1], y[2], y[3], b'-', m[2], m[3], b'-', d[2], d[3]]
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

/// A text is not a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a date: write 2013-01-01")]
pub struct InvalidDate;

impl FromStr for Date {
    type Err = InvalidDate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let &[a, b, c, d, b'-', e, f, b'-', g, h] = text.as_bytes() else { return Err(InvalidDate) };
        let digits = [a, b, c, d, e, f, g, h];
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(InvalidDate);
        }
        let [a, b, c, d, e, f, g, h] = digits.map(|digit| digit - b'0');
        let year = [a, b, c, d].into_iter().fold(0, |year, digit| 10 * year + u16::from(digit));
        Self::new(year, 10 * e + f, 10 * g + h).ok_or(InvalidDate)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Reads the text where it stands.
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Date;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a date such as 2013-01-01")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Date, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn days_there_are() {
        for (year, month, day) in [(2013, 1, 1), (2013, 12, 31), (2012, 2, 29), (2000, 2, 29), (2013, 4, 30)] {
            let date = Date::new(year, month, day).unwrap();
            assert_eq!(date.to_string().parse(), Ok(date));
        }
        for (year, month, day) in
            [(0, 1, 1), (2013, 0, 1), (2013, 13, 1), (2013, 1, 0), (2013, 1, 32), (2013, 4, 31), (1900, 2, 29)]
        {
            assert_eq!(Date::new(year, month, day), None, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn it_is_text_also_as_a_key() {
        let dates = BTreeMap::from([(Date::new(2013, 1, 2).unwrap(), 3)]);
        let json = serde_json::to_string(&dates).unwrap();
        assert_eq!(json, r#"{"2013-01-02":3}"#);
        assert_eq!(serde_json::from_str::<BTreeMap<Date, i32>>(&json).unwrap(), dates);
        for bad in ["\"\"", "\"2013-01\"", "\"2013-02-30\"", "\"1-1-1-1\"", "\"2013-1-01\"", "\"2013-01-0a\"", "20130101"] {
            assert!(serde_json::from_str::<Date>(bad).is_err(), "{bad}");
        }
    }
}
