//! The same figures, worked out straight from the file: no engine, no messages, none of the example's own code.
//!
//! The file's fields are never quoted, so that a row is what stands between commas.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};

type Fields<'a> = HashMap<&'a str, &'a str>;

/// What `--report` should write for this text.
pub(crate) fn report(csv: &str) -> Value {
    let mut lines = csv.lines();
    let header: Vec<_> = lines.next().unwrap().split(',').collect();
    let rows: Vec<Fields<'_>> = lines.map(|line| header.iter().copied().zip(line.split(',')).collect()).collect();
    json!({
        "aircraft": aircraft(&rows),
        "airports": airports(&rows),
        "routes": routes(&rows),
        "alerts": alerts(&rows),
        "dead_letters": 0,
    })
}

fn has(row: &Fields<'_>, column: &str) -> bool {
    !matches!(row[column], "" | "NA")
}

fn number(row: &Fields<'_>, column: &str) -> Option<i64> {
    has(row, column).then(|| row[column].parse().unwrap())
}

fn is_flown(row: &Fields<'_>) -> bool {
    has(row, "dep_time")
}

fn date(row: &Fields<'_>) -> (i64, i64, i64) {
    (number(row, "year").unwrap(), number(row, "month").unwrap(), number(row, "day").unwrap())
}

fn positive_delay(row: &Fields<'_>) -> i64 {
    number(row, "dep_delay").unwrap_or(0).max(0)
}

/// The rows of each aircraft, in the order of the file.
fn by_aircraft<'r, 'a>(rows: &'r [Fields<'a>]) -> BTreeMap<&'a str, Vec<&'r Fields<'a>>> {
    let mut by: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows.iter().filter(|row| has(row, "tailnum")) {
        by.entry(row["tailnum"]).or_default().push(row);
    }
    by
}

fn aircraft(rows: &[Fields<'_>]) -> Value {
    let numbers = |rows: &Vec<&Fields<'_>>| {
        let flown: Vec<_> = rows.iter().filter(|row| is_flown(row)).collect();
        let knocks_on = |(index, row): &(usize, &&&Fields<'_>)| {
            let previous = flown[..*index].iter().rfind(|other| date(other) == date(row));
            let late = |row: &Fields<'_>, column: &str| number(row, column).is_some_and(|minutes| minutes > 15);
            late(row, "dep_delay") && previous.is_some_and(|previous| late(previous, "arr_delay"))
        };
        json!({
            "flown": flown.len(),
            "cancelled": rows.len() - flown.len(),
            "delay_minutes": flown.iter().map(|row| positive_delay(row)).sum::<i64>(),
            "knock_on": flown.iter().enumerate().filter(knocks_on).count(),
        })
    };
    object(by_aircraft(rows).into_iter().map(|(tailnum, rows)| (tailnum.to_owned(), numbers(&rows))))
}

fn alerts(rows: &[Fields<'_>]) -> usize {
    let mut delays: BTreeMap<_, i64> = BTreeMap::new();
    for row in rows.iter().filter(|row| has(row, "tailnum") && is_flown(row)) {
        *delays.entry((row["tailnum"], date(row))).or_default() += positive_delay(row);
    }
    delays.values().filter(|minutes| **minutes > 300).count()
}

/// Airports that a row names as its origin, or as where it arrived.
fn airports(rows: &[Fields<'_>]) -> Value {
    let arrived = |row: &&Fields<'_>| has(row, "arr_time");
    let origins = rows.iter().map(|row| row["origin"]);
    let codes: BTreeSet<_> = origins.chain(rows.iter().filter(arrived).map(|row| row["dest"])).collect();
    let numbers = |code: &str| {
        let (flown, cancelled): (Vec<_>, Vec<_>) = rows.iter().filter(|row| row["origin"] == code).partition(|row| is_flown(row));
        let delays: Vec<_> = flown.iter().filter_map(|row| number(row, "dep_delay")).collect();
        let mut numbers = json!({
            "departures": flown.len(),
            "cancelled": cancelled.len(),
            "arrivals": rows.iter().filter(arrived).filter(|row| row["dest"] == code).count(),
        });
        if let Some(worst) = delays.iter().max() {
            numbers["mean_departure_delay"] = mean(&delays);
            numbers["worst_departure_delay"] = json!(worst);
        }
        numbers
    };
    object(codes.into_iter().map(|code| (code.to_owned(), numbers(code))))
}

fn routes(rows: &[Fields<'_>]) -> Value {
    let mut by: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        by.entry(format!("{}-{}", row["origin"], row["dest"])).or_default().push(row);
    }
    let numbers = |rows: Vec<&Fields<'_>>| {
        let flown = rows.iter().filter(|row| is_flown(row)).count();
        let times: Vec<_> = rows.iter().filter_map(|row| number(row, "air_time")).collect();
        let mut numbers = json!({ "flown": flown, "cancelled": rows.len() - flown });
        if !times.is_empty() {
            numbers["mean_air_time"] = mean(&times);
        }
        numbers
    };
    object(by.into_iter().map(|(route, rows)| (route, numbers(rows))))
}

fn mean(values: &[i64]) -> Value {
    let mean = values.iter().sum::<i64>() as f64 / values.len() as f64;
    json!(format!("{mean:.6}").parse::<f64>().unwrap())
}

fn object(members: impl Iterator<Item = (String, Value)>) -> Value {
    Value::Object(members.collect::<Map<_, _>>())
}
