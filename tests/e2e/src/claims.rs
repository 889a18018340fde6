//! What docs/failures.md names in its last columns is there.

use std::{collections::BTreeSet, fs, path::Path};

use statefun_core::Safeguard;
use statefun_sim::World;

use crate::scenarios;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The tests of all sources under a folder.
fn tests_of(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() && !entry.ends_with("target") {
            tests_of(&entry, names);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            names.extend(tests_in(&fs::read_to_string(entry).unwrap()));
        }
    }
}

/// Functions whose attributes make them tests.
fn tests_in(source: &str) -> Vec<String> {
    let (mut found, mut test) = (Vec::new(), false);
    for line in source.lines().map(str::trim_start) {
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if let Some((name, _)) = function.filter(|_| test).and_then(|function| function.split_once('(')) {
            found.push(name.to_owned());
        }
        test = (test && line.starts_with("#[")) || line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    }
    found
}

/// The last cell of each row of the tables.
fn last_cells(document: &str) -> impl Iterator<Item = &str> {
    let rows = document.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.rsplit(" | ").next());
    rows.filter(|cell| *cell != "shown by")
}

/// What is in backticks.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_name_that_the_table_of_failures_gives_exists() {
    let mut known: BTreeSet<String> = scenarios::ALL.iter().map(|scenario| scenario.name.to_owned()).collect();
    known.extend(Safeguard::ALL.iter().map(|safeguard| format!("{safeguard:?}")));
    known.extend(World::ALL.iter().map(|world| world.name().to_owned()));
    for folder in ["crates", "functions", "router-lambda", "sdk", "tests"] {
        tests_of(&Path::new(ROOT).join(folder), &mut known);
    }
    let document = fs::read_to_string(Path::new(ROOT).join("docs/failures.md")).unwrap();
    let cells: Vec<_> = last_cells(&document).collect();
    assert!(cells.len() > 30, "the tables were not found: {cells:?}");
    let unknown: Vec<_> = cells.iter().flat_map(|cell| names(cell)).filter(|name| !known.contains(*name)).collect();
    assert!(unknown.is_empty(), "neither a test, a scenario, a safeguard nor a world: {unknown:?}");
    let nothing: Vec<_> = cells.iter().filter(|cell| names(cell).next().is_none() && !cell.starts_with("described")).collect();
    assert!(nothing.is_empty(), "name a test, or write that it is only described: {nothing:?}");
}

#[test]
fn tests_are_told_from_other_functions() {
    let source =
        "fn no(\n#[test]\nfn one(\n    #[tokio::test(start_paused = true)]\n    #[ignore]\n    async fn two(\nasync fn no_more(";
    assert_eq!(tests_in(source), ["one", "two"]);
    assert_eq!(names("e2e `a` (b), `c-d`; sim").collect::<Vec<_>>(), ["a", "c-d"]);
    let cells: Vec<_> = last_cells("| x | shown by |\n|---|---|\n| a | e2e `b` |\ntext").collect();
    assert_eq!(cells, ["e2e `b`"]);
}
