//! Rows of CSV and of lines of JSON.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Read},
};

use fastrand::Rng;
use serde_json::Value;
use statefun_host::{
    Format,
    fuzzing::{SeenRow, SeenRows, go_on, read_rows},
};

use super::{ensure, shape, some};
use crate::{Check, Target};

pub(crate) const CSV: Target = Target {
    name: "csv",
    words: &[
        "id,n\n", "\"a\n\"", "\"\"", "\"", ",", "\r", "\u{feff}", "12E4567", "true", "007", "-0.5e3", "\"a\"b", "1e999", " \"x\"",
    ],
    start: || -> Check { Box::new(csv) },
};

pub(crate) const JSON_LINES: Target = Target {
    name: "json-lines",
    words: &[
        "{\"id\":1}\n",
        "{\"n\":1e400}",
        "\"\\ud800\"",
        "{\"id\":\"a\",\"id\":\"b\"}",
        "[1,2]",
        "\u{feff}",
        "[[[[[[[[",
        "{\"\":{}}",
    ],
    start: || -> Check { Box::new(json_lines) },
};

/// Gives a few bytes at a time.
struct Pieces<'a>(&'a [u8], Rng);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.1.usize(1..8).min(buffer.len()).min(self.0.len());
        let (now, later) = self.0.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.0 = later;
        Ok(count)
    }
}

fn csv(input: &[u8]) -> Result<String, String> {
    let seen = match read(Format::Csv, input, &[])? {
        Ok(seen) => seen,
        Err(error) => return Ok(shape(&error)),
    };
    // A carriage return alone ends a row here only if the first one of the input does: others are asked only where there is none.
    let names = first_record(input).filter(|_| !input.contains(&b'\r'));
    for row in &seen.rows {
        let Ok(json) = &row.json else { continue };
        let object: BTreeMap<String, Value> =
            serde_json::from_str(json).map_err(|error| format!("the row becomes {json}, which is not JSON: {error}"))?;
        ensure(names.as_ref().is_none_or(|names| names.len() == object.len()), || format!("{json} has not the header's fields"))?;
    }
    let told = seen.rows.iter().filter_map(|row| row.json.as_ref().err()).map(|error| shape(error)).collect::<Vec<_>>();
    if let Some(names) = names
        && seen.rows.iter().all(|row| !row.flawed)
    {
        as_others_read(input, &names)?;
    }
    Ok(format!("{} {} {}", some(seen.rows.len()), seen.lone_returns, told.into_iter().take(2).collect::<String>()))
}

/// The header, if it can be read as text.
fn first_record(input: &[u8]) -> Option<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input);
    let record = reader.records().next()?.ok()?;
    Some(record.iter().map(str::to_owned).collect())
}

/// A whole file read by a reader of files has the same rows.
fn as_others_read(input: &[u8], names: &[String]) -> Result<(), String> {
    // As text each field is what stands there.
    let Ok(seen) = read(Format::Csv, input, names)? else { return Ok(()) };
    let mut reader = csv::ReaderBuilder::new().has_headers(true).flexible(true).from_reader(input);
    let theirs = reader.byte_records().map(|record| record.map_err(|error| error.to_string())).collect::<Result<Vec<_>, _>>()?;
    ensure(theirs.len() == seen.rows.len(), || format!("{} rows, others read {}", seen.rows.len(), theirs.len()))?;
    for (row, record) in seen.rows.iter().zip(theirs) {
        let fields: Option<Vec<_>> = record.iter().map(|field| std::str::from_utf8(field).ok()).collect();
        let expected = fields.filter(|fields| fields.len() == names.len());
        match (&row.json, expected) {
            (Ok(json), Some(fields)) => {
                let ours: BTreeMap<String, String> = serde_json::from_str(json).map_err(|error| format!("{json}: {error}"))?;
                let theirs = names.iter().cloned().zip(fields.into_iter().map(str::to_owned)).collect();
                ensure(ours == theirs, || format!("{ours:?}, others read {theirs:?}"))?;
            }
            (Err(_), None) => {}
            (ours, theirs) => return Err(format!("{ours:?}, others read {theirs:?}")),
        }
    }
    Ok(())
}

