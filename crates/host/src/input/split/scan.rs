//! Where CSV rows end: a line end inside quotes ends nothing.

/// What is wrong with where a row begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It has more than [`MAX_ROW_BYTES`](super::MAX_ROW_BYTES).
    TooLong,
    /// A quote is not closed before the input ends.
    Unclosed,
    /// Quotes that hold a line end are closed in the middle of a field: one was forgotten, and other rows were taken for this one.
    Swallowed,
}

/// How the lines of an input end, as its first one shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum LineEnd {
    /// No line end was seen yet.
    #[default]
    Unknown,
    /// A line feed, perhaps after a carriage return. A carriage return alone is text.
    Feed,
    /// A carriage return alone, as old programs of the Macintosh write. A line feed ends a line, too.
    Return,
}

/// Where in a row the search stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    FieldStart,
    Plain,
    Quoted,
    /// After a quote inside quotes: the end of them, unless a second one follows.
    QuoteInQuoted,
    /// After a carriage return that ends the line, with or without a line feed.
    AfterReturn,
}

/// The search for the end of a row, which goes on when more bytes come.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) state: State,
    pub(super) line_end: LineEnd,
    /// Quotes of this row hold a line end.
    spans: bool,
    /// Behind such quotes there was text.
    swallowed: bool,
}

impl Scan {
    /// The bytes up to the row's end, line end included.
    pub(super) fn row_end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (index, &byte) in bytes.iter().enumerate() {
            self.state = match (self.state, byte) {
                (State::AfterReturn, b'\n') => return Some(self.end(LineEnd::Feed, index + 1)),
                (State::AfterReturn, _) => return Some(self.end(LineEnd::Return, index)),
                (State::Quoted, b'"') => State::QuoteInQuoted,
                (State::Quoted, _) => {
                    self.spans |= matches!(byte, b'\n' | b'\r');
                    State::Quoted
                }
                (State::QuoteInQuoted | State::FieldStart, b'"') => State::Quoted,
                (_, b'\n') => return Some(self.end(LineEnd::Feed, index + 1)),
                (_, b'\r') if self.line_end != LineEnd::Feed => State::AfterReturn,
                (_, b',') => State::FieldStart,
                (State::QuoteInQuoted, other) => {
                    self.swallowed |= self.spans && other != b'\r';
                    State::Plain
                }
                _ => State::Plain,
            };
        }
        None
    }

    fn end(&mut self, seen: LineEnd, length: usize) -> usize {
        if self.line_end == LineEnd::Unknown {
            self.line_end = seen;
        }
        length
    }

    /// What is wrong with the row at hand, if it ends here.
    pub(super) fn flaw(&self) -> Option<Flaw> {
        match self.state {
            State::Quoted => Some(Flaw::Unclosed),
            _ => self.swallowed.then_some(Flaw::Swallowed),
        }
    }

    pub(super) fn begin_row(&mut self) {
        *self = Self { line_end: self.line_end, ..Self::default() };
    }

    /// How many lines end in these bytes.
    pub(super) fn lines(&self, bytes: &[u8]) -> u64 {
        let feeds = memchr::memchr_iter(b'\n', bytes).count();
        let alone = |at: usize| bytes.get(at + 1) != Some(&b'\n');
        let returns = match self.line_end {
            LineEnd::Return => memchr::memchr_iter(b'\r', bytes).filter(|at| alone(*at)).count(),
            LineEnd::Unknown | LineEnd::Feed => 0,
        };
        (feeds + returns) as u64
    }
}
