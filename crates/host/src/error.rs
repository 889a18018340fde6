//! Errors by what to do about them.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

pub(crate) use statefun_core::chain;
use statefun_core::{InvalidAddress, TypeName, paragraphs};
use statefun_embedded::OpenError;
use statefun_engine::ports::PortError;

/// How long an error's report may take: the terminal may be stopped.
const REPORT_TIMEOUT: Duration = Duration::from_millis(300);

/// What keeps a host from starting or from going on.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Arguments, environment variables or the module are wrong: all problems found, each with one or more lines.
    #[error("{}", paragraphs("", .0))]
    Config(Vec<String>),
    /// The command line cannot be read: a text for people, as it is.
    #[error("{0}")]
    Usage(String),
    /// A command asks for something that is not there.
    #[error("{0}")]
    Missing(String),
    /// Another process has the data folder; the same can be asked of it.
    #[error("{data} is in use{}: {advice}", .pid.map_or_else(String::new, |pid| format!(" by process {pid}")))]
    InUse {
        /// The folder.
        data: String,
        /// The process that has it.
        pid: Option<u32>,
        /// What to do instead.
        advice: String,
    },
    /// The data folder cannot be opened.
    #[error("cannot open the data folder")]
    Open(#[from] OpenError),
    /// The address to listen on cannot be had.
    #[error("cannot listen on {address}: {advice}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What to do about it.
        advice: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// An input cannot be read (any further).
    #[error(transparent)]
    Input(#[from] InputError),
    /// The store failed.
    #[error("the data folder cannot be read or written")]
    Store(#[from] PortError),
    /// Something that the host cannot do without is gone: the disk, or the standard output.
    #[error("the host cannot go on: {0}")]
    Stopped(String),
    /// Anything else of the system.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What to do about a [`HostError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Change the arguments, the environment variables or the call.
    FixTheCall,
    /// The machine, a file or the data folder needs attention; then start again.
    FixTheMachine,
}

impl HostError {
    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) | Self::Usage(_) | Self::Missing(_) => ErrorKind::FixTheCall,
            Self::Input(error) if error.is_mistake() => ErrorKind::FixTheCall,
            _ => ErrorKind::FixTheMachine,
        }
    }

    /// The process's exit code: 2 for a mistake in the call, 1 for a failure at run time.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.kind() {
            ErrorKind::FixTheCall => 2,
            ErrorKind::FixTheMachine => 1,
        }
    }
}

impl HostError {
    /// Reports to a person, on the standard error, and gives the process's exit code. Waits for a moment, if nobody reads.
    pub fn report(&self) -> ExitCode {
        let text = match self {
            Self::Usage(text) => text.clone(),
            Self::Config(problems) => format!("{}\n", paragraphs("error: ", problems)),
            other => format!("error: {}\n", chain(other)),
        };
        let (sender, written) = mpsc::channel::<()>();
        let write = move || {
            // If even that is closed, nobody is there to read it.
            let _ = io::stderr().write_all(text.as_bytes());
            drop(sender);
        };
        if thread::Builder::new().spawn(write).is_ok() {
            let _ = written.recv_timeout(REPORT_TIMEOUT);
        }
        ExitCode::from(self.exit_code())
    }
}

/// Why an input cannot be read (any further). Single bad rows are not such an error: they go to the dead letters.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file cannot be opened or read.
    #[error("cannot read the input `{name}`")]
    Read {
        /// The input.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// Neither the name nor an option says what the input is.
    #[error("`{0}` does not end in .csv, .jsonl or .ndjson: say what it is with `--format csv` or `--format jsonl`")]
    Format(String),
    /// The CSV header does not fit.
    #[error("`{name}`: {problem}")]
    Header {
        /// The input.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The mapping names something that the application does not have.
    #[error("{0}")]
    Mapping(String),
    /// Another file was read under this name before.
    #[error(
        "`{name}` is not the file that was read before under this name ({problem}): give it another name, or start anew with `--fresh`"
    )]
    Changed {
        /// The input.
        name: String,
        /// How that is known.
        problem: String,
    },
    /// The store failed.
    #[error("the data folder cannot be read or written")]
    Store(#[from] PortError),
    /// The code that reads the input failed.
    #[error("the reader of `{0}` stopped early: please report this")]
    Reader(String),
}

impl InputError {
    /// Whether the call has to change, and not the machine.
    #[must_use]
    pub fn is_mistake(&self) -> bool {
        match self {
            Self::Format(_) | Self::Header { .. } | Self::Mapping(_) | Self::Changed { .. } => true,
            Self::Read { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Store(_) | Self::Reader(_) => false,
        }
    }
}

/// Why a message was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The address is not well formed.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// The application has no such function.
    #[error(transparent)]
    UnknownFunction(#[from] UnknownFunction),
    /// The function does not take this message.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A key stands for another message: nothing was taken in.
    #[error("this key was used before, for another message")]
    KeyReused,
    /// The host is shutting down.
    #[error("the host is shutting down")]
    Stopping,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// The store failed: the message may or may not have been taken in.
    #[error("the data folder cannot be read or written")]
    Store(#[from] PortError),
}

/// The application has no function of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no function `{function}` is known here{}", did_you_mean(.nearest))]
pub struct UnknownFunction {
    /// The function asked for.
    pub function: String,
    /// A known one with a similar name.
    pub nearest: Option<String>,
    /// All of the application.
    pub known: Vec<TypeName>,
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// Why a function does not take a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is of a type the function does not take.
    #[error("`{function}` does not take {given}")]
    Type {
        /// The function.
        function: TypeName,
        /// What was given.
        given: String,
        /// What it takes; none means any type.
        accepted: Vec<TypeName>,
    },
    /// It is too big.
    #[error("the message has {bytes} bytes, at most {limit} are possible")]
    TooBig {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Its bytes cannot be read as its type.
    #[error("{0}")]
    Unreadable(String),
}
