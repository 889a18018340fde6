//! Programs in Python, of pinned versions, installed into the workspace's `target` folder: once, until their versions change.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::run::root;

/// A set of pinned packages, and where it is installed.
#[derive(Clone, Copy)]
pub(crate) struct Tools {
    /// Folder in `target/tools`.
    name: &'static str,
    /// The list of versions, from the workspace's root.
    requirements: &'static str,
}

/// The emulator of AWS, and what reads SAM templates for it.
pub(crate) const EMULATOR: Tools = Tools { name: "emulator", requirements: "tests/e2e/requirements.txt" };
/// The SAM CLI, cargo-lambda and the linker for other processors.
pub(crate) const SAM: Tools = Tools { name: "sam", requirements: "infra/requirements.txt" };
/// The template's linter alone.
pub(crate) const LINT: Tools = Tools { name: "cfn-lint", requirements: "infra/requirements-lint.txt" };

impl Tools {
    /// Installs them unless these very versions are there, and returns the folder of their programs.
    pub(crate) fn install(self) -> Result<PathBuf, String> {
        let list = root().join(self.requirements);
        let wanted = fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
        let folder = root().join("target/tools").join(self.name);
        // Written last: a broken installation has none.
        let stamp = folder.join("installed.txt");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(folder.join("bin"));
        }
        println!("installing {} into {}", self.requirements, folder.display());
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"];
        run(Command::new(folder.join("bin/python")).args(pip).arg(&list))?;
        fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
        Ok(folder.join("bin"))
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let status = command.status().map_err(|error| format!("{shown} cannot be started: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{shown} failed ({status}): python3 with venv, and a package index, are needed"))
    }
}

/// `PATH` with this folder before everything else.
pub(crate) fn path_with(folder: &Path) -> Result<String, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(&path));
    let joined = std::env::join_paths(folders).map_err(|error| error.to_string())?;
    joined.into_string().map_err(|path| format!("PATH is not UTF-8: {}", path.display()))
}
