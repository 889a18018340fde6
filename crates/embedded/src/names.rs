//! Names that outlive a power cut. Syncing a file makes its content durable, not its name: a new folder, and a file that is new or
//! was renamed, is found again for sure only once the folder that it is in was synced.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// Makes a folder, and those above it that are missing, all with durable names. Returns the folders that were synced, from the
/// top.
///
/// Each is synced before the next is made below it. So a process that dies on the way leaves one name at most that is not durable,
/// that of the last folder: the name of the first one that is found here is made durable, too.
///
/// # Errors
/// If one cannot be made or synced.
pub fn make_folder(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let is_there = |folder: &Path| folder.as_os_str().is_empty() || folder.is_dir();
    let missing: Vec<_> = dir.ancestors().take_while(|folder| !is_there(folder)).collect();
    let mut synced = Vec::new();
    if let Some(found) = dir.ancestors().nth(missing.len()) {
        synced.extend(keep_found_name(found)?);
    }
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            // Somebody else made it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            made => made?,
        }
        synced.extend(keep_name(folder)?);
    }
    Ok(synced)
}

/// Makes the name of a new file or folder durable; returns the folder that was synced for that. The root has no name.
///
/// # Errors
/// If that folder cannot be synced.
pub fn keep_name(path: &Path) -> io::Result<Option<PathBuf>> {
    let Some(folder) = path.parent() else { return Ok(None) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    sync_folder(folder)?;
    Ok(Some(folder.into()))
}

/// Makes the name durable of a file or folder that was found: a process that made it may have died before it did so. A folder that
/// we may not even read is left alone, since what is in it is the work of others.
///
/// # Errors
/// As [`keep_name`].
pub fn keep_found_name(path: &Path) -> io::Result<Option<PathBuf>> {
    match keep_name(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        kept => kept,
    }
}

/// Makes all names in a folder durable. Not every system can open a folder; those that cannot do not need it.
pub(crate) fn sync_folder(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_made_has_a_durable_name() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let above = root.path().parent().unwrap().to_owned();
        assert_eq!(make_folder(&at("a/b/c")).unwrap(), [above, root.path().into(), at("a"), at("a/b")]);
        assert!(at("a/b/c").is_dir());
        assert_eq!(keep_name(&at("a/b/c/file")).unwrap(), Some(at("a/b/c")));
    }

    #[test]
    fn what_a_process_made_that_died_gets_a_durable_name() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("a/b")).unwrap();
        assert_eq!(make_folder(&at("a/b")).unwrap(), [at("a")]);
        assert_eq!(make_folder(&at("a/b/c/d")).unwrap(), [at("a"), at("a/b"), at("a/b/c")]);
    }

    #[test]
    fn relative_paths_begin_here() {
        assert!(make_folder(Path::new("")).unwrap().is_empty());
        assert_eq!(make_folder(Path::new("src")).unwrap(), [Path::new(".")]);
        assert_eq!(make_folder(Path::new("src/tests")).unwrap(), [Path::new("src")]);
        assert_eq!(keep_name(Path::new("file")).unwrap(), Some(".".into()));
        assert_eq!(keep_name(Path::new("/")).unwrap(), None);
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(make_folder(&file).is_err());
        assert!(make_folder(&file.join("folder")).is_err());
        assert_eq!(fs::read_to_string(file).unwrap(), "x");
    }
}
