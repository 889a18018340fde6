//! The test command: one part after the other, the quick ones first.

use crate::{
    e2e, layers, licences, mutations,
    run::{cargo, part},
    sam, sim,
};

/// The one feature that the workspace as a whole does not switch on by itself: the flights' own router.
pub(crate) const LAMBDA: &str = "flights/lambda";
/// Seeds that the test command runs.
const SEEDS: &str = "400";
/// Seeds within which a missing safeguard must be noticed.
const MUTATION_SEEDS: u64 = 60;
/// Kills of the test command; `cargo xtask kill` does more.
const KILLS: u32 = 15;

pub(crate) fn all() -> Result<(), String> {
    part("format", || cargo(&["fmt", "--all", "--check"]).run())?;
    part("layers", layers::check)?;
    part("licences", licences::check)?;
    part("template.yaml", sam::lint)?;
    part("lints", || {
        let clippy = cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--features", LAMBDA]);
        clippy.args(&["--", "-D", "warnings"]).run()
    })?;
    part("tests", || cargo(&["test", "--workspace", "--features", LAMBDA]).run())?;
    part("Lambdas without the local host", || {
        let packages = ["router-lambda", "greeter", "shopping-cart", "flights"].map(|name| ["--package", name]);
        let clippy = cargo(&["clippy", "--quiet", "--no-default-features", "--features", "lambda"]);
        clippy.args(&packages.concat()).args(&["--", "-D", "warnings"]).run()
    })?;
    part("documentation", || cargo(&["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings").run())?;
    part("conformance of the simulated ports", || {
        cargo(&["test", "--quiet", "--release", "--package", "statefun-sim", "--features", "conformance"]).run()
    })?;
    part("simulation", || sim(&["seeds", "0", SEEDS]).run())?;
    part("mutations", || mutations(MUTATION_SEEDS).run())?;
    part("kills", || kill(KILLS, None))?;
    part("end to end", || e2e::run(&[]))?;
    println!("everything passed");
    Ok(())
}

pub(crate) fn kill(times: u32, seed: Option<u64>) -> Result<(), String> {
    let build = ["build", "--quiet", "--release", "--package", "statefun-tests", "--bins"];
    cargo(&build).run()?;
    let mut step = cargo(&["run", "--quiet", "--release", "--package", "statefun-tests", "--bin", "kill", "--"])
        .args(&["--times", &times.to_string()]);
    if let Some(seed) = seed {
        step = step.args(&["--seed", &seed.to_string()]);
    }
    step.run()
}
