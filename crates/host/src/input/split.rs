//! Cuts a stream of bytes into rows, in bounded memory, and knows the place of each: offset and line.

use std::io::{self, Read};

/// Bytes of one row at most. A message holds less; a mapping may make several messages of a row.
pub(crate) const MAX_ROW_BYTES: usize = 1 << 20;

/// Bytes kept of a row that is too long, for its dead letter.
const KEPT_BYTES: usize = 4 << 10;

const READ_BYTES: usize = 64 << 10;

/// The mark that some programs put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How an input is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header; a row goes on over line ends inside quotes.
    Csv,
    /// One JSON value per line.
    JsonLines,
}

/// A row as it stands in the input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawRow<'a> {
    /// Where it begins.
    pub(crate) place: Place,
    /// The row without its line end; only the beginning of it if it is too long.
    pub(crate) bytes: &'a [u8],
    /// It has more than [`MAX_ROW_BYTES`].
    pub(crate) too_long: bool,
}

/// A place between two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Bytes before it.
    pub(crate) offset: u64,
    /// The line that begins here, counted from 1.
    pub(crate) line: u64,
}

impl Place {
    pub(crate) const START: Self = Self { offset: 0, line: 1 };
}

/// What [`Splitter::next`] found.
pub(crate) enum Found<'a> {
    /// A row, never an empty one.
    Row(RawRow<'a>),
    /// No whole row is at hand; [`Splitter::fill`] reads on, which may take long.
    NeedsInput,
    /// There is no more.
    End,
}

/// Cuts what `reader` gives into rows.
pub(crate) struct Splitter<R> {
    reader: R,
    format: Format,
    state: State,
    /// Where the row at hand begins.
    place: Place,
    buffer: Vec<u8>,
    /// Where the row at hand begins in the buffer.
    head: usize,
    /// Up to where the buffer was searched for the row's end.
    scanned: usize,
    /// What was dropped from the end of a row that is too long: bytes and line ends.
    dropped: (u64, u64),
    at_end: bool,
}

impl<R: Read> Splitter<R> {
    /// Rows from `place` on, which is where the reader stands.
    pub(crate) fn new(reader: R, format: Format, place: Place) -> Self {
        let state = State::FieldStart;
        Self { reader, format, state, place, buffer: Vec::new(), head: 0, scanned: 0, dropped: (0, 0), at_end: false }
    }

    /// Where the next row begins.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Reads on. Call it after [`Found::NeedsInput`].
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.head);
        self.scanned -= self.head;
        self.head = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + READ_BYTES, 0);
        let result = loop {
            match self.reader.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(filled + *result.as_ref().unwrap_or(&0));
        self.at_end = result? == 0;
        Ok(())
    }

    /// The next row that is not empty.
    pub(crate) fn next(&mut self) -> Found<'_> {
        loop {
            let end = match self.row_end() {
                Some(end) => end,
                None if !self.at_end => return Found::NeedsInput,
                None if self.head == self.buffer.len() => return Found::End,
                None => self.buffer.len(),
            };
            let (start, place) = (self.head, self.place);
            let (dropped, dropped_lines) = std::mem::take(&mut self.dropped);
            self.place.offset += dropped + (end - start) as u64;
            self.place.line += dropped_lines + lines(&self.buffer[start..end]);
            (self.head, self.scanned, self.state) = (end, end, State::FieldStart);

            let mark =
                if place.offset == 0 && self.buffer[start..end].starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
            let length = without_line_end(&self.buffer[start + mark..end]).len();
            if self.is_empty(&self.buffer[start + mark..start + mark + length]) {
                continue;
            }
            let too_long = dropped > 0 || length > MAX_ROW_BYTES;
            let row = &self.buffer[start + mark..start + mark + length];
            let bytes = if too_long { beginning(row) } else { row };
            return Found::Row(RawRow { place, bytes, too_long });
        }
    }

    /// The end of the row at hand in the buffer, line end included.
    fn row_end(&mut self) -> Option<usize> {
        let ahead = &self.buffer[self.scanned..];
        let length = match self.format {
            Format::JsonLines => memchr::memchr(b'\n', ahead).map(|index| index + 1),
            Format::Csv => self.state.row_end(ahead),
        };
        if let Some(length) = length {
            return Some(self.scanned + length);
        }
        if self.buffer.len() - self.head > MAX_ROW_BYTES + 2 {
            let keep = self.head + KEPT_BYTES;
            self.dropped.0 += (self.buffer.len() - keep) as u64;
            self.dropped.1 += lines(&self.buffer[keep..]);
            self.buffer.truncate(keep);
        }
        self.scanned = self.buffer.len();
        None
    }

    fn is_empty(&self, row: &[u8]) -> bool {
        match self.format {
            Format::Csv => row.is_empty(),
            Format::JsonLines => row.iter().all(u8::is_ascii_whitespace),
        }
    }
}

