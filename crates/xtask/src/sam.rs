//! What is deployed: template.yaml checked, and built as `sam build` does it on anybody's machine.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    cold_start, e2e,
    emulator::{LINT, SAM, path_with},
    run::{Parts, root},
};

/// Lints the template. Small enough for the test command.
pub(crate) fn lint() -> Result<(), String> {
    run(Command::new(LINT.install()?.join("cfn-lint")).arg("template.yaml"))
}

/// Checks the template with the SAM CLI, builds everything, prints what would be uploaded, and deploys it to the emulator.
pub(crate) fn build(architecture: &str) -> Result<(), String> {
    let (tools, mut parts) = (SAM.install()?, Parts::default());
    let sam = |args: &[&str]| {
        let mut command = Command::new(tools.join("sam"));
        command.args(args).env("SAM_CLI_TELEMETRY", "0").env("AWS_DEFAULT_REGION", "us-east-1").env("ARCHITECTURE", architecture);
        run(command.env("PATH", path_with(&tools)?))
    };
    parts.run("sam validate --lint", || sam(&["validate"]))?;
    parts.run("cfn-lint", || run(Command::new(tools.join("cfn-lint")).arg("template.yaml")))?;
    let parameters = format!("Architecture={architecture}");
    parts.run("sam build", || sam(&["build", "--parameter-overrides", &parameters]))?;
    let built = folders(&root().join(".aws-sam/build"))?;
    sizes(&built, &tools.join("python"))?;
    if architecture.replace("arm64", "aarch64") != std::env::consts::ARCH {
        println!("cold starts are not measured: this machine runs {}, not {architecture}", std::env::consts::ARCH);
    } else {
        parts.run("cold starts", || built.iter().try_for_each(|folder| cold_start::measure(folder)))?;
    }
    parts.run("sam deploy, to the emulator", || e2e::deploy(&tools.join("sam"), architecture))
}

fn folders(built: &Path) -> Result<Vec<PathBuf>, String> {
    let folders = fs::read_dir(built).map_err(|error| format!("{}: {error}", built.display()))?;
    let mut folders: Vec<_> = folders.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    Ok(folders)
}

/// Prints the size of each function's zip.
fn sizes(built: &[PathBuf], python: &Path) -> Result<(), String> {
    for folder in built {
        for needed in ["bootstrap", "module.yaml"] {
            File::open(folder.join(needed)).map_err(|error| format!("{} in {}: {error}", needed, folder.display()))?;
        }
        let zip = root().join("target/tools/package.zip");
        let mut pack = Command::new(python);
        pack.args(["-m", "zipfile", "-c"]).arg(&zip).arg(folder.join("bootstrap")).arg(folder.join("module.yaml"));
        run(&mut pack)?;
        let size = |path: &Path| fs::metadata(path).map(|metadata| metadata.len() as f64 / 1e6).unwrap_or_default();
        let name = folder.file_name().unwrap_or_default().display().to_string();
        println!("{name:<16} {:>5.1} MB, zipped {:>4.1} MB", size(&folder.join("bootstrap")), size(&zip));
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    let status = command.current_dir(root()).status().map_err(|error| format!("{command:?} cannot be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed ({status})")) }
}
