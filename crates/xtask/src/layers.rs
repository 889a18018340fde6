//! Dependencies between our crates point down. This is the picture of `docs/architecture.md`, as code.

use crate::run::metadata;

/// Each crate, and which of ours it may use. Development dependencies may also use what is named after `dev`.
const LAYERS: &[(&str, &[&str], &[&str])] = &[
    ("statefun-core", &[], &[]),
    ("statefun-engine", &["statefun-core"], &[]),
    ("statefun-explore", &["statefun-core"], &[]),
    ("statefun-sim", &["statefun-core", "statefun-engine", "statefun-ingress"], &[]),
    ("statefun-embedded", &["statefun-core", "statefun-engine"], &[]),
    ("statefun-module", &["statefun-core"], &[]),
    ("statefun-ingress", &["statefun-core", "statefun-engine", "statefun-module"], &[]),
    ("statefun-aws", &["statefun-core", "statefun-engine"], &[]),
    ("statefun-host", &["statefun-core", "statefun-engine", "statefun-embedded", "statefun-module", "statefun-ingress"], &[]),
    ("statefun-lambda", &["statefun-core", "statefun-engine", "statefun-aws", "statefun-module", "statefun-ingress"], &[]),
    ("lambda-statefun", &["statefun-core", "statefun-engine", "statefun-host", "statefun-lambda", "statefun-ingress"], &[]),
    ("statefun-mistakes", &[], &["lambda-statefun"]),
    ("router-lambda", &["lambda-statefun"], &[]),
    ("statefun-e2e", &["statefun-core", "statefun-engine", "statefun-aws", "lambda-statefun"], &["statefun-sim"]),
    ("greeter", &["lambda-statefun"], &[]),
    ("shopping-cart", &["lambda-statefun"], &[]),
    ("flights", &["lambda-statefun"], &[]),
    (
        "statefun-tests",
        &["lambda-statefun", "statefun-core", "statefun-engine", "statefun-embedded", "statefun-host"],
        &["greeter"],
    ),
    (
        "statefun-fuzz",
        &["statefun-core", "statefun-engine", "statefun-module", "statefun-ingress", "statefun-host", "statefun-lambda"],
        &[],
    ),
    ("xtask", &[], &[]),
];

/// Dependencies that only some crates may have, by the beginning of their names.
const RESERVED: &[(&str, &[&str])] = &[
    ("aws-sdk-", &["statefun-aws", "statefun-e2e"]),
    ("redb", &["statefun-embedded"]),
    (
        "tokio",
        &[
            "statefun-aws",
            "statefun-embedded",
            "statefun-host",
            "statefun-lambda",
            "lambda-statefun",
            "greeter",
            "shopping-cart",
            "flights",
            "router-lambda",
            "statefun-tests",
            "statefun-e2e",
            "statefun-fuzz",
        ],
    ),
];

pub(crate) fn check() -> Result<(), String> {
    let metadata = metadata(&["--no-deps"])?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let ours: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut problems = Vec::new();
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed, dev)) = LAYERS.iter().find(|(layer, ..)| *layer == name) else {
            problems.push(format!("{name} has no place in the layers: add it to crates/xtask/src/layers.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"].as_str().unwrap_or_default();
            let is_dev = dependency["kind"] == "dev";
            if ours.contains(&target) && !allowed.contains(&target) && !(is_dev && dev.contains(&target)) {
                problems.push(format!("{name} must not depend on {target}"));
            }
            let reserved = RESERVED.iter().find(|(prefix, _)| target.starts_with(prefix));
            if reserved.is_some_and(|(_, users)| !users.contains(&name)) && !is_dev {
                problems.push(format!("{name} must not use {target}: it belongs to another layer"));
            }
        }
    }
    if problems.is_empty() {
        println!("{} crates, every dependency points down", ours.len());
        return Ok(());
    }
    Err(problems.join("\n"))
}
