//! A host in a process of its own, to be killed, and with a working folder of its own. It is the test program, started again.

use std::{
    ffi::{OsStr, OsString},
    fs,
    net::SocketAddr,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use statefun_core::{Accepted, Context, FunctionError, Json, TypeName, TypedValue, Value};
use statefun_engine::Invoke;
use statefun_host::{App, HostOptions, run_cli};

use super::{Sync, functions, spec};

const ARGUMENTS: &str = "STATEFUN_TEST_ARGUMENTS";
/// How long its handlers may go on when it stops.
pub const STOP_MILLIS: &str = "STATEFUN_TEST_STOP_MILLIS";
const BETWEEN: u8 = 0x1f;

/// The test that is the host if it is started with arguments.
const ENTRY: &str = "a_host_in_a_process_of_its_own";

/// Any JSON at all.
#[derive(Debug, Serialize, Deserialize)]
pub struct Any(pub serde_json::Value);

impl Value for Any {
    const TYPE_NAME: TypeName = TypeName::from_static("test/any");
    type Codec = Json;
}

/// A row whose code is text, whatever it looks like.
#[derive(Debug, Serialize, Deserialize)]
pub struct Label {
    pub id: String,
    pub code: String,
}

impl Value for Label {
    const TYPE_NAME: TypeName = TypeName::from_static("test/label");
    type Codec = Json;
}

/// Waits for ever, and yields.
struct Waits;

#[async_trait::async_trait]
impl Invoke for Waits {
    async fn invoke(&self, _: &mut Context, _: &TypedValue) -> Result<(), FunctionError> {
        std::future::pending().await
    }
}

/// Runs the host, and does not return, if this process was started for that. Call it in a test of the name `ENTRY`.
pub fn serve_if_asked() {
    let Some(arguments) = std::env::var_os(ARGUMENTS) else { return };
    let arguments = arguments.as_bytes().split(|byte| *byte == BETWEEN).map(|part| OsString::from_vec(part.to_vec()));
    let mut functions = functions();
    // Sends what it gets, as it stands, to the egress `test/echoes`.
    let echo = Sync(|context: &mut Context, message: &TypedValue| {
        let text = String::from_utf8_lossy(message.value.as_deref().unwrap_or_default()).into_owned();
        Ok(context.egress("test/echoes", &text)?)
    });
    functions.add(spec("test/echo", vec![Accepted::of::<Any>()]), Arc::new(echo));
    let label = Sync(|context: &mut Context, message: &TypedValue| {
        let code = message.get::<Label>()?.map(|label| label.code).unwrap_or_default();
        Ok(context.egress("test/codes", &code)?)
    });
    functions.add(spec("test/labels", vec![Accepted::of::<Label>()]), Arc::new(label));
    // Sends to both `test/out` and `test/other`.
    let both = Sync(|context: &mut Context, _: &TypedValue| {
        let id = context.address().id().to_owned();
        context.egress("test/out", &id)?;
        Ok(context.egress("test/other", &id)?)
    });
    functions.add(spec("test/both", vec![Accepted::of::<Any>()]), Arc::new(both));
    // Holds its thread for ever.
    let holds = Sync(|context: &mut Context, _: &TypedValue| {
        context.egress("test/out", &"held".to_owned())?;
        loop {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    functions.add(spec("test/holds", vec![Accepted::of::<Any>()]), Arc::new(holds));
    functions.add(spec("test/waits", vec![Accepted::of::<Any>()]), Arc::new(Waits));
    let mut options = HostOptions::new("");
    if let Some(millis) = std::env::var_os(STOP_MILLIS).and_then(|text| text.to_str()?.parse().ok()) {
        options.stop_timeout = Duration::from_millis(millis);
    }
    options.backoff.first = Duration::from_millis(5);
    options.backoff.longest = Duration::from_millis(50);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let app = App { options, ..App::new(functions) };
    let result = runtime.block_on(run_cli(app, std::iter::once("app".into()).chain(arguments)));
    // As the end of a `main` does: it must not wait for what handlers hold.
    drop(runtime);
    let code = result.map_or_else(
        |error| {
            error.report();
            error.exit_code()
        },
        |()| 0,
    );
    std::process::exit(code.into());
}

/// A host that runs.
pub struct Process(Child);

/// Starts a host in this working folder.
pub fn start<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> Process {
    Process(command(folder, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Environment variables that name files.
type Variables<'a> = &'a [(&'a str, &'a Path)];

/// As [`start`], with these variables set.
pub fn start_with<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>, set: Variables<'_>) -> Process {
    let mut command = command(folder, arguments);
    Process(command.envs(set.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Starts a host whose files cannot become larger than this, as on a disk that is full then. What it says goes to the file.
pub fn start_on_full_disk<S: AsRef<OsStr>>(
    folder: &Path,
    arguments: impl IntoIterator<Item = S>,
    kib: u32,
    said: &Path,
) -> Process {
    let host = command(folder, arguments);
    let mut command = Command::new("sh");
    // `ulimit` counts in blocks of 512 bytes. Unless the signal is ignored, it ends the process.
    command.args(["-c", &format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", kib * 2), "sh"]);
    command.arg(host.get_program()).args(host.get_args()).current_dir(folder).env(STOP_MILLIS, "2000");
    for (name, value) in host.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Process(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(fs::File::create(said).unwrap()).spawn().unwrap())
}

/// Starts a host whose standard error is this.
pub fn start_with_stderr<S: AsRef<OsStr>>(
    folder: &Path,
    arguments: impl IntoIterator<Item = S>,
    stderr: impl Into<Stdio>,
) -> Process {
    let mut command = command(folder, arguments);
    command.env("RUST_LOG", "trace").env(STOP_MILLIS, "1000");
    Process(command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap())
}

/// Starts a host in a terminal, which is closed once the file `close` is there. Its standard input is one row, and stays open.
pub fn start_in_terminal<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>, nohup: bool) -> Process {
    const TERMINAL: &str = r#"
import fcntl, os, pty, signal, subprocess, sys, termios, threading, time
master, slave = pty.openpty()
def begin():
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "nohup" else signal.SIG_DFL)
host = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=slave, preexec_fn=begin)
os.close(slave)
host.stdin.write(b'{"id":"first"}\n')
host.stdin.flush()
open("pid", "w").write(str(host.pid))
def read():
    try:
        while os.read(master, 65536): pass
    except OSError: pass
threading.Thread(target=read, daemon=True).start()
while host.poll() is None and not os.path.exists("close"): time.sleep(0.01)
host.stdin.write(b'{"id":"second"}\n')
host.stdin.flush()
# The host's end of it does not count: it hangs up once this process, which has the other, lets go.
os.dup2(os.open("/dev/null", os.O_RDWR), master)
sys.exit(host.wait())
"#;
    let host = command(folder, arguments);
    let mut command = Command::new("python3");
    command.args(["-c", TERMINAL, if nohup { "nohup" } else { "hangup" }]).arg(host.get_program()).args(host.get_args());
    command.current_dir(folder).env(STOP_MILLIS, "1000");
    for (name, value) in host.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    Process(command.env("RUST_LOG", "debug").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Starts a host whose handlers may go on for this long when it stops. What it says goes to the file.
pub fn start_saying<S: AsRef<OsStr>>(
    folder: &Path,
    arguments: impl IntoIterator<Item = S>,
    stop: Duration,
    said: &Path,
) -> Process {
    let mut command = command(folder, arguments);
    command.env(STOP_MILLIS, stop.as_millis().to_string());
    Process(command.stdout(Stdio::null()).stderr(fs::File::create(said).unwrap()).spawn().unwrap())
}

/// Runs a host to its end.
pub fn finish<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> Output {
    finish_with(folder, arguments, &[])
}

/// As [`finish`], with these variables set.
pub fn finish_with<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>, set: Variables<'_>) -> Output {
    let mut command = command(folder, arguments);
    command.envs(set.iter().copied());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let said = std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stderr, &mut said);
        said
    });
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("it does not end: {}", String::from_utf8_lossy(&said.join().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Output { status, stdout: Vec::new(), stderr: said.join().unwrap() }
}

/// Runs a host to its end, which has to be a good one. Returns what it said.
pub fn finish_well<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> String {
    let output = finish(folder, arguments);
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    said
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a host to its end, which has to be a good one. Returns what it printed, and what the test program around it did.
pub fn printed<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> String {
    let output = command(folder, arguments).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a host to its end, with a terminal. Returns what is seen there. Needs `script` of util-linux.
pub fn on_a_terminal<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> String {
    let host = command(folder, arguments);
    let mut command = Command::new("script");
    let line = [host.get_program()].into_iter().chain(host.get_args()).map(|part| part.to_str().unwrap());
    command.args(["--quiet", "--return", "--command", &line.collect::<Vec<_>>().join(" "), "/dev/null"]);
    for (name, value) in host.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.current_dir(folder).env("TERM", "xterm").stdin(Stdio::null()).output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{seen}");
    seen
}

/// Starts a host whose standard output nobody reads.
pub fn start_unread<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> Process {
    let mut child = command(folder, arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // The test program says which test it runs before it is a host.
    let (mut stdout, mut said) = (child.stdout.take().unwrap(), Vec::new());
    while !said.ends_with(b" ... ") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut stdout, &mut byte).unwrap();
        said.extend(byte);
    }
    drop(stdout);
    Process(child)
}

/// The arguments in a line.
pub fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn command<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut joined = Vec::new();
    for argument in arguments {
        if !joined.is_empty() {
            joined.push(BETWEEN);
        }
        joined.extend_from_slice(argument.as_ref().as_bytes());
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", ENTRY, "--nocapture", "--test-threads=1"]);
    command.current_dir(folder).env(ARGUMENTS, OsString::from_vec(joined)).env_remove("RUST_LOG");
    command
}

impl Process {
    /// `kill -9`.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Sends it a signal, by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end, and returns its exit code.
    pub fn end(&mut self) -> Option<i32> {
        wait_for(|| self.0.try_wait().unwrap()).code()
    }

    /// Where it listens, once it does. `data` is its folder.
    pub fn address(&mut self, data: &Path) -> SocketAddr {
        wait_for(|| fs::read_to_string(data.join("address")).ok()?.trim().parse().ok())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits, up to a minute, until there is something.
pub fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "waited for too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}
