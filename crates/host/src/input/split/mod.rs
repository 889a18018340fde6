//! Cuts a stream of bytes into rows, in bounded memory, and knows the place of each: offset and line.

mod scan;

use std::io::{self, Read};

pub(crate) use scan::{Flaw, LineEnd};
use scan::{Scan, State};

/// Bytes of one row at most. A message holds less; a mapping may make several messages of a row.
pub(crate) const MAX_ROW_BYTES: usize = 1 << 20;

/// Bytes kept of a row that is too long, for its dead letter.
const KEPT_BYTES: usize = 4 << 10;

const READ_BYTES: usize = 64 << 10;

/// The mark that some programs put before UTF-8.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

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
    /// Why it cannot be right, whatever is in it.
    pub(crate) flaw: Option<Flaw>,
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
    scan: Scan,
    /// Whether the reader may give more after its end.
    grows: bool,
    /// Whether the last row had a line end.
    ended: bool,
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
        Self {
            reader,
            format,
            scan: Scan::default(),
            grows: false,
            ended: true,
            place,
            buffer: Vec::new(),
            head: 0,
            scanned: 0,
            dropped: (0, 0),
            at_end: false,
        }
    }

    /// Rows end as another splitter saw it in the header of the same file.
    pub(crate) fn with_line_end(mut self, line_end: LineEnd) -> Self {
        self.scan.line_end = line_end;
        self
    }

    /// After the reader's end more may come: a row without its line end is not complete, and the input never ends.
    pub(crate) fn growing(mut self, grows: bool) -> Self {
        self.grows = grows;
        self
    }

    /// How lines end, as far as that was seen.
    pub(crate) fn line_end(&self) -> LineEnd {
        self.scan.line_end
    }

    /// Whether the last row had a line end. If not, it was complete because the input ended.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether the reader may give more after its end.
    pub(crate) fn grows(&self) -> bool {
        self.grows
    }

    /// Whether the reader had no more.
    pub(crate) fn at_end(&self) -> bool {
        self.at_end
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
            if !self.pass_mark() {
                return Found::NeedsInput;
            }
            let found = self.row_end();
            let end = match found {
                Some(end) => end,
                None if !self.at_end || self.grows => return Found::NeedsInput,
                None if self.head == self.buffer.len() => return Found::End,
                None => self.buffer.len(),
            };
            let (start, place) = (self.head, self.place);
            let (dropped, dropped_lines) = std::mem::take(&mut self.dropped);
            self.place.offset += dropped + (end - start) as u64;
            self.place.line += dropped_lines + self.scan.lines(&self.buffer[start..end]);
            self.ended = found.is_some() || self.scan.state == State::AfterReturn;
            let flaw = self.scan.flaw();
            self.scan.begin_row();
            (self.head, self.scanned) = (end, end);

            let mark =
                if place.offset == 0 && self.buffer[start..end].starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
            let length = without_line_end(&self.buffer[start + mark..end]).len();
            if self.is_empty(&self.buffer[start + mark..start + mark + length]) {
                // Nothing was taken that could go on.
                self.ended = true;
                continue;
            }
            let too_long = dropped > 0 || length > MAX_ROW_BYTES;
            let row = &self.buffer[start + mark..start + mark + length];
            let bytes = if too_long { beginning(row) } else { row };
            let flaw = if too_long { Some(Flaw::TooLong) } else { flaw.filter(|_| self.format == Format::Csv) };
            return Found::Row(RawRow { place, bytes, flaw });
        }
    }

    /// Passes the mark at the beginning of the input: what follows it begins a field. Returns whether enough is at hand for that.
    fn pass_mark(&mut self) -> bool {
        if self.place.offset > 0 || self.scanned > self.head {
            return true;
        }
        let start = &self.buffer[self.head..];
        if start.len() < BYTE_ORDER_MARK.len() && !self.at_end && BYTE_ORDER_MARK.starts_with(start) {
            return false;
        }
        if start.starts_with(BYTE_ORDER_MARK) {
            self.scanned = self.head + BYTE_ORDER_MARK.len();
        }
        true
    }

    /// The end of the row at hand in the buffer, line end included.
    fn row_end(&mut self) -> Option<usize> {
        let ahead = &self.buffer[self.scanned..];
        let length = match self.format {
            Format::JsonLines => memchr::memchr(b'\n', ahead).map(|index| index + 1),
            Format::Csv => self.scan.row_end(ahead),
        };
        if let Some(length) = length {
            return Some(self.scanned + length);
        }
        if self.buffer.len() - self.head > MAX_ROW_BYTES + 2 {
            let keep = self.head + KEPT_BYTES;
            self.dropped.0 += (self.buffer.len() - keep) as u64;
            self.dropped.1 += self.scan.lines(&self.buffer[keep..]);
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

fn without_line_end(row: &[u8]) -> &[u8] {
    let row = row.strip_suffix(b"\n").unwrap_or(row);
    row.strip_suffix(b"\r").unwrap_or(row)
}

#[cfg(test)]
mod tests;
