//! How far a file was read, as the store keeps it: written in the same atomic step as the rows' messages.

use std::{fs::File, io};

use serde::{Deserialize, Serialize};

use super::split::Place;
use crate::fingerprint::{self, Fingerprint, KNOWN_BYTES, Node};

const VERSION: u32 = 2;

/// How far a file was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) offset: u64,
    pub(super) line: u64,
    /// Rows taken so far, rejected ones included.
    pub(super) rows: u64,
    /// Rows sent to the dead letters so far.
    pub(super) rejected: u64,
    /// The last row had no line end: it was complete because the file ended there.
    pub(super) open_end: bool,
    known: Option<Known>,
}

/// What is known of a file that was read up to a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    at: Fingerprint,
    beginning: Beginning,
}

/// The beginning of a file. A file that grows keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Beginning {
    bytes: u64,
    sha256: String,
}

/// What is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    line: u64,
    rows: u64,
    rejected: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    open_end: bool,
    #[serde(flatten)]
    known: Known,
}

/// What versions before this one stored. Nothing of what is near the offset is known.
#[derive(Deserialize)]
struct Stored1 {
    offset: u64,
    line: u64,
    rows: u64,
    rejected: u64,
    beginning: Beginning,
}

#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

impl Cursor {
    /// The cursor of a file that was not read yet.
    pub(super) fn start() -> Self {
        let Place { offset, line } = Place::START;
        Self { offset, line, rows: 0, rejected: 0, open_end: false, known: None }
    }

    /// Reads a stored cursor and checks that it belongs to this file.
    pub(super) fn resume(stored: &[u8], file: &File) -> io::Result<Result<Self, String>> {
        let unreadable = |error| Ok(Err(format!("its place cannot be read: {error}")));
        let v = match serde_json::from_slice::<Versioned>(stored) {
            Ok(Versioned { v }) => v,
            Err(error) => return unreadable(error),
        };
        match v {
            1 => match serde_json::from_slice(stored) {
                Ok(stored) => resume_1(stored, file),
                Err(error) => unreadable(error),
            },
            VERSION => match serde_json::from_slice(stored) {
                Ok(stored) => resume_2(stored, file),
                Err(error) => unreadable(error),
            },
            other => Ok(Err(format!("its place was written by another version of this program ({other})"))),
        }
    }

    /// Whether a stored cursor was written for the file that is at this node.
    pub(super) fn is_of(stored: &[u8], node: Option<Node>) -> bool {
        serde_json::from_slice::<Stored>(stored).is_ok_and(|stored| stored.v == VERSION && stored.known.at.is_of(node))
    }

    /// Whether a version before this one stored it.
    pub(super) fn is_older(stored: &[u8]) -> bool {
        serde_json::from_slice::<Versioned>(stored).is_ok_and(|stored| stored.v < VERSION)
    }

    pub(super) fn place(&self) -> Place {
        Place { offset: self.offset, line: self.line }
    }

    pub(super) fn advance(&mut self, place: Place, rows: u64, rejected: u64, open_end: bool, known: Known) {
        (self.offset, self.line, self.open_end, self.known) = (place.offset, place.line, open_end, Some(known));
        self.rows += rows;
        self.rejected += rejected;
    }

    /// What is to be stored; nothing before anything was read.
    pub(super) fn to_bytes(&self) -> Option<Vec<u8>> {
        let Self { line, rows, rejected, open_end, ref known, .. } = *self;
        let stored = Stored { v: VERSION, line, rows, rejected, open_end, known: known.clone()? };
        // Numbers and strings: serde_json cannot fail on these.
        serde_json::to_vec(&stored).ok()
    }
}

fn resume_1(stored: Stored1, file: &File) -> io::Result<Result<Cursor, String>> {
    let Stored1 { offset, line, rows, rejected, beginning } = stored;
    if let Err(problem) = check(file, offset, &beginning)? {
        return Ok(Err(problem));
    }
    let open_end = offset > 0 && fingerprint::read(file, offset - 1, 1)? != b"\n";
    Ok(Ok(Cursor { offset, line, rows, rejected, open_end, known: None }))
}

fn resume_2(stored: Stored, file: &File) -> io::Result<Result<Cursor, String>> {
    let Stored { line, rows, rejected, open_end, known, .. } = stored;
    if let Err(problem) = check(file, known.at.offset, &known.beginning)? {
        return Ok(Err(problem));
    }
    if !known.at.matches(file)? {
        return Ok(Err(format!("before byte {}, up to which it was read, it has other content", known.at.offset)));
    }
    Ok(Ok(Cursor { offset: known.at.offset, line, rows, rejected, open_end, known: Some(known) }))
}

fn check(file: &File, offset: u64, beginning: &Beginning) -> io::Result<Result<(), String>> {
    let length = file.metadata()?.len();
    if length < offset {
        return Ok(Err(format!("it has {length} bytes, {offset} were read")));
    }
    if length < beginning.bytes || fingerprint::hash(file, 0, beginning.bytes)? != beginning.sha256 {
        return Ok(Err("it begins differently".to_owned()));
    }
    Ok(Ok(()))
}

/// Learns a file, place by place, by a handle of its own.
pub(super) struct Learner {
    file: File,
    /// Once it has all of its bytes.
    beginning: Option<Beginning>,
}

impl Learner {
    pub(super) fn new(file: File) -> Self {
        Self { file, beginning: None }
    }

    /// Bytes that the file has now.
    pub(super) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// What is known of the file once it is read up to here.
    pub(super) fn learn(&mut self, offset: u64) -> io::Result<Known> {
        let at = Fingerprint::at(&self.file, offset)?;
        if let Some(beginning) = &self.beginning {
            return Ok(Known { at, beginning: beginning.clone() });
        }
        let bytes = offset.min(KNOWN_BYTES);
        let beginning = Beginning { bytes, sha256: fingerprint::hash(&self.file, 0, bytes)? };
        if bytes == KNOWN_BYTES {
            self.beginning = Some(beginning.clone());
        }
        Ok(Known { at, beginning })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored by released versions: never change them, add a version.
    #[test]
    fn the_stored_forms_are_frozen() {
        let text = r#"{"v":2,"line":3,"rows":2,"rejected":1,"open_end":true,"at":{"offset":8,"before":"00","node":{"device":1,"inode":2}},"beginning":{"bytes":4,"sha256":"00"}}"#;
        let Stored { line, rows, rejected, open_end, known, .. } = serde_json::from_str(text).unwrap();
        let cursor = Cursor { offset: known.at.offset, line, rows, rejected, open_end, known: Some(known) };
        assert_eq!(String::from_utf8(cursor.to_bytes().unwrap()).unwrap(), text);
        let text = r#"{"v":1,"offset":8,"line":3,"rows":2,"rejected":1,"beginning":{"bytes":4,"sha256":"00"}}"#;
        let Stored1 { offset, line, rows, rejected, beginning } = serde_json::from_str(text).unwrap();
        assert_eq!((offset, line, rows, rejected, beginning.bytes, &*beginning.sha256), (8, 3, 2, 1, 4, "00"));
    }
}