/// What is kept of a row that is too long. A character that the cut goes through is left out: text stays text.
fn beginning(row: &[u8]) -> &[u8] {
    let kept = &row[..row.len().min(KEPT_BYTES)];
    match std::str::from_utf8(kept) {
        Err(error) if error.error_len().is_none() => &kept[..error.valid_up_to()],
        _ => kept,
    }
}

fn lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

fn without_line_end(row: &[u8]) -> &[u8] {
    let row = row.strip_suffix(b"\n").unwrap_or(row);
    row.strip_suffix(b"\r").unwrap_or(row)
}

/// Where in a CSV row the search stands: a line end inside quotes ends nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote inside quotes: the end of them, unless a second one follows.
    QuoteInQuoted,
}

impl State {
    /// The bytes up to the row's end, line end included.
    fn row_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut index = 0;
        while let Some(&byte) = bytes.get(index) {
            index += 1;
            *self = match (*self, byte) {
                (Self::Quoted, b'"') => Self::QuoteInQuoted,
                (Self::Quoted, _) => Self::Quoted,
                (Self::QuoteInQuoted | Self::FieldStart, b'"') => Self::Quoted,
                (_, b'\n') => return Some(index),
                (_, b',') => Self::FieldStart,
                _ => Self::Plain,
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time, so that every boundary falls everywhere.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn rows(text: &[u8], format: Format, step: usize) -> Vec<(u64, u64, String, bool)> {
        let mut splitter = Splitter::new(Drip(text, step), format, Place::START);
        let mut rows = Vec::new();
        loop {
            match splitter.next() {
                Found::Row(RawRow { place, bytes, too_long }) => {
                    rows.push((place.offset, place.line, String::from_utf8_lossy(bytes).into_owned(), too_long));
                }
                Found::NeedsInput => splitter.fill().unwrap(),
                Found::End => {
                    assert_eq!(splitter.place().offset, text.len() as u64);
                    return rows;
                }
            }
        }
    }

    #[test]
    fn places_are_exact_however_the_bytes_arrive() {
        let text = b"\xef\xbb\xbfa,b\r\n\r\n1,\"x\ny \"\" , z\"\r\n\n2,\"q\"\n3,it\"s";
        for step in [1, 2, 3, 7, 1_000] {
            let rows = rows(text, Format::Csv, step);
            let places: Vec<_> = rows.iter().map(|(offset, line, ..)| (*offset, *line)).collect();
            assert_eq!(places, [(0, 1), (10, 3), (27, 6), (33, 7)], "step {step}");
            let texts: Vec<_> = rows.iter().map(|(_, _, text, _)| text.as_str()).collect();
            assert_eq!(texts, ["a,b", "1,\"x\ny \"\" , z\"", "2,\"q\"", "3,it\"s"]);
        }
    }

    #[test]
    fn json_lines_do_not_care_about_quotes() {
        let rows = rows(b"{\"a\":\"\n  \n}\"\n", Format::JsonLines, 4);
        assert_eq!(
            rows.iter().map(|(_, line, text, _)| (*line, text.as_str())).collect::<Vec<_>>(),
            [(1, "{\"a\":\""), (3, "}\"")]
        );
    }

    #[test]
    fn of_a_row_that_is_too_long_whole_characters_are_kept() {
        for (text, kept) in [("x", KEPT_BYTES), ("ä", KEPT_BYTES - 1), ("\u{1f600}", KEPT_BYTES - 3)] {
            let long = format!("{}{}\n", if text == "x" { "" } else { "x" }, text.repeat(MAX_ROW_BYTES + 1));
            let rows = rows(long.as_bytes(), Format::JsonLines, 1 << 20);
            assert!(rows[0].3 && rows[0].2.len() == kept && !rows[0].2.contains('\u{fffd}'), "{}", rows[0].2.len());
        }
    }

    #[test]
    fn a_row_that_is_too_long_is_passed_in_bounded_memory() {
        let long = format!("a\n\"{}\"\nb\n", "x\n".repeat(1 << 20));
        for step in [1_000, 1 << 20] {
            let rows = rows(long.as_bytes(), Format::Csv, step);
            assert_eq!(rows.len(), 3);
            assert!(rows[1].3 && rows[1].2.len() == KEPT_BYTES);
            assert_eq!((rows[2].1, rows[2].2.as_str(), rows[2].3), (3 + (1 << 20), "b", false));
        }
        let mut splitter = Splitter::new(Drip(long.as_bytes(), 1 << 16), Format::Csv, Place::START);
        let mut most = 0;
        while !matches!(splitter.next(), Found::End) {
            splitter.fill().unwrap();
            most = most.max(splitter.buffer.len());
        }
        assert!(most <= MAX_ROW_BYTES + 2 * READ_BYTES, "{most}");
    }
}
