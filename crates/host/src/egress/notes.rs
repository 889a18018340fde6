//! What the store keeps of an egress's files: how far each was written, by what stands there. It is written in the same step in which
//! the records are forgotten.

use serde::{Deserialize, Serialize};
use statefun_core::TypeName;
use statefun_embedded::Embedded;
use statefun_engine::ports::PortError;

use crate::fingerprint::Fingerprint;

const VERSION: u32 = 1;

/// Files of one egress that are remembered: who goes back and forth between a few loses nothing.
const FILES: usize = 8;

/// The files of one egress, the latest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notes {
    key: String,
    /// Where older versions kept lengths, a key for each spelling of a path.
    old_prefix: String,
    pub(super) files: Vec<Note>,
    /// Lengths that older versions noted, with their keys. They say nothing of what is in the file.
    pub(super) lengths: Vec<(String, u64)>,
}

/// How far one file was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    #[serde(flatten)]
    pub(super) at: Fingerprint,
    /// Whether a record of ours stands before the place.
    pub(super) written: bool,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    files: Vec<Note>,
}

impl Notes {
    pub(super) fn new(egress: &TypeName) -> Self {
        let (key, old_prefix) = (format!("egress-files:{egress}"), format!("egress:{egress}:"));
        Self { key, old_prefix, files: Vec::new(), lengths: Vec::new() }
    }

    /// Reads what is kept. Notes of another version count as none: a file is then gone on with at its end.
    pub(super) fn load(&mut self, store: &Embedded) -> Result<(), PortError> {
        let stored = store.cursor(&self.key)?.and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok());
        self.files = stored.filter(|stored| stored.v == VERSION).map(|stored| stored.files).unwrap_or_default();
        let old = store.cursors(&self.old_prefix)?;
        self.lengths = old.into_iter().filter_map(|(key, value)| Some((key, decode_length(&value)?))).collect();
        Ok(())
    }

    /// Notes a file in place of what was known of it: of its former note, and of the node that it is at.
    pub(super) fn put(&mut self, note: Note, former: Option<&Note>) {
        self.files.retain(|other| Some(other) != former && !note.at.is_same_node(&other.at));
        self.files.insert(0, note);
        self.files.truncate(FILES);
    }

    /// What is to be kept, and under which key.
    pub(super) fn cursor(&self) -> (String, Vec<u8>) {
        // Numbers and strings: serde_json cannot fail on these.
        let stored = Stored { v: VERSION, files: self.files.clone() };
        (self.key.clone(), serde_json::to_vec(&stored).unwrap_or_default())
    }

    /// Keeps the notes, durably. Lengths of older versions are not needed any more, and must not be used by one.
    pub(super) async fn save(&mut self, store: &Embedded) -> Result<(), PortError> {
        let (key, value) = self.cursor();
        let mut op = store.set_cursor(&key, value)?;
        for (key, _) in std::mem::take(&mut self.lengths) {
            op = store.set_cursor(&key, Vec::new())?;
        }
        store.durable(op).await
    }
}

/// The form before version 1: the file's length, in digits.
fn decode_length(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored by released versions: never change them, add a version.
    #[test]
    fn the_stored_forms_are_frozen() {
        let text = r#"{"v":1,"files":[{"offset":8,"before":"00","node":{"device":1,"inode":2},"written":true}]}"#;
        let mut notes = Notes::new(&TypeName::from_static("a/b"));
        notes.files = serde_json::from_str::<Stored>(text).unwrap().files;
        assert_eq!(notes.cursor(), ("egress-files:a/b".to_owned(), text.as_bytes().to_vec()));
        assert_eq!((decode_length(b"10990"), decode_length(b"")), (Some(10_990), None));
        assert_eq!(notes.old_prefix, "egress:a/b:");
    }
}
