//! The tests' own function: it fails, hangs, exits and sends as it is asked.

#[path = "../task.rs"]
mod task;

use std::{io::Write, path::Path, time::Duration};

use lambda_statefun::prelude::*;
use task::{Act, Notes, Task};

const FUNCTION: &str = "e2e/worker";

impl Value for Task {
    const TYPE_NAME: TypeName = TypeName::from_static("e2e/task");
    type Codec = Json;
}

impl Value for Notes {
    const TYPE_NAME: TypeName = TypeName::from_static("e2e/notes");
    type Codec = Json;
}

const NOTES: ValueSpec<Notes> = ValueSpec::new("notes");

async fn work(ctx: &mut Context, Task { number, act }: Task) -> Result<(), FunctionError> {
    let mut notes = ctx.get(&NOTES)?.unwrap_or_default();
    match act {
        Act::Note => {}
        Act::Fix => notes.fixed = true,
        Act::Fail if !notes.fixed => return Err(FunctionError::retryable("as it was asked")),
        Act::FailForGood if !notes.fixed => return Err(FunctionError::terminal("as it was asked")),
        Act::Fail | Act::FailForGood => {}
        Act::Exit(file) => {
            writeln!(std::fs::OpenOptions::new().create(true).append(true).open(file)?, "run")?;
            std::process::exit(1)
        }
        Act::ExitOnce(file) if first(&file)? => std::process::exit(1),
        Act::HangOnce(file) if first(&file)? => std::future::pending().await,
        Act::BlockOnce(file) if first(&file)? => loop {
            std::thread::park();
        },
        Act::ExitOnce(_) | Act::HangOnce(_) | Act::BlockOnce(_) => {}
        Act::Pass(ids) => {
            let next = ids.iter().position(|id| id == ctx.address().id()).map_or(0, |own| (own + 1) % ids.len());
            if let (Some(id), Some(number)) = (ids.get(next).cloned(), number.checked_sub(1)) {
                ctx.send((FUNCTION, id), &Task { number, act: Act::Pass(ids) })?;
            }
        }
        Act::Emit => ctx.egress("e2e/out", &Task { number, act: Act::Note })?,
        Act::Later(number, millis) => {
            ctx.send_after(Duration::from_millis(millis), ctx.address(), &Task { number, act: Act::Note }, None)?;
        }
    }
    notes.numbers.push(number);
    ctx.set(&NOTES, notes)?;
    Ok(())
}

/// Whether this file was not there yet. It is now, and says which process came here; another says which came again.
fn first(file: &str) -> Result<bool, FunctionError> {
    let first = !Path::new(file).exists();
    let note = if first { file.to_owned() } else { format!("{file}.again") };
    std::fs::write(note, std::process::id().to_string())?;
    Ok(first)
}

#[tokio::main]
async fn main() -> Result<(), lambda_statefun::Error> {
    let worker = Function::new(FUNCTION, work).state(&NOTES).on_failure(OnFailure::DeadLetter { max_attempts: 2 });
    lambda_statefun::run(Application::new().function(worker)).await
}
