//! The test command: one part after the other, the quick ones first.

use crate::{
    e2e, explore, layers, licences, mutations,
    run::{Parts, cargo, program, quiet_cargo},
    sam, sim,
};

/// The one feature that the workspace as a whole does not switch on by itself: the flights' own router.
pub(crate) const LAMBDA: &str = "flights/lambda";
/// Seeds that the test command runs.
const SEEDS: &str = "400";
/// Seeds within which a missing safeguard must be noticed.
const MUTATION_SEEDS: u64 = 200;
/// Faults of the exploration: with marks two take a minute on two cores that have nothing else to do, and three would take more than an hour.
const FAULTS: u8 = 2;
/// What a part of the exploration may take where the cores are slower, or busy: the bound of `cargo xtask explore`.
const EXPLORATION_SECONDS: u64 = 900;
/// Faults with which the exploration notices missing safeguards; for each one it looks at all worlds.
const MUTATION_FAULTS: u8 = 1;
/// Kills of the test command; `cargo xtask kill` does more.
const KILLS: u32 = 15;

/// Ends with a table of what each part took, also where one failed.
pub(crate) fn all() -> Result<(), String> {
    let mut parts = Parts::default();
    let result = run_all(&mut parts);
    parts.print();
    result?;
    println!("everything passed");
    Ok(())
}

fn run_all(parts: &mut Parts) -> Result<(), String> {
    parts.run("format", || cargo(&["fmt", "--all", "--check"]).run())?;
    parts.run("layers", layers::check)?;
    parts.run("licences", licences::check)?;
    parts.run("template.yaml", sam::lint)?;
    parts.run("lints", || {
        let clippy = quiet_cargo(&["clippy", "--workspace", "--all-targets", "--features", LAMBDA]);
        clippy.args(&["--", "-D", "warnings"]).run()
    })?;
    parts.run("tests", || cargo(&["test", "--workspace", "--features", LAMBDA]).run())?;
    parts.run("Lambdas without the local host", || {
        let packages = ["router-lambda", "greeter", "shopping-cart", "flights"].map(|name| ["--package", name]);
        let clippy = quiet_cargo(&["clippy", "--no-default-features", "--features", "lambda"]);
        clippy.args(&packages.concat()).args(&["--", "-D", "warnings"]).run()
    })?;
    parts.run("documentation", || quiet_cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings").run())?;
    parts.run("conformance of the simulated ports", || {
        quiet_cargo(&["test", "--release", "--package", "statefun-sim", "--features", "conformance"]).run()
    })?;
    for (marks, name) in [(false, "exploration"), (true, "exploration with marks")] {
        parts.run(name, || explore(FAULTS, EXPLORATION_SECONDS, false, marks).run())?;
    }
    for (marks, name) in [(false, "mutations of the exploration"), (true, "mutations of the exploration with marks")] {
        parts.run(name, || explore(MUTATION_FAULTS, EXPLORATION_SECONDS, true, marks).run())?;
    }
    parts.run("simulation", || sim(&["seeds", "0", SEEDS]).run())?;
    parts.run("mutations", || mutations(MUTATION_SEEDS).run())?;
    parts.run("kills", || kill(KILLS, None))?;
    parts.run("end to end", || e2e::run(&[]))?;
    Ok(())
}

/// By what the tests have built: one build fewer, and arithmetic is checked.
pub(crate) fn kill(times: u32, seed: Option<u64>) -> Result<(), String> {
    e2e::build()?;
    let times = format!("--times={times}");
    let seed = seed.map(|seed| format!("--seed={seed}"));
    let step = program("kill").args(&[&*times]);
    seed.iter().fold(step, |step, seed| step.args(&[&**seed])).run()
}
