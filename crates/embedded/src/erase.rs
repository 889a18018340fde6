//! Emptying a state folder, and nothing else.

use std::{
    fs::{self, FileType},
    io,
    path::{Path, PathBuf},
};

use crate::{
    folder::{self, OpenError},
    names::sync_folder,
};

/// Entries of others that an error names.
const NAMED: usize = 3;

/// Deletes what is in a state folder: what the store has made there, and what `owned` says is its user's, by its path within the
/// folder. The folder stays, with its lock, which is held meanwhile. A folder that is not there is no error.
///
/// # Errors
/// [`OpenError`]: another process has the folder, it is not a state folder, or something else is in it. Nothing is deleted then, unless
/// it is an [`OpenError::Io`]; after that, or a crash, it is still a state folder and can be erased again.
pub fn erase(dir: &Path, owned: &dyn Fn(&Path, FileType) -> bool) -> Result<(), OpenError> {
    if !dir.exists() {
        return Ok(());
    }
    let failed = |source| OpenError::Io { dir: dir.into(), source };
    let _lock = folder::hold(dir)?;
    let mut found = Found { dir, owned, files: Vec::new(), folders: Vec::new(), foreign: Vec::new() };
    found.look(Path::new("")).map_err(failed)?;
    if !found.foreign.is_empty() {
        return Err(OpenError::Foreign { dir: dir.into(), what: found.foreign() });
    }
    // State goes before what was made of it, and last what says whose the folder is.
    let files = folder::STATE.iter().map(PathBuf::from).chain(found.files);
    files.into_iter().try_for_each(|file| remove(&dir.join(file))).map_err(failed)?;
    found.folders.iter().try_for_each(|folder| fs::remove_dir(dir.join(folder))).map_err(failed)?;
    sync_folder(dir).map_err(failed)?;
    folder::MARKERS.iter().try_for_each(|marker| remove(&dir.join(marker))).map_err(failed)
}

struct Found<'a> {
    dir: &'a Path,
    owned: &'a dyn Fn(&Path, FileType) -> bool,
    files: Vec<PathBuf>,
    /// Those inside of others first.
    folders: Vec<PathBuf>,
    foreign: Vec<PathBuf>,
}

impl Found<'_> {
    fn look(&mut self, within: &Path) -> io::Result<()> {
        for entry in fs::read_dir(self.dir.join(within))? {
            let entry = entry?;
            let (path, kind) = (within.join(entry.file_name()), entry.file_type()?);
            if folder::is_own(&path) && kind.is_file() {
                continue;
            }
            // Nobody here makes links: whoever did wants to keep what they lead to.
            if kind.is_symlink() || !(self.owned)(&path, kind) {
                self.foreign.push(path);
            } else if kind.is_dir() {
                self.look(&path)?;
                self.folders.push(path);
            } else {
                self.files.push(path);
            }
        }
        Ok(())
    }

    fn foreign(&mut self) -> String {
        self.foreign.sort();
        let names: Vec<_> = self.foreign.iter().take(NAMED).map(|path| format!("`{}`", path.display())).collect();
        let more = if self.foreign.len() > NAMED { ", …" } else { "" };
        format!("{}{more}", names.join(", "))
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
