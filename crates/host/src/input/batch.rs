//! The reading side of an input: a thread that turns bytes into batches of messages.

use std::{
    io::{self, Read},
    thread,
    time::Duration,
};

use statefun_core::Envelope;
use tokio::sync::mpsc;

use super::{
    cursor::{Known, Learner},
    header::{Header, Needs, read_header},
    mapping::Resolved,
    row::RowReader,
    split::{Found, Place, Splitter},
};
use crate::error::InputError;

/// Rows of one atomic step. Fewer cost more flushes, more make a step long.
const BATCH_ROWS: u64 = 500;

/// Bytes of rows from which on a batch is full.
const BATCH_BYTES: u64 = 1 << 20;

/// How long a file that is followed is left alone once it has no more.
const FOLLOW_PAUSE: Duration = Duration::from_millis(100);

/// What is said of what was added to a row that had been taken.
const TORN: &str = "this goes on with the row before it, which was taken without its line end since the file ended there; \
                    read a file that others write with `--follow`";

/// What one atomic step takes in.
#[derive(Debug)]
pub(super) struct Batch {
    /// Without their times: they are sent when they are taken in.
    pub(super) envelopes: Vec<Envelope>,
    pub(super) bad: Vec<BadRow>,
    pub(super) rows: u64,
    /// Where its first row begins.
    start: Place,
    /// Where the next row begins.
    pub(super) end: Place,
    /// The last row had no line end.
    pub(super) open_end: bool,
    /// Of files only: what is known of them, read up to the end of the batch.
    pub(super) known: Option<Known>,
}

/// A row for the dead letters.
#[derive(Debug)]
pub(super) struct BadRow {
    /// Where it is, in words. No two rows of an input have the same.
    pub(super) position: String,
    pub(super) error: String,
    pub(super) raw: Vec<u8>,
}

/// What the thread needs.
pub(super) struct Reading<R> {
    pub(super) name: String,
    /// Names the input: the ids of envelopes are made of it and the row's place.
    pub(super) identity: String,
    pub(super) splitter: Splitter<R>,
    pub(super) rows: RowReader,
    /// If it is CSV and the header was read already.
    pub(super) header: Option<Header>,
    pub(super) needs: Needs,
    pub(super) mapping: Resolved,
    /// Rows are handed on as soon as no more are at hand: someone may be typing them.
    pub(super) eager: bool,
    /// The place, if an earlier run has taken a row up to there that had no line end: what is added to it is not a row.
    pub(super) torn_at: Option<u64>,
    /// Of files only.
    pub(super) learner: Option<Learner>,
}

pub(super) type Batches = mpsc::Sender<Result<Batch, InputError>>;

impl<R: Read> Reading<R> {
    /// Reads to the end, or until nobody takes the batches any more.
    pub(super) fn run(mut self, batches: &Batches) {
        if let Err(error) = self.read(batches) {
            let _ = batches.blocking_send(Err(error));
        }
    }

    fn read(&mut self, batches: &Batches) -> Result<(), InputError> {
        let header = self.header()?;
        let mut batch = Batch::at(self.splitter.place());
        loop {
            match self.splitter.next() {
                Found::Row(raw) => {
                    let read = match self.torn_at == Some(raw.place.offset) {
                        true => Err(TORN.to_owned()),
                        false => self.rows.read(raw, &header),
                    };
                    match read.and_then(|row| self.mapping.envelopes(&self.identity, raw.place, &row)) {
                        Ok(envelopes) => batch.envelopes.extend(envelopes),
                        Err(error) => {
                            let position = position(raw.place, self.torn_at);
                            batch.bad.push(BadRow { position, error, raw: raw.bytes.to_vec() });
                        }
                    }
                    batch.rows += 1;
                    if (batch.rows >= BATCH_ROWS || self.bytes_since(&batch) >= BATCH_BYTES)
                        && !self.hand_on(&mut batch, batches)?
                    {
                        return Ok(());
                    }
                }
                Found::NeedsInput => {
                    if self.eager && batch.rows > 0 && !self.hand_on(&mut batch, batches)? {
                        return Ok(());
                    }
                    if let Err(source) = self.splitter.fill() {
                        self.hand_on(&mut batch, batches)?;
                        return Err(self.failed(source));
                    }
                    if self.splitter.at_end() && self.splitter.grows() && !self.wait(&mut batch, batches)? {
                        return Ok(());
                    }
                }
                Found::End => {
                    // Empty lines at the end move the place on, too.
                    self.hand_on(&mut batch, batches)?;
                    return Ok(());
                }
            }
        }
    }

    /// A file that is followed has no more for now. Returns whether somebody still takes the batches.
    fn wait(&mut self, batch: &mut Batch, batches: &Batches) -> Result<bool, InputError> {
        if batch.rows > 0 && !self.hand_on(batch, batches)? {
            return Ok(false);
        }
        let length = self.learner.as_ref().map_or(Ok(u64::MAX), Learner::length);
        if length.map_err(|source| self.failed(source))? < self.splitter.place().offset {
            return Err(
                self.failed(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was followed"))
            );
        }
        if batches.is_closed() {
            return Ok(false);
        }
        thread::sleep(FOLLOW_PAUSE);
        Ok(true)
    }

    fn bytes_since(&self, batch: &Batch) -> u64 {
        self.splitter.place().offset - batch.start.offset
    }

    /// Returns whether somebody takes the batch.
    fn hand_on(&mut self, batch: &mut Batch, batches: &Batches) -> Result<bool, InputError> {
        batch.end = self.splitter.place();
        batch.open_end = !self.splitter.ended();
        batch.known = match &mut self.learner {
            Some(learner) => match learner.learn(batch.end.offset) {
                Ok(known) => Some(known),
                Err(source) => return Err(self.failed(source)),
            },
            None => None,
        };
        let next = Batch::at(batch.end);
        Ok(batches.blocking_send(Ok(std::mem::replace(batch, next))).is_ok())
    }

    fn failed(&self, source: io::Error) -> InputError {
        InputError::Read { name: self.name.clone(), source }
    }

    fn header(&mut self) -> Result<Header, InputError> {
        match self.header.take() {
            Some(header) => Ok(header),
            None if self.rows.needs_header() => read_header(&self.name, &mut self.splitter, &mut self.rows, &self.needs),
            None => Ok(Header::default()),
        }
    }
}

/// Where a row is, in words. What was added to a row later begins on the same line as that.
fn position(place: Place, torn_at: Option<u64>) -> String {
    match torn_at == Some(place.offset) {
        true => format!("line {}, from byte {}", place.line, place.offset),
        false => format!("line {}", place.line),
    }
}

impl Batch {
    fn at(place: Place) -> Self {
        Self { envelopes: Vec::new(), bad: Vec::new(), rows: 0, start: place, end: place, open_end: false, known: None }
    }
}
