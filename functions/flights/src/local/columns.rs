//! Whether a file is one of departures, asked before anything is done with it.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use super::JobError;
use crate::COLUMNS;

/// Bytes of a header at most.
const MAX_HEADER_BYTES: u64 = 64 << 10;

/// Checks that the file can be read and that its header has all columns that are needed.
///
/// # Errors
/// If the file cannot be read, or a column is missing.
pub fn check_columns(path: &Path) -> Result<(), JobError> {
    let open = |source| JobError::Open { path: path.to_owned(), source };
    let mut header = Vec::new();
    let file = File::open(path).map_err(open)?;
    BufReader::new(file.take(MAX_HEADER_BYTES)).read_until(b'\n', &mut header).map_err(open)?;
    let header = String::from_utf8_lossy(&header);
    let missing = missing(&header);
    if missing.is_empty() { Ok(()) } else { Err(JobError::Columns { path: path.to_owned(), missing }) }
}

fn missing(header: &str) -> Vec<&'static str> {
    let names: Vec<_> = header.trim_start_matches('\u{feff}').trim_end().split(',').map(|name| name.trim_matches('"')).collect();
    COLUMNS.into_iter().filter(|column| !names.contains(column)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_missing() {
        let all = COLUMNS.join(",");
        assert!(missing(&all).is_empty());
        assert!(missing(&format!("\u{feff}more,\"{}\"\r\n", COLUMNS.join("\",\""))).is_empty());
        assert_eq!(missing(&all.replace("tailnum", "tail").replace("dest", "to")), ["tailnum", "dest"]);
        assert_eq!(missing("").len(), COLUMNS.len());
    }
}
