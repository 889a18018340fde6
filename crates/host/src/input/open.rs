//! Opening an input, and finding out how far it was read before.

use std::{
    fs::{File, Metadata},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use super::{
    by_ending,
    cursor::{Cursor, Learner},
    header::{Header, Needs, read_header},
    row::RowReader,
    split::{Format, Place, Splitter},
};
use crate::{error::InputError, fingerprint::Node, host::Inner, ingress::random_id};

/// An input that is open, and as far as that can be known without waiting, fit to be read.
pub(super) struct Opened {
    pub(super) name: String,
    /// Names its rows and its place in the store.
    pub(super) identity: String,
    pub(super) splitter: Splitter<Box<dyn Read + Send>>,
    pub(super) format: Format,
    /// Of files only; a stream's is read by its thread.
    pub(super) header: Option<Header>,
    /// Of files only.
    pub(super) cursor: Option<Cursor>,
    /// Of files only.
    pub(super) learner: Option<Learner>,
    pub(super) total: Option<u64>,
}

pub(super) fn open_file(
    inner: &Inner,
    path: &Path,
    format: Option<Format>,
    needs: &Needs,
    follow: bool,
) -> Result<Opened, InputError> {
    let name = path.display().to_string();
    let failed = |source| InputError::Read { name: name.clone(), source };
    let format = format.or_else(|| by_ending(path)).ok_or_else(|| InputError::Format(name.clone()))?;
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        // A pipe cannot be read twice.
        return open_stream(name, Box::new(file), format);
    }
    let path = path.canonicalize().map_err(failed)?;
    let second = File::open(&path).map_err(failed)?;
    if Node::of(&second.metadata().map_err(failed)?) != Node::of(&metadata) {
        return Err(failed(io::Error::other("it was replaced while it was opened")));
    }
    let (identity, cursor) = find(inner, &name, &path, &file, &metadata)?;
    file.rewind().map_err(failed)?;
    let (mut place, mut header, mut line_end) = (cursor.place(), None, Default::default());
    if format == Format::Csv {
        let mut splitter = Splitter::new(&mut file, format, Place::START);
        header = Some(read_header(&name, &mut splitter, &mut RowReader::new(format), needs)?);
        line_end = splitter.line_end();
        if place.offset < splitter.place().offset {
            place = splitter.place();
        }
    }
    file.seek(SeekFrom::Start(place.offset)).map_err(failed)?;
    let reader: Box<dyn Read + Send> = Box::new(file);
    let splitter = Splitter::new(reader, format, place).with_line_end(line_end).growing(follow);
    let (learner, total) = (Some(Learner::new(second)), Some(metadata.len()));
    Ok(Opened { name, identity, splitter, format, header, cursor: Some(cursor), learner, total })
}

pub(super) fn open_stream(name: String, reader: Box<dyn Read + Send>, format: Format) -> Result<Opened, InputError> {
    // Another run reads other lines: they must not be taken for those of this one.
    let run = random_id().map_err(|error| InputError::Read { name: name.clone(), source: io::Error::other(error) })?;
    let identity = format!("{name}#{run}");
    let splitter = Splitter::new(reader, format, Place::START);
    Ok(Opened { name, identity, splitter, format, header: None, cursor: None, learner: None, total: None })
}

const CURSORS: &str = "input:";

pub(super) fn cursor_key(identity: &str) -> String {
    format!("{CURSORS}{identity}")
}

/// Names a file by its path. Two paths never have one name, whatever bytes are in them.
fn identity_of(path: &Path) -> String {
    match path.to_str() {
        Some(path) => path.to_owned(),
        None => format!("bytes:{}", path.as_os_str().as_encoded_bytes().escape_ascii()),
    }
}

/// How far this file was read, and under which name: under the one that it has, or, if what was read is in it, under one that it had.
///
/// # Errors
/// If another file was read under this name, and this one is not known by another.
fn find(inner: &Inner, name: &str, path: &Path, file: &File, metadata: &Metadata) -> Result<(String, Cursor), InputError> {
    let failed = |source| InputError::Read { name: name.to_owned(), source };
    let identity = identity_of(path);
    let own_key = cursor_key(&identity);
    // Versions before this one wrote a path with signs in place of the bytes that are not UTF-8.
    let old_key = cursor_key(&path.display().to_string());
    let (node, mut changed) = (Node::of(metadata), None);
    let mut best: Option<(String, Cursor)> = None;
    for (key, stored) in inner.store.cursors(CURSORS)? {
        let is_own = key == own_key;
        let is_older = key == old_key && Cursor::is_older(&stored);
        if !is_own && !is_older && !Cursor::is_of(&stored, node) {
            continue;
        }
        match Cursor::resume(&stored, file).map_err(failed)? {
            Ok(cursor) if best.as_ref().is_none_or(|(_, best)| cursor.offset > best.offset) => best = Some((key, cursor)),
            Ok(_) => {}
            Err(problem) if is_own => changed = Some(problem),
            Err(_) => {}
        }
    }
    match (best, changed) {
        (Some((key, cursor)), None) => Ok((key[CURSORS.len()..].to_owned(), cursor)),
        // What was read of it under another name counts, if that is anything.
        (Some((key, cursor)), Some(_)) if cursor.offset > 0 => Ok((key[CURSORS.len()..].to_owned(), cursor)),
        (_, Some(problem)) => Err(InputError::Changed { name: name.to_owned(), problem }),
        (None, None) => Ok((identity, Cursor::start())),
    }
}
