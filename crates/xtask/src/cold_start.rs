//! How long a Lambda's binary takes from its start to its first poll, with a stand-in for the runtime API.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

const RUNS: usize = 21;
const LIMIT: Duration = Duration::from_secs(10);

/// Starts the binary of a built folder a few times, and prints the median and the slowest.
pub(crate) fn measure(folder: &Path) -> Result<(), String> {
    let module = fs::read_to_string(folder.join("module.yaml")).map_err(|error| error.to_string())?;
    let mut times = (0..RUNS).map(|_| once(folder, &module)).collect::<Result<Vec<_>, _>>()?;
    times.sort();
    let name = folder.file_name().unwrap_or_default().display().to_string();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (median, slowest) = (milliseconds(times[RUNS / 2]), milliseconds(times[RUNS - 1]));
    println!("{name:<16} first poll after {median:>5.1} ms, the slowest of {RUNS} after {slowest:>5.1} ms");
    Ok(())
}

fn once(folder: &Path, module: &str) -> Result<Duration, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let (polled, polls) = mpsc::channel();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let polled = polled.clone();
            thread::spawn(move || serve(connection, &polled));
        }
    });
    let mut command = Command::new(folder.join("bootstrap"));
    // What it says to standard error is why it does not poll.
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command.env("AWS_LAMBDA_RUNTIME_API", address.to_string()).env("LAMBDA_TASK_ROOT", folder);
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "none"),
        ("AWS_SECRET_ACCESS_KEY", "none"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_LAMBDA_FUNCTION_NAME", "measured"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
        ("STATEFUN_TABLE", "table"),
        ("STATEFUN_DEAD_LETTERS", "https://sqs.us-east-1.amazonaws.com/123456789012/letters.fifo"),
        ("STATEFUN_TIMERS", "https://sqs.us-east-1.amazonaws.com/123456789012/timers"),
    ] {
        command.env(name, value);
    }
    command.envs(variables(module)?);
    let start = Instant::now();
    let mut process = command.spawn().map_err(|error| format!("{}: {error}", folder.display()))?;
    let polled = polls.recv_timeout(LIMIT).map_err(|_| format!("{} does not poll", folder.display()));
    let ended = process.kill().and_then(|()| process.wait());
    ended.map_err(|error| error.to_string())?;
    Ok(polled?.duration_since(start))
}

/// Answers what comes before the first poll, and reports when that comes.
fn serve(mut connection: TcpStream, polled: &mpsc::Sender<Instant>) {
    let Ok(reader) = connection.try_clone().map(BufReader::new) else { return };
    for line in reader.lines().map_while(Result::ok) {
        if line.contains("/runtime/invocation/next ") {
            // Nobody waits any more after the first.
            let _ = polled.send(Instant::now());
        } else if line.contains("/extension/register ") {
            let answer = "HTTP/1.1 200 OK\r\nlambda-extension-identifier: one\r\ncontent-length: 0\r\n\r\n";
            if connection.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// Something that fits for each `${NAME}` of a module file, by the name's end.
fn variables(module: &str) -> Result<Vec<(String, String)>, String> {
    let lines = module.lines().filter(|line| !line.trim_start().starts_with('#'));
    let names: BTreeSet<&str> =
        lines.flat_map(|line| line.split("${").skip(1)).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect();
    let value = |name: &str| {
        let number = name.rsplit_once('_').filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
        match number.map_or(name, |(name, _)| name) {
            kind if kind.ends_with("_QUEUE") => Ok(format!("https://sqs.us-east-1.amazonaws.com/123456789012/{name}.fifo")),
            kind if kind.ends_with("_TOPIC") => Ok(format!("arn:aws:sns:us-east-1:123456789012:{name}")),
            kind if kind.ends_with("_STREAM") => Ok(name.to_owned()),
            _ => Err(format!("what the variable `{name}` of module.yaml stands for is not known here: add it to cold_start.rs")),
        }
    };
    names.into_iter().map(|name| Ok((name.to_owned(), value(name)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_of_the_deployed_module_has_a_value() {
        let module = fs::read_to_string(crate::run::root().join("infra/module.yaml")).unwrap();
        let values = variables(&module).unwrap();
        assert!(values.iter().any(|(name, value)| name.ends_with("_QUEUE_0") && value.ends_with(".fifo")), "{values:?}");
        assert!(variables("${WHATEVER}").unwrap_err().contains("`WHATEVER`"));
    }
}
