//! Going on with a file: what of it is ours, and what others wrote.
//!
//! After a crash, records may stand in the file that are not yet noted as written. They are the first ones that wait, so it can be
//! seen. What was begun and not finished is cut off; nothing else ever is.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write},
    path::Path,
    thread,
    time::Duration,
};

use statefun_embedded::names;

use super::{
    line::{Forms, Lines},
    notes::{Note, Notes},
};
use crate::fingerprint::{self, Fingerprint};

/// How often the lock is asked for, and how long it may take in between: whoever held it may be ending.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How every line begins that the host writes.
const RECORD_START: &[u8] = b"{\"id\":\"";

/// A file to go on with.
pub(super) struct Resumed {
    pub(super) file: File,
    /// How far it is written, once `there` are noted as written.
    pub(super) note: Note,
    /// The note of an earlier time that it replaces.
    pub(super) former: Option<Note>,
    /// Records, from the first on, that stand there already.
    pub(super) there: usize,
    /// What is there of others, or of older times, and why it is gone on behind it.
    pub(super) warning: Option<&'static str>,
}

/// Opens the file, which is made if there is none, and keeps others from writing it as long as it is open. `None` if another egress,
/// or another host, has it.
///
/// # Errors
/// If it cannot be opened, or is not a file.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    let is_new = !path.exists();
    if let Some(folder) = path.parent().filter(|_| is_new) {
        names::make_folder(folder)?;
    }
    let file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => {
                // The file's name has to be as durable as what is in it, and is before a place in it is noted.
                if is_new {
                    names::keep_name(path)?
                } else {
                    names::keep_found_name(path)?
                };
                return Ok(Some(file));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            // Not every file system has locks.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(Some(file)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(None)
}

/// Finds the place to go on at. `waiting` are the records that wait.
///
/// # Errors
/// If the file cannot be read or written.
pub(super) fn resume(file: File, notes: &Notes, waiting: &Forms<'_>) -> io::Result<Resumed> {
    let length = file.metadata()?.len();
    let mut former: Option<&Note> = None;
    for note in &notes.files {
        if former.is_none_or(|former| note.at.offset > former.at.offset) && note.at.matches(&file)? {
            former = Some(note);
        }
    }
    if let Some(former) = former {
        let written = former.written;
        let (found, lines) = look_behind(&file, former.at.offset, length, written, waiting)?;
        return finish(file, former.at.offset, found, written, Some(former.clone()), lines);
    }
    // Of what an older version noted only the length is known: waiting records have to stand behind it.
    for (_, noted) in notes.lengths.iter().filter(|(_, noted)| *noted <= length) {
        let (found, lines) = look_behind(&file, *noted, length, false, waiting)?;
        if !matches!(found, Behind::Foreign { there: 0, .. }) {
            return finish(file, *noted, found, true, None, lines);
        }
    }
    let is_known = !notes.files.is_empty() || !notes.lengths.is_empty();
    let warning = (is_known && length > 0).then_some("an egress's file is not as the host left it: going on at its end");
    end_line(&file, length)?;
    let note = Note { at: Fingerprint::at(&file, file.metadata()?.len())?, written: false };
    Ok(Resumed { file, note, former: None, there: 0, warning })
}

/// What stands behind a noted place.
enum Behind {
    /// Waiting records, and the beginning of one that was not finished.
    Ours { there: usize },
    /// All waiting records that were given; what follows can be judged by the next ones.
    More,
    /// After waiting records, what somebody else wrote.
    Foreign { there: usize },
}

/// What stands there, and in which form: an older version, which was killed, may have written the records that wait.
fn look_behind<'a>(
    file: &File,
    offset: u64,
    length: u64,
    proven: bool,
    waiting: &'a Forms<'_>,
) -> io::Result<(Behind, &'a Lines)> {
    let found = look_for(file, offset, length, proven, waiting.now)?;
    if matches!(found, Behind::Foreign { there: 0 }) {
        let former = look_for(file, offset, length, proven, &waiting.former)?;
        if !matches!(former, Behind::Foreign { there: 0 }) {
            return Ok((former, &waiting.former));
        }
    }
    Ok((found, waiting.now))
}

fn look_for(file: &File, offset: u64, length: u64, proven: bool, lines: &Lines) -> io::Result<Behind> {
    // One byte more than waits: so it is seen whether there is more.
    let behind = fingerprint::read(file, offset, (length - offset).min(lines.bytes().len() as u64 + 1))?;
    let there = lines.found_at_start_of(&behind);
    let rest = &behind[lines.end_of(there)..];
    if rest.is_empty() {
        return Ok(Behind::Ours { there });
    }
    if there == lines.count() {
        return Ok(Behind::More);
    }
    let is_begun = lines.bytes()[lines.end_of(there)..].starts_with(rest) && offset + behind.len() as u64 == length;
    let is_torn = proven && is_torn(&fingerprint::read(file, offset + lines.end_of(there) as u64, TORN_BYTES)?);
    Ok(if is_begun || is_torn { Behind::Ours { there } } else { Behind::Foreign { there } })
}

/// Bytes of a torn rest that are looked at: a batch's and some more.
const TORN_BYTES: u64 = 8 << 20;

/// Whether this is what a crash or a power cut leaves of records, behind records of ours: one without its end, or bytes that were
/// never written, which are zero.
fn is_torn(rest: &[u8]) -> bool {
    let begins = rest.first() == Some(&0) || rest.starts_with(RECORD_START) || RECORD_START.starts_with(rest);
    begins && (!rest.contains(&b'\n') || rest.contains(&0))
}

fn finish(file: File, offset: u64, found: Behind, written: bool, former: Option<Note>, lines: &Lines) -> io::Result<Resumed> {
    let (there, end) = match found {
        Behind::Ours { there } => (there, Some(offset + lines.end_of(there) as u64)),
        Behind::More => {
            let at = Fingerprint::at(&file, offset + lines.bytes().len() as u64)?;
            return Ok(Resumed { file, note: Note { at, written: true }, former, there: lines.count(), warning: None });
        }
        Behind::Foreign { there } => (there, None),
    };
    let length = file.metadata()?.len();
    match end {
        Some(end) if end < length => file.set_len(end)?,
        Some(_) => {}
        None => end_line(&file, length)?,
    }
    let end = end.map_or_else(|| Ok(file.metadata()?.len()), Ok::<u64, io::Error>)?;
    let warning =
        matches!(found, Behind::Foreign { .. }).then_some("somebody else wrote to an egress's file: going on at its end");
    let note = Note { at: Fingerprint::at(&file, end)?, written: written || there > 0 };
    Ok(Resumed { file, note, former, there, warning })
}

/// Ends what others left without a line end, so that a record gets a line of its own.
fn end_line(mut file: &File, length: u64) -> io::Result<()> {
    if length > 0 && fingerprint::read(file, length - 1, 1)? != b"\n" {
        file.write_all(b"\n")?;
        file.sync_data()?;
    }
    Ok(())
}