fn json_lines(input: &[u8]) -> Result<String, String> {
    let seen = match read(Format::JsonLines, input, &[])? {
        Ok(seen) => seen,
        Err(error) => return Err(format!("lines of JSON have no header: {error}")),
    };
    let text = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let lines: Vec<_> = text.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)).collect();
    ensure(lines.len() == seen.rows.len(), || format!("{} rows of {} lines", seen.rows.len(), lines.len()))?;
    for (row, line) in seen.rows.iter().zip(lines) {
        let expected = serde_json::from_slice::<Value>(line);
        match (&row.json, expected) {
            (Ok(json), Ok(expected)) => {
                let value: Value = serde_json::from_str(json).map_err(|error| format!("{json}: {error}"))?;
                ensure(value == expected, || format!("{value} of {expected}"))?;
            }
            (Err(_), Err(_)) => {}
            (ours, theirs) => return Err(format!("{ours:?}, others read {theirs:?}")),
        }
    }
    let told = seen.rows.iter().filter_map(|row| row.json.as_ref().err()).map(|error| shape(error));
    Ok(format!("{} {}", some(seen.rows.len()), told.take(2).collect::<String>()))
}

/// Reads an input, and checks what holds for any format. The inner error is a header's.
fn read(format: Format, input: &[u8], text: &[String]) -> Result<Result<SeenRows, String>, String> {
    let whole = read_rows(format, input, text);
    let pieces = read_rows(format, Pieces(input, Rng::with_seed(input.len() as u64)), text);
    let seen = match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => {
            ensure(whole.rows == pieces.rows, || format!("{:?}, but in pieces {:?}", whole.rows, pieces.rows))?;
            whole
        }
        (Err(whole), Err(pieces)) => {
            ensure(whole.to_string() == pieces.to_string(), || format!("{whole}, but in pieces {pieces}"))?;
            return Ok(Err(whole.to_string()));
        }
        (whole, pieces) => {
            return Err(format!("{:?}, but in pieces {:?}", whole.map(|seen| seen.rows), pieces.map(|seen| seen.rows)));
        }
    };
    places(input, &seen)?;
    going_on(format, input, text, &seen)?;
    Ok(Ok(seen))
}

/// Rows are in the input where they say they are, one after the other, with nothing but line ends between them.
fn places(input: &[u8], seen: &SeenRows) -> Result<(), String> {
    let mut end = seen.header_end;
    let mut lines = HashMap::from([(0, 1)]);
    let mut line = 1;
    for (index, byte) in input.iter().enumerate() {
        let alone = *byte == b'\r' && seen.lone_returns && input.get(index + 1) != Some(&b'\n');
        line += u64::from(*byte == b'\n' || alone);
        lines.insert(index as u64 + 1, line);
    }
    for SeenRow { offset, line, raw, json, .. } in &seen.rows {
        let at = usize::try_from(*offset).unwrap_or(usize::MAX);
        let between = input.get(end..at).ok_or_else(|| format!("a row at {offset}, before the end of another at {end}"))?;
        let between = if end == 0 { between.strip_prefix(b"\xef\xbb\xbf").unwrap_or(between) } else { between };
        ensure(between.iter().all(u8::is_ascii_whitespace), || {
            format!("bytes between rows are lost: {}", between.escape_ascii())
        })?;
        let mark = if at == 0 && input.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        end = at + mark + raw.len();
        ensure(input.get(at + mark..end) == Some(raw), || format!("at {offset} there is not {}", raw.escape_ascii()))?;
        ensure(lines.get(offset) == Some(line), || {
            format!("the row at {offset} is in line {:?}, not {line}", lines.get(offset))
        })?;
        ensure(json.as_ref().err().is_none_or(|error| !error.is_empty()), || "a refusal without a word".to_owned())?;
    }
    let rest = input.get(end..).unwrap_or_default();
    let rest = if end == 0 { rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rest) } else { rest };
    ensure(rest.iter().all(u8::is_ascii_whitespace), || format!("the end is lost: {}", rest.escape_ascii()))
}

/// Whoever goes on at a row, as after a restart, sees the same rest.
fn going_on(format: Format, input: &[u8], text: &[String], seen: &SeenRows) -> Result<(), String> {
    for index in 0..seen.rows.len() {
        let rest = go_on(format, input, text, (seen.rows[index].offset, seen.rows[index].line));
        let rest = rest.map_err(|error| format!("going on at row {index}: {error}"))?;
        ensure(rest == seen.rows[index..], || format!("going on at row {index}: {rest:?}, not {:?}", &seen.rows[index..]))?;
        // Long inputs have many rows, and one place is like another.
        if index > 8 {
            break;
        }
    }
    Ok(())
}
