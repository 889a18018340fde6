//! What the templates must say, and what they must not. They are read as text, so that what the documentation shows is read, too.

use std::{fs, path::Path};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// All templates, and all texts that show a part of one.
fn texts() -> Vec<(String, String)> {
    let shown = fs::read_dir(Path::new(ROOT).join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let shown = shown.map(|name| format!("docs/{}", name.into_string().unwrap())).filter(|name| name.ends_with(".md"));
    let files = ["template.yaml", "tests/e2e/functions/template.yaml", "README.md"].map(str::to_owned).into_iter().chain(shown);
    files.map(|file| (file.clone(), read(&file))).collect()
}

/// Lines in which `QueueName` is a key. As a value it stands in alarms, as an attribute after a dot.
fn fixed_names(text: &str) -> Vec<&str> {
    let key = |line: &&str| line.replace(['"', '\'', ' '], "").contains("QueueName:");
    text.lines().filter(key).collect()
}

/// A queue that is made anew under its old name may number its messages from a lower start. The records know the queue by its name, so
/// they would take every message for a copy.
// Known to fail: template.yaml names the functions' queues.
#[test]
#[should_panic(expected = "has queues with fixed names")]
fn no_queue_has_a_fixed_name() {
    for (file, text) in texts() {
        let found = fixed_names(&text);
        assert!(found.is_empty(), "{file} has queues with fixed names, let CloudFormation name them: {found:?}");
    }
}

#[test]
fn a_fixed_name_is_found() {
    for fixed in ["      QueueName: x.fifo", "Properties: {FifoQueue: true, QueueName: !Sub x}", "{\"QueueName\" : \"x\"}"] {
        assert_eq!(fixed_names(fixed), [fixed]);
    }
    for other in ["Dimensions: [{Name: QueueName, Value: !GetAtt A.QueueName}]", "[\"QueueName\", \"${A.QueueName}\"]"] {
        assert!(fixed_names(other).is_empty(), "{other}");
    }
}
