//! A file is known by what is in it, never by how its path is spelled.
//!
//! A fingerprint notes a place in a file by a hash of the bytes before it. Only a file whose bytes match is the one that was noted.
//! Device and inode help to find a file again that has another name now; alone they prove nothing, since a file system uses an inode
//! again at once.

use std::{
    fs::{File, Metadata},
    io::{self, Read, Seek, SeekFrom},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes before a place by which a file is known again: few enough to read them with every note.
pub(crate) const KNOWN_BYTES: u64 = 4 << 10;

/// A place in a file, and what was found before it. Its JSON is part of what the store keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    /// Bytes before the place.
    pub(crate) offset: u64,
    /// SHA-256 of up to [`KNOWN_BYTES`] before the place.
    before: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Node>,
}

/// Where the file system keeps a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    device: u64,
    inode: u64,
    /// When it was made, in nanoseconds, where the file system knows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<u64>,
}

impl Fingerprint {
    /// Notes a place in this file.
    ///
    /// # Errors
    /// If the file cannot be read, or ends before the place.
    pub(crate) fn at(file: &File, offset: u64) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { offset, before: hash_before(file, offset)?, node: Node::of(&metadata) })
    }

    /// Whether this file has before the place what was noted.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn matches(&self, file: &File) -> io::Result<bool> {
        Ok(self.offset <= file.metadata()?.len() && hash_before(file, self.offset)? == self.before)
    }

    /// Whether it was noted of the file that is at this node now.
    pub(crate) fn is_of(&self, node: Option<Node>) -> bool {
        node.is_some() && self.node == node
    }

    /// Whether both were noted of the file at one node.
    pub(crate) fn is_same_node(&self, other: &Self) -> bool {
        self.is_of(other.node)
    }
}

impl Node {
    /// `None` where the system does not say.
    pub(crate) fn of(metadata: &Metadata) -> Option<Self> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let born = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let born = born.and_then(|since| u64::try_from(since.as_nanos()).ok());
            Some(Self { device: metadata.dev(), inode: metadata.ino(), born })
        }
        #[cfg(not(unix))]
        {
            let _ = (metadata, UNIX_EPOCH);
            None
        }
    }
}

/// Whether no name leads to the file any more.
pub(crate) fn is_nameless(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    {
        std::os::unix::fs::MetadataExt::nlink(metadata) == 0
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        false
    }
}

/// SHA-256, in hex, of up to [`KNOWN_BYTES`] before the place.
fn hash_before(file: &File, offset: u64) -> io::Result<String> {
    let from = offset.saturating_sub(KNOWN_BYTES);
    hash(file, from, offset - from)
}

/// SHA-256, in hex, of these bytes of a file.
pub(crate) fn hash(file: &File, from: u64, length: u64) -> io::Result<String> {
    let bytes = read(file, from, length)?;
    if (bytes.len() as u64) < length {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"));
    }
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// These bytes of a file, or fewer if it ends before.
pub(crate) fn read(mut file: &File, from: u64, length: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_place_is_known_by_the_bytes_before_it() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b'x'; 10_000]).unwrap();
        let print = Fingerprint::at(&file, 9_000).unwrap();
        assert!(print.matches(&file).unwrap());
        for (at, matches) in [(4_903, true), (4_904, false), (8_999, false), (9_000, true)] {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(b"y").unwrap();
            assert_eq!(print.matches(&file).unwrap(), matches, "{at}");
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(b"x").unwrap();
        }
        file.set_len(8_999).unwrap();
        assert!(!print.matches(&file).unwrap() && Fingerprint::at(&file, 9_000).is_err());
    }

    /// Stored by released versions: never change it, add a version.
    #[test]
    fn the_stored_form_is_frozen() {
        let text = r#"{"offset":8,"before":"00","node":{"device":1,"inode":2,"born":3}}"#;
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Fingerprint>(text).unwrap()).unwrap(), text);
        let text = r#"{"offset":8,"before":"00"}"#;
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Fingerprint>(text).unwrap()).unwrap(), text);
    }
}
