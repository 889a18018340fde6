//! The taking side of an input: batch by batch, each in one atomic step with the place after it.

use std::sync::Arc;

use statefun_embedded::{MalformedRecord, Op};
use tokio::sync::mpsc;

use super::{FileProgress, FileReport, Progress, batch::Batch, cursor::Cursor, open::cursor_key, split::Place};
use crate::{error::InputError, host::Inner, letters::MAX_RAW_BYTES};

/// The taking side: batch by batch, as far as there is room.
pub(super) struct Intake<'a> {
    inner: &'a Inner,
    identity: String,
    cursor: Option<Cursor>,
    progress: Option<Arc<Progress>>,
    so_far: FileProgress,
    report: FileReport,
}

impl<'a> Intake<'a> {
    pub(super) fn new(
        inner: &'a Inner,
        identity: String,
        place: Place,
        cursor: Option<Cursor>,
        total: Option<u64>,
        progress: Option<Arc<Progress>>,
    ) -> Self {
        let (rows, rejected) = cursor.as_ref().map_or((0, 0), |cursor| (cursor.rows, cursor.rejected));
        let resumed_at = cursor.as_ref().filter(|cursor| cursor.offset > 0).map(|_| place.line);
        let so_far = FileProgress { bytes: place.offset, total, rows, rejected };
        Self { inner, identity, cursor, progress, so_far, report: FileReport { resumed_at, ..FileReport::default() } }
    }

    pub(super) async fn run(mut self, mut batches: mpsc::Receiver<Result<Batch, InputError>>) -> Result<FileReport, InputError> {
        let inner = self.inner;
        let mut last = None;
        self.show();
        let result = loop {
            let next = async {
                let batch = batches.recv().await;
                inner.store.waiting_below(inner.options.max_waiting_for_input).await.map(|()| batch)
            };
            let next = tokio::select! {
                biased;
                () = inner.ends() => {
                    self.report.interrupted = true;
                    break Ok(());
                }
                next = next => next,
            };
            match next {
                Ok(Some(Ok(batch))) => last = Some(self.take(batch).await?),
                Ok(Some(Err(error))) => break Err(error),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        if let Some(op) = last {
            inner.store.durable(op).await?;
        }
        result.map(|()| self.report)
    }

    /// Takes a batch in: bad rows first, which are kept under ids of their own, then messages and place in one step. Whatever
    /// happens in between, the next run takes the same rows again and changes nothing by that.
    async fn take(&mut self, batch: Batch) -> Result<Op, InputError> {
        let Batch { mut envelopes, bad, rows, end, open_end, known, .. } = batch;
        let now = self.inner.clock.now();
        let rejected = bad.len() as u64;
        for row in bad {
            tracing::debug!(input = self.identity, position = row.position, error = row.error, "a row goes to the dead letters");
            let record = MalformedRecord::new(now, &self.identity, &row.position, &row.error, &row.raw, MAX_RAW_BYTES);
            self.inner.store.park_malformed(&record).await?;
        }
        let mut dedup = false;
        for envelope in &mut envelopes {
            // The store refuses a key it took before in the same step: whatever it takes is a first copy.
            dedup |= std::mem::take(&mut envelope.keyed);
            envelope.sent_at = now;
        }
        let cursor = self.cursor.as_mut().zip(known).and_then(|(cursor, known)| {
            cursor.advance(end, rows, rejected, open_end, known);
            Some((cursor_key(&self.identity), cursor.to_bytes()?))
        });
        let op = self.inner.store.ingest(envelopes, cursor, dedup).await?.op;
        self.report.rows += rows;
        self.report.rejected += rejected;
        self.so_far.rows += rows;
        self.so_far.rejected += rejected;
        self.so_far.bytes = end.offset;
        self.show();
        Ok(op)
    }

    fn show(&self) {
        if let Some(progress) = &self.progress {
            progress(&self.so_far);
        }
    }
}
