//! `module.yaml`.

use statefun_module::{InvalidModule, Module};

use super::{ensure, shape, some};
use crate::{Check, Target};

pub(crate) const MODULE: Target = Target {
    name: "module",
    words: &[
        "kind: ",
        "spec:\n",
        "---\n",
        "- ",
        "  ",
        "io.statefun.sqs.v1/ingress",
        "io.statefun.kinesis.v1/ingress",
        "io.statefun.sqs.v1/egress",
        "<<: *a",
        "&a ",
        "*a",
        "!t ",
        "${A}",
        "${",
        "? ",
        "|\n",
        ">\n",
        "id: a/b",
        "streams:",
        "queues:",
        "targets: [a/b]",
        "valueType: ",
        "jsonPointer: ",
        "messageId",
        "partitionKey",
        "# ",
        "arn:aws:kinesis:r:1:stream/s/consumer/c:1",
        "textColumns: [a]",
    ],
    start: || -> Check { Box::new(check) },
};

fn check(input: &[u8]) -> Result<String, String> {
    let lines = input.split(|byte| *byte == b'\n').count() + input.iter().filter(|byte| **byte == b'\r').count();
    let cloud = told(read(input), lines)?;
    let local = told(Module::parse("m.yaml", input).and_then(|file| file.resolve_local(&|_| None)), lines)?;
    // Line ends of Windows mean the same. (Where some are already there, they would not be only that.)
    if !input.contains(&b'\r') {
        let windows = input.split(|byte| *byte == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]);
        match (read(input), read(&windows)) {
            (Ok(one), Ok(two)) => ensure(one == two, || format!("{one:?} is {two:?} with line ends of Windows"))?,
            (Err(one), Err(two)) => {
                ensure(one.problems.len() == two.problems.len(), || format!("{one}\nis with line ends of Windows\n{two}"))?
            }
            (one, two) => return Err(format!("{one:?} is {two:?} with line ends of Windows")),
        }
    }
    Ok(format!("{cloud} | {local}"))
}

fn read(input: &[u8]) -> Result<Module, InvalidModule> {
    Module::parse("m.yaml", input)?.resolve(&|name| (name.len() < 9).then(|| "x".repeat(name.len())))
}

/// What a reading of a file of so many lines says.
fn told(read: Result<Module, InvalidModule>, lines: usize) -> Result<String, String> {
    let error = match read {
        Ok(module) => return Ok(format!("{} {}", some(module.ingresses.len()), some(module.egresses.len()))),
        Err(error) => error,
    };
    ensure(!error.problems.is_empty(), || "a refusal without a problem".to_owned())?;
    for problem in &error.problems {
        let place = problem.place;
        ensure((1..=lines + 1).contains(&place.line) && place.column >= 1 && place.length >= 1, || {
            format!("{place:?} is not in the file of {lines} lines: {}", problem.message)
        })?;
        ensure(!problem.message.is_empty() && problem.to_string().contains("m.yaml:"), || {
            format!("{problem} does not say where")
        })?;
    }
    let ordered = error.problems.is_sorted_by_key(|problem| problem.place.line);
    ensure(ordered, || format!("not in the file's order:\n{error}"))?;
    Ok(error.problems.iter().take(3).map(|problem| shape(&problem.message)).collect())
}
