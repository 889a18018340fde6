//! Records as lines of JSON, for people to read and programs to parse.

use std::{
    io::{self, Write},
    sync::Arc,
};

use statefun_core::{EgressRecord, stored::egress_to_json};

use super::{SinkError, Written};
use crate::views;

/// Adds the record's line.
pub(super) fn push(lines: &mut Vec<u8>, record: &EgressRecord) {
    egress_to_json(record, &views::time(record.at), lines);
    lines.push(b'\n');
}

/// Writes lines to the standard output.
pub(super) async fn to_stdout(records: Vec<Arc<EgressRecord>>) -> Written {
    let count = records.len();
    let write = tokio::task::spawn_blocking(move || {
        let mut lines = Vec::new();
        records.iter().for_each(|record| push(&mut lines, record));
        let mut stdout = io::stdout().lock();
        stdout.write_all(&lines).and_then(|()| stdout.flush())
    });
    let error = match write.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(()) => return Written { count, cursor: None, error: None },
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => SinkError::Closed,
        Err(source) => SinkError::Io { what: "to the standard output".to_owned(), source },
    };
    Written { count: 0, cursor: None, error: Some(error) }
}
