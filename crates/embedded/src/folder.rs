//! The state folder: `lock` (held by the process that has it open, with its process id), `statefun.json` (says what the folder
//! is), `data.redb` (everything else).

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    disk::DiskError,
    names::{keep_name, make_folder, sync_folder},
    tables::meta::FORMAT,
};

const LOCK: &str = "lock";
const MARKER: &str = "statefun.json";
const NEW_MARKER: &str = "statefun.json.new";
const DATA: &str = "data.redb";
const NEW_DATA: &str = "data.redb.new";

/// The files that hold state.
pub(crate) const STATE: [&str; 2] = [DATA, NEW_DATA];
/// The files that say what the folder is.
pub(crate) const MARKERS: [&str; 2] = [NEW_MARKER, MARKER];

/// Whether the store makes this file in its folder.
pub(crate) fn is_own(within: &Path) -> bool {
    [LOCK].iter().chain(&STATE).chain(&MARKERS).any(|ours| within == Path::new(ours))
}

/// Why a state folder cannot be opened, or erased.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{dir} is in use{}: stop that process, or use another folder", .pid.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// The process that has it, if it said so.
        pid: Option<u32>,
    },
    /// A newer version wrote it.
    #[error("{dir} has format {found}, this version knows formats up to {known}: use the newer version that wrote it")]
    NewerFormat {
        /// The folder.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this version knows.
        known: u32,
    },
    /// Something in it is not as it was written.
    #[error("{dir} is damaged ({detail}): put it aside and restore a copy, or start with an empty folder")]
    Damaged {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// It holds other files.
    #[error("{dir} is not a state folder and not empty: name an empty or a new folder")]
    NotAStateFolder {
        /// The folder.
        dir: PathBuf,
    },
    /// It is to be erased, and something is in it that was not made here.
    #[error("{dir} also holds {what}, which is not the host's, so nothing was deleted: move that away, or take another folder")]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// Some of what is in it.
        what: String,
    },
    /// It cannot be read or written.
    #[error("{dir} cannot be used; check that the path exists, is writable and has room")]
    Io {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Marker {
    what: String,
    format: u32,
}

/// A folder that this process holds.
pub(crate) struct Folder {
    pub(crate) dir: PathBuf,
    pub(crate) lock: File,
    /// There is no data yet.
    pub(crate) is_new: bool,
}

impl Folder {
    /// Takes the folder, and makes it if need be.
    pub(crate) fn take(dir: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { dir: dir.into(), source };
        make_folder(dir).map_err(failed)?;
        let lock = hold(dir)?;
        match fs::read(dir.join(MARKER)) {
            Ok(text) => check_marker(dir, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => write_marker(dir).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        }
        // What is there was never complete.
        if let Err(error) = fs::remove_file(dir.join(NEW_DATA))
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(failed(error));
        }
        // A process that gave data and marker their names may have died before these were durable.
        sync_folder(dir).map_err(failed)?;
        let is_new = !dir.join(DATA).exists();
        Ok(Self { dir: dir.into(), lock, is_new })
    }

    /// Where the data are.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join(DATA)
    }

    /// Where new data are made before they get their name.
    pub(crate) fn new_data(&self) -> PathBuf {
        self.dir.join(NEW_DATA)
    }

    /// Gives new data their name.
    pub(crate) fn keep_new_data(&self) -> Result<(), OpenError> {
        let kept = fs::rename(self.new_data(), self.data()).and_then(|()| keep_name(&self.data()));
        kept.map(drop).map_err(|source| OpenError::Io { dir: self.dir.clone(), source })
    }

    pub(crate) fn damaged(&self, detail: impl ToString) -> OpenError {
        OpenError::Damaged { dir: self.dir.clone(), detail: detail.to_string() }
    }

    pub(crate) fn disk_error(&self, error: DiskError) -> OpenError {
        let dir = self.dir.clone();
        match error {
            DiskError::Locked => OpenError::Locked { dir, pid: None },
            DiskError::Damaged(detail) => OpenError::Damaged { dir, detail },
            DiskError::Io(source) => OpenError::Io { dir, source },
        }
    }
}

/// Keeps others out of a state folder, or of one that may become one, as long as the file is open.
pub(crate) fn hold(dir: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Io { dir: dir.into(), source };
    if !dir.join(MARKER).exists() && !is_empty(dir).map_err(failed)? {
        return Err(OpenError::NotAStateFolder { dir: dir.into() });
    }
    lock(dir)
}

/// Nothing but what a process leaves that dies while it makes the folder.
fn is_empty(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        if ![LOCK, NEW_MARKER].iter().any(|ours| entry.as_ref().is_ok_and(|entry| entry.file_name() == *ours)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Io { dir: dir.into(), source };
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(LOCK));
    let mut file = open.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text); // the number only makes the message better
            return Err(OpenError::Locked { dir: dir.into(), pid: text.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let write = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    write.map_err(failed)?;
    Ok(file)
}

fn check_marker(dir: &Path, text: &[u8]) -> Result<(), OpenError> {
    match serde_json::from_slice(text) {
        Ok(Marker { format, .. }) if format > FORMAT => Err(newer(dir, format)),
        Ok(Marker { format, .. }) if format < FORMAT => {
            // From now on the version that made it does not open it any more.
            write_marker(dir).map_err(|source| OpenError::Io { dir: dir.into(), source })
        }
        Ok(_) => Ok(()),
        Err(error) => Err(OpenError::Damaged { dir: dir.into(), detail: format!("{MARKER}: {error}") }),
    }
}

pub(crate) fn newer(dir: &Path, found: u32) -> OpenError {
    OpenError::NewerFormat { dir: dir.into(), found, known: FORMAT }
}

fn write_marker(dir: &Path) -> io::Result<()> {
    let marker =
        Marker { what: "state of stateful functions (lambda-statefun); do not change it by hand".into(), format: FORMAT };
    let mut file = File::create(dir.join(NEW_MARKER))?;
    file.write_all(&serde_json::to_vec_pretty(&marker)?)?;
    file.sync_all()?;
    fs::rename(dir.join(NEW_MARKER), dir.join(MARKER))?;
    keep_name(&dir.join(MARKER)).map(drop)
}
