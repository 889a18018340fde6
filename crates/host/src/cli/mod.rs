//! The command line of an application: what `run` of the SDK does outside of Lambda.

mod access_settings;
mod args;
mod input_settings;
mod inspect;
mod output;
mod serve;
mod settings;
mod stop;
mod terminal;

use std::{
    env,
    ffi::{OsStr, OsString},
    process,
};

use clap::{Parser, error::ErrorKind};
use statefun_core::Rules;
use statefun_engine::Functions;

use crate::{
    error::{self, HostError},
    input::Mapping,
    options::HostOptions,
};
use args::{Cli, Command};
use settings::{Environment, Known, program_name, settings};
use terminal::Terminal;

/// An application to run.
#[derive(Debug)]
pub struct App {
    /// Its functions.
    pub functions: Functions,
    /// What holds for every turn.
    pub rules: Rules,
    /// Settings that the command line does not have; the folder and the egress routes come from there.
    pub options: HostOptions,
    /// What rows of `--input` become, unless `--to` or `--ingress` says it.
    pub input: Option<Mapping>,
    /// What `--version` says of the program; without it, the version of lambda-statefun alone.
    pub version: Option<String>,
}

impl App {
    /// An application of these functions, with defaults.
    #[must_use]
    pub fn new(functions: Functions) -> Self {
        Self { functions, rules: Rules::default(), options: HostOptions::new(""), input: None, version: None }
    }
}

/// [`run_cli`] as the command line of this process: mistakes in the call are reported and end it with exit code 2.
///
/// # Errors
/// All others come back.
pub async fn run_main(app: App) -> Result<(), HostError> {
    let done = run_cli(app, env::args_os()).await;
    match done {
        Err(mistake) if mistake.kind() == error::ErrorKind::FixTheCall => {
            mistake.report();
            process::exit(mistake.exit_code().into())
        }
        done => done,
    }
}

/// Does what the arguments say (the program's name first), and returns when that is done.
///
/// # Errors
/// [`HostError`]; [`HostError::report`] prints it for the user and gives the exit code.
pub async fn run_cli(app: App, args: impl IntoIterator<Item = OsString>) -> Result<(), HostError> {
    let args: Vec<_> = args.into_iter().collect();
    let program = args.first().map_or(OsStr::new(""), OsString::as_os_str);
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return output::print(&error.render().to_string()),
        Err(error) => return Err(HostError::Usage(error.render().to_string())),
    };
    if cli.version {
        return output::print(&format!("{} {}\n", program_name(program), version(app.version.as_deref())));
    }
    let environment = Environment::read(|name| env::var_os(name)).map_err(HostError::Config)?;
    let data = environment.data(cli.data.as_ref(), program);
    match cli.command {
        Some(Command::DeadLetters { command }) => inspect::dead_letters(command, &data).await,
        Some(Command::State { address, json }) => inspect::state(&address, json, &data).await,
        None => {
            let (module, access) = (app.options.module.clone(), app.options.access.clone());
            let known = Known { functions: &app.functions, mapping: app.input.as_ref(), module, access };
            let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
            let read = settings(&cli.serve, data, &environment, &known, &env::vars_os().filter_map(text).collect());
            let (settings, log) = match (read, environment.log()) {
                (Ok(settings), Ok(log)) => (settings, log),
                (settings, log) => {
                    let problems = settings.err().unwrap_or_default().into_iter().chain(log.err());
                    return Err(HostError::Config(problems.collect()));
                }
            };
            let terminal = Terminal::new();
            terminal.log(log);
            let served = serve::serve(app, settings, &terminal).await;
            terminal.flush();
            served
        }
    }
}

fn version(program: Option<&str>) -> String {
    let ours = concat!("lambda-statefun ", env!("CARGO_PKG_VERSION"));
    program.map_or_else(|| ours.to_owned(), |program| format!("{program} ({ours})"))
}
