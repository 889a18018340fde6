//! A door for the fuzz targets: rows as they are read, without a host around them.

use std::io::Read;

use super::{
    header::{Header, Needs, read_header},
    row::RowReader,
    split::{Format, Found, LineEnd, Place, Splitter},
};
use crate::error::InputError;

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRow {
    /// Where it begins.
    pub offset: u64,
    /// Its first line.
    pub line: u64,
    /// Its bytes.
    pub raw: Vec<u8>,
    /// Whether it cannot be right, whatever is in it.
    pub flawed: bool,
    /// It as JSON, or why it is refused.
    pub json: Result<String, String>,
}

/// All rows of an input.
#[derive(Debug)]
pub struct SeenRows {
    /// The rows.
    pub rows: Vec<SeenRow>,
    /// Bytes up to the end of the header; 0 if there is none.
    pub header_end: usize,
    /// Whether a carriage return alone ends a line.
    pub lone_returns: bool,
}

/// Reads an input to its end: of CSV the header, whose columns of these names are text, then the rows.
///
/// # Errors
/// If the header is refused, or the reader fails.
pub fn read_rows(format: Format, reader: impl Read, text: &[String]) -> Result<SeenRows, InputError> {
    let (mut rows, mut header) = (RowReader::new(format), Header::default());
    let mut splitter = Splitter::new(reader, format, Place::START);
    if rows.needs_header() {
        header = read_header("input", &mut splitter, &mut rows, &Needs::text(text))?;
    }
    let header_end = splitter.place().offset;
    let (rows, line_end) = collect(splitter, &mut rows, &header)?;
    Ok(SeenRows { rows, header_end: header_end as usize, lone_returns: line_end == LineEnd::Return })
}

/// The rows from a place (offset and line) on that was noted before, as after a restart: the header is read again.
///
/// # Errors
/// As [`read_rows`].
pub fn go_on(format: Format, input: &[u8], text: &[String], (offset, line): (u64, u64)) -> Result<Vec<SeenRow>, InputError> {
    let (mut rows, mut header) = (RowReader::new(format), Header::default());
    let mut splitter = Splitter::new(input, format, Place::START);
    if rows.needs_header() {
        header = read_header("input", &mut splitter, &mut rows, &Needs::text(text))?;
    }
    let rest = input.get(offset as usize..).unwrap_or_default();
    let rest = Splitter::new(rest, format, Place { offset, line }).with_line_end(splitter.line_end());
    Ok(collect(rest, &mut rows, &header)?.0)
}

fn collect<R: Read>(
    mut splitter: Splitter<R>,
    rows: &mut RowReader,
    header: &Header,
) -> Result<(Vec<SeenRow>, LineEnd), InputError> {
    let mut seen = Vec::new();
    loop {
        match splitter.next() {
            Found::Row(raw) => {
                let (place, bytes, flawed) = (raw.place, raw.bytes.to_vec(), raw.flaw.is_some());
                let json = rows.read(raw, header).map(|row| row.to_json());
                seen.push(SeenRow { offset: place.offset, line: place.line, raw: bytes, flawed, json });
            }
            Found::NeedsInput => {
                splitter.fill().map_err(|source| InputError::Read { name: "input".to_owned(), source })?;
            }
            Found::End => return Ok((seen, splitter.line_end())),
        }
    }
}
