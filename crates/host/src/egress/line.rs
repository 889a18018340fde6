//! Records as lines of JSON, for people to read and programs to parse.

use std::{
    io::{self, Write},
    sync::Arc,
};

use statefun_core::{
    EgressRecord,
    stored::{egress_to_former_json, egress_to_json},
};

use super::{SinkError, Written};
use crate::views;

/// The lines of a batch of records.
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
}

/// Appends a record's JSON.
type Form = fn(&EgressRecord, &str, &mut Vec<u8>);

impl Lines {
    pub(super) fn of(records: &[Arc<EgressRecord>]) -> Self {
        Self::in_form(egress_to_json, records)
    }

    /// The lines that older versions wrote.
    pub(super) fn in_former_form(records: &[Arc<EgressRecord>]) -> Self {
        Self::in_form(egress_to_former_json, records)
    }

    fn in_form(form: Form, records: &[Arc<EgressRecord>]) -> Self {
        let mut bytes = Vec::new();
        let ends = records.iter().map(|record| {
            form(record, &views::time(record.at), &mut bytes);
            bytes.push(b'\n');
            bytes.len()
        });
        let ends = ends.collect();
        Self { bytes, ends }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of the first `count` lines.
    pub(super) fn end_of(&self, count: usize) -> usize {
        count.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    /// How many of the lines, from the first on, this begins with.
    pub(super) fn found_at_start_of(&self, text: &[u8]) -> usize {
        let same = self.bytes.iter().zip(text).take_while(|(ours, found)| ours == found).count();
        self.ends.partition_point(|end| *end <= same)
    }
}

/// The lines of a batch in each form that a file may have them in.
pub(super) struct Forms<'a> {
    pub(super) now: &'a Lines,
    pub(super) former: Lines,
}

/// Writes lines to the standard output.
pub(super) async fn to_stdout(records: Vec<Arc<EgressRecord>>) -> Written {
    let count = records.len();
    let write = tokio::task::spawn_blocking(move || {
        let lines = Lines::of(&records);
        let mut stdout = io::stdout().lock();
        stdout.write_all(lines.bytes()).and_then(|()| stdout.flush())
    });
    let error = match write.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(()) => return Written { count, cursor: None, error: None },
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => SinkError::Closed,
        Err(source) => SinkError::Io { what: "to the standard output".to_owned(), source },
    };
    Written { count: 0, cursor: None, error: Some(error) }
}
