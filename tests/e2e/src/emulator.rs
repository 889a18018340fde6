//! The emulator: AWS's services in a process of its own, on a port of its own, gone when this is.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    http::Http,
    problem::{Problem, Result, until},
};

/// Ends the emulator with the process that started it, even with one that is killed, and fixes its queues.
const LAUNCHER: &str = include_str!("emulator.py");

/// How long it may take to end its functions itself.
const GRACE: Duration = Duration::from_secs(5);

/// A running emulator. Its functions are processes of its group, and end with it.
pub(crate) struct Emulator {
    process: Child,
    address: SocketAddr,
}

impl Emulator {
    /// Starts one with this Python. Its functions call `functions_call`. Has to be called by the main thread, with which it ends.
    pub(crate) fn start(python: &Path, functions_call: SocketAddr, log: &Path) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let output = File::create(log).map_err(|error| Problem::from(error).during(log.display()))?;
        let mut command = Command::new(python);
        command.args(["-c", LAUNCHER]).process_group(0).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        command.env("BIND_HOST", address.ip().to_string()).env("MINISTACK_HOST", address.ip().to_string());
        command.env("GATEWAY_PORT", address.port().to_string());
        command.env("AWS_ENDPOINT_URL", format!("http://{functions_call}"));
        // What this machine is set up with is not for the functions.
        for name in ["AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "RUST_LOG"] {
            command.env_remove(name);
        }
        let process = command.spawn().map_err(|error| Problem::from(error).during(python.display()))?;
        Ok(Self { process, address })
    }

    /// Returns once it answers.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let http = Http::new(&self.endpoint(), "000000000000");
        until("the emulator does not answer", Duration::from_secs(30), async || {
            if let Some(status) = self.process.try_wait()? {
                return Err(Problem::new(format!("it has ended: {status}")));
            }
            http.call(hyper::Method::GET, "health", "/_ministack/health", "text/plain", "").await.map(drop)
        })
        .await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Nobody can act if this fails, and the launcher's own end is another way.
        let signal = |name: &str, whom: String| {
            let _ = Command::new("kill").args([name, "--", &whom]).stderr(Stdio::null()).status();
        };
        signal("-TERM", self.process.id().to_string());
        let deadline = Instant::now() + GRACE;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        signal("-KILL", format!("-{}", self.process.id()));
        let _ = self.process.wait();
    }
}

/// Processes of a function in an account, by their ids. `functions_call` distinguishes the emulator from others on this machine.
pub(crate) fn processes(functions_call: SocketAddr, account: &str, function: impl Fn(&str) -> bool) -> Vec<u32> {
    let wanted = [format!("AWS_ENDPOINT_URL=http://{functions_call}"), format!("AWS_ACCESS_KEY_ID={account}")];
    let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        let variables: Vec<_> = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        wanted.iter().all(|wanted| variables.iter().any(|variable| variable == wanted))
            && variables.iter().any(|variable| variable.strip_prefix("AWS_LAMBDA_FUNCTION_NAME=").is_some_and(&function))
    })
    .collect()
}

/// Kills all processes of a function, with SIGKILL. Says how many there were.
pub(crate) fn kill(functions_call: SocketAddr, account: &str, function: &str) -> usize {
    let killed = processes(functions_call, account, |name| name == function).into_iter().filter(|id| {
        let kill = Command::new("kill").args(["-KILL", &id.to_string()]).stderr(Stdio::null()).status();
        kill.is_ok_and(|status| status.success())
    });
    killed.count()
}
