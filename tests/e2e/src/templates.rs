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
#[test]
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

/// The text of a resource of template.yaml.
fn resource<'a>(template: &'a str, name: &str) -> &'a str {
    let start = template.find(&format!("\n  {name}:\n")).unwrap_or_else(|| panic!("template.yaml has no {name}")) + 1;
    let rest = &template[start..];
    let mut lines = rest.match_indices('\n').map(|(end, _)| end);
    let end = lines.find(|end| rest[end + 1..].starts_with(|first| !matches!(first, '\n' | ' ')) || next(&rest[end + 1..]));
    &rest[..end.unwrap_or(rest.len())]
}

/// Whether a line begins a resource.
fn next(line: &str) -> bool {
    line.strip_prefix("  ").is_some_and(|line| line.starts_with(|first: char| first.is_ascii_alphabetic()))
}

/// The names of the queues of template.yaml.
fn queues(template: &str) -> Vec<&str> {
    let lines: Vec<_> = template.lines().collect();
    let queue = |pair: &&[&str]| pair[1] == "    Type: AWS::SQS::Queue";
    lines.windows(2).filter(queue).map(|pair| pair[0].trim().trim_end_matches(':')).collect()
}

/// The variables that a text names.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name)
}

/// What a variable stands for in template.yaml.
fn meant<'a>(template: &'a str, variable: &str) -> &'a str {
    let found = template.lines().find_map(|line| line.trim().strip_prefix(variable)?.strip_prefix(": !Ref "));
    found.unwrap_or_else(|| panic!("template.yaml does not set {variable} by `!Ref`"))
}

#[test]
fn the_queues_that_the_module_names_are_set_permitted_and_watched() {
    let (template, module) = (read("template.yaml"), read("infra/module.yaml"));
    let declared = module.lines().filter(|line| !line.trim_start().starts_with('#'));
    let declared: Vec<_> = declared.collect();
    for variable in declared.iter().flat_map(|line| variables(line)) {
        assert!(resource(&template, meant(&template, variable)).contains("Type: AWS::"), "{variable}");
    }
    let functions: Vec<_> = declared.iter().filter(|line| line.trim_start().starts_with("queues: [")).collect();
    assert_eq!(functions.len(), 3, "the functions' queues were not found");
    for queue in functions.iter().flat_map(|line| variables(line)).map(|variable| meant(&template, variable)) {
        let sent = format!("- !GetAtt {queue}.Arn\n");
        assert!(resource(&template, "MaySend").contains(&sent), "MaySend does not permit to send to {queue}");
        for (watcher, name) in
            [("OldMessages", format!("!GetAtt {queue}.QueueName")), ("Dashboard", format!("${{{queue}.QueueName}}"))]
        {
            assert!(resource(&template, watcher).contains(&name), "{watcher} does not show {queue}");
        }
    }
}

#[test]
fn every_queue_is_closed_to_plain_http() {
    let template = read("template.yaml");
    let queues = queues(&template);
    let policy = ["OnlyByTls", "OnlyByFunctions"].map(|policy| resource(&template, policy)).concat();
    assert!(queues.len() > 10, "the queues were not found: {queues:?}");
    let open: Vec<_> = queues.iter().filter(|queue| !policy.contains(&format!("- !Ref {queue}\n"))).collect();
    assert!(open.is_empty(), "in neither policy: {open:?}");
}

/// Later messages prove that what an earlier one caused was sent, as long as nothing else takes messages out of a function's queue.
#[test]
fn only_its_function_takes_messages_out_of_a_functions_queue() {
    let (template, module) = (read("template.yaml"), read("infra/module.yaml"));
    let retention =
        template.split("STATEFUN_QUEUE_RETENTION: !If [HasOutboxMarks, \"").nth(1).and_then(|rest| rest.split('"').next());
    let kept = format!("MessageRetentionPeriod: {}\n", retention.unwrap());
    let lines = module.lines().filter(|line| line.trim_start().starts_with("queues: ["));
    let functions: Vec<_> = lines.flat_map(variables).map(|variable| meant(&template, variable)).collect();
    assert_eq!(functions.len(), 4, "the functions' queues were not found");
    for queue in functions {
        let (declared, policy) = (resource(&template, queue), resource(&template, "OnlyByFunctions"));
        assert!(!declared.contains("\n      RedrivePolicy:"), "{queue} has a redrive policy");
        assert!(declared.contains(&kept), "{queue} keeps messages for another time than the functions believe");
        assert!(policy.contains(&format!("- !Ref {queue}\n")), "others may receive from {queue}");
    }
}

/// One statement lets all Lambdas send to functions. Were it to hold a pattern, it would hold others' queues, too.
#[test]
fn no_statement_about_queues_has_a_pattern() {
    let template = read("template.yaml");
    for line in resource(&template, "MaySend").lines() {
        assert!(!line.contains('*'), "{line}");
    }
}
