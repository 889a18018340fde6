//! A file as long as the whole year, made of the week: again and again, each time seven days later.

use std::io::{self, Write};

/// Rows of the year 2013 in nycflights13.
pub(crate) const YEAR_ROWS: usize = 336_776;

/// Writes `rows` rows after the week's header. Only the columns `year`, `month` and `day` change.
pub(crate) fn write(week: &str, rows: usize, out: &mut impl Write) -> io::Result<()> {
    let mut lines = week.lines();
    let header = lines.next().unwrap_or_default();
    let lines: Vec<&str> = lines.collect();
    write!(out, "{header}\r\n")?;
    for row in 0..rows {
        let (weeks_later, line) = (row / lines.len(), lines[row % lines.len()]);
        let mut fields = line.splitn(4, ',');
        let mut field = || fields.next().unwrap_or_default();
        let (year, month, day, rest) = (field(), field(), field(), field());
        let (year, month, day) = later(numbers([year, month, day]), 7 * weeks_later as u32);
        write!(out, "{year},{month},{day},{rest}\r\n")?;
    }
    Ok(())
}

fn numbers(fields: [&str; 3]) -> (u32, u32, u32) {
    let [year, month, day] = fields.map(|field| field.parse().unwrap_or_default());
    (year, month, day)
}

fn later((mut year, mut month, day): (u32, u32, u32), days: u32) -> (u32, u32, u32) {
    let mut day = day + days;
    while day > days_of(year, month) {
        day -= days_of(year, month);
        (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    }
    (year, month, day)
}

fn days_of(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}
