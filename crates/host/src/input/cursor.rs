//! How far a file was read, as the store keeps it: written in the same atomic step as the rows' messages.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::split::Place;

/// Bytes of a file's beginning by which it is known again.
const BEGINNING_BYTES: u64 = 4 << 10;

const VERSION: u32 = 1;

/// How far a file was read. Its JSON is what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    v: u32,
    pub(super) offset: u64,
    pub(super) line: u64,
    /// Rows taken so far, rejected ones included.
    pub(super) rows: u64,
    /// Rows sent to the dead letters so far.
    pub(super) rejected: u64,
    beginning: Beginning,
}

/// The beginning of a file. A file that grows keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beginning {
    bytes: u64,
    sha256: String,
}

impl Cursor {
    /// The cursor of a file that was not read yet.
    pub(super) fn start(file: &mut File) -> io::Result<Self> {
        let bytes = file.metadata()?.len().min(BEGINNING_BYTES);
        let Place { offset, line } = Place::START;
        Ok(Self { v: VERSION, offset, line, rows: 0, rejected: 0, beginning: Beginning::of(file, bytes)? })
    }

    /// Reads a stored cursor and checks that it belongs to this file.
    pub(super) fn resume(stored: &[u8], file: &mut File) -> io::Result<Result<Self, String>> {
        let cursor: Self = match serde_json::from_slice(stored) {
            Ok(cursor) => cursor,
            Err(error) => return Ok(Err(format!("its place cannot be read: {error}"))),
        };
        if cursor.v != VERSION {
            return Ok(Err(format!("its place was written by another version of this program ({})", cursor.v)));
        }
        let length = file.metadata()?.len();
        if length < cursor.offset {
            return Ok(Err(format!("it has {length} bytes, {} were read", cursor.offset)));
        }
        if Beginning::of(file, cursor.beginning.bytes)? != cursor.beginning {
            return Ok(Err("it begins differently".to_owned()));
        }
        Ok(Ok(cursor))
    }

    pub(super) fn place(&self) -> Place {
        Place { offset: self.offset, line: self.line }
    }

    pub(super) fn advance(&mut self, place: Place, rows: u64, rejected: u64) {
        (self.offset, self.line) = (place.offset, place.line);
        self.rows += rows;
        self.rejected += rejected;
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Numbers and strings: serde_json cannot fail on these.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Beginning {
    fn of(file: &mut File, bytes: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let mut beginning = Vec::new();
        file.by_ref().take(bytes).read_to_end(&mut beginning)?;
        let digest = Sha256::digest(&beginning);
        Ok(Self { bytes, sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect() })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_that_grows_is_the_same_and_others_are_not() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"a,b\n1,2\n").unwrap();
        let mut cursor = Cursor::start(&mut file).unwrap();
        cursor.advance(Place { offset: 8, line: 3 }, 1, 0);
        let stored = cursor.to_bytes();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"3,4\n").unwrap();
        assert_eq!(Cursor::resume(&stored, &mut file).unwrap().unwrap(), cursor);
        file.set_len(5).unwrap();
        assert_eq!(Cursor::resume(&stored, &mut file).unwrap().unwrap_err(), "it has 5 bytes, 8 were read");
        file.set_len(0).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(b"a,c\n1,2\n").unwrap();
        assert_eq!(Cursor::resume(&stored, &mut file).unwrap().unwrap_err(), "it begins differently");
    }

    /// Stored by released versions: never change it, add a version.
    #[test]
    fn the_stored_form_is_frozen() {
        let text = r#"{"v":1,"offset":8,"line":3,"rows":2,"rejected":1,"beginning":{"bytes":4,"sha256":"00"}}"#;
        let cursor: Cursor = serde_json::from_str(text).unwrap();
        assert_eq!(cursor.to_bytes(), text.as_bytes());
    }
}
