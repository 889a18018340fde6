//! The reading side of an input: a thread that turns bytes into batches of messages.

use std::io::Read;

use statefun_core::Envelope;
use tokio::sync::mpsc;

use super::{
    mapping::Resolved,
    read_header,
    row::RowReader,
    split::{Found, Place, Splitter},
};
use crate::error::InputError;

/// Rows of one atomic step. Fewer cost more flushes, more make a step long.
const BATCH_ROWS: u64 = 500;

/// Bytes of rows from which on a batch is full.
const BATCH_BYTES: u64 = 1 << 20;

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
}

/// A row for the dead letters.
#[derive(Debug)]
pub(super) struct BadRow {
    pub(super) place: Place,
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
    pub(super) header: Option<csv::StringRecord>,
    pub(super) id_field: Option<String>,
    pub(super) mapping: Resolved,
    /// Rows are handed on as soon as no more are at hand: someone may be typing them.
    pub(super) eager: bool,
}

pub(super) type Batches = mpsc::Sender<Result<Batch, InputError>>;

impl<R: Read> Reading<R> {
    /// Reads to the end, or until nobody takes the batches any more.
    pub(super) fn run(mut self, batches: &Batches) {
        let header = match self.header() {
            Ok(header) => header,
            Err(error) => {
                let _ = batches.blocking_send(Err(error));
                return;
            }
        };
        let mut batch = Batch::at(self.splitter.place());
        loop {
            match self.splitter.next() {
                Found::Row(raw) => {
                    let read = self.rows.read(raw, &header);
                    match read.and_then(|row| self.mapping.envelopes(&self.identity, raw.place, &row)) {
                        Ok(envelopes) => batch.envelopes.extend(envelopes),
                        Err(error) => batch.bad.push(BadRow { place: raw.place, error, raw: raw.bytes.to_vec() }),
                    }
                    batch.rows += 1;
                    batch.end = self.splitter.place();
                    if batch.is_full() && !hand_on(&mut batch, batches) {
                        return;
                    }
                }
                Found::NeedsInput => {
                    if self.eager && batch.rows > 0 && !hand_on(&mut batch, batches) {
                        return;
                    }
                    if let Err(source) = self.splitter.fill() {
                        hand_on(&mut batch, batches);
                        let _ = batches.blocking_send(Err(InputError::Read { name: self.name, source }));
                        return;
                    }
                }
                Found::End => {
                    // Empty lines at the end move the place on, too.
                    batch.end = self.splitter.place();
                    hand_on(&mut batch, batches);
                    return;
                }
            }
        }
    }

    fn header(&mut self) -> Result<csv::StringRecord, InputError> {
        match self.header.take() {
            Some(header) => Ok(header),
            None if self.rows.needs_header() => {
                read_header(&self.name, &mut self.splitter, &mut self.rows, self.id_field.as_deref())
            }
            None => Ok(csv::StringRecord::new()),
        }
    }
}

impl Batch {
    fn at(place: Place) -> Self {
        Self { envelopes: Vec::new(), bad: Vec::new(), rows: 0, start: place, end: place }
    }

    fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.end.offset - self.start.offset >= BATCH_BYTES
    }
}

/// Whether somebody takes the batch.
fn hand_on(batch: &mut Batch, batches: &Batches) -> bool {
    let next = Batch::at(batch.end);
    batches.blocking_send(Ok(std::mem::replace(batch, next))).is_ok()
}
