//! Running an application where it is.

use std::{error::Error as StdError, ffi::OsString, fmt};

use statefun_host::{App, HostError, run_cli};

use crate::application::{Application, InvalidApplication};

/// Why an application ended with an error. Its `Debug` form is for people too, since that is what `main` shows.
pub struct Error {
    source: Box<dyn StdError + Send + Sync>,
    exit_code: u8,
}

impl Error {
    /// The exit code that goes with it: 2 if the call or the configuration has to change, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.source, f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.source()
    }
}

impl From<InvalidApplication> for Error {
    fn from(error: InvalidApplication) -> Self {
        Self { source: Box::new(error), exit_code: 2 }
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        Self { exit_code: error.exit_code(), source: Box::new(error) }
    }
}

/// Runs the application until it is told to stop: as a Lambda function where `AWS_LAMBDA_RUNTIME_API` is set, else on this machine
/// as the command line says (`--help` lists what it takes).
///
/// On this machine everything that was acknowledged is durable when it returns, and at every moment before. If it ends with an
/// error, that is told on the standard error and the process exits with the error's code.
///
/// # Errors
/// None that come back: the signature is that of a `main`.
pub async fn run(app: Application) -> Result<(), Error> {
    match run_with(app, std::env::args_os()).await {
        Ok(()) => Ok(()),
        Err(error) => {
            match error.source.downcast_ref::<HostError>() {
                Some(host) => {
                    host.report();
                }
                None => {
                    use std::io::Write;
                    // If even that is closed, nobody is there to be told.
                    let _ = writeln!(std::io::stderr(), "error: {error:?}");
                }
            }
            std::process::exit(error.exit_code().into())
        }
    }
}

/// [`run`] with arguments of one's own, the program's name first, and with its error handed back.
///
/// # Errors
/// If the application cannot be built, the arguments are wrong, or the host cannot start or go on.
pub async fn run_with<A: Into<OsString>>(app: Application, args: impl IntoIterator<Item = A>) -> Result<(), Error> {
    let built = app.build()?;
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        return Err(Error { source: "this version does not serve Lambda yet: it runs on one machine".into(), exit_code: 2 });
    }
    let app = App { rules: built.rules, ..App::new(built.functions) };
    Ok(run_cli(app, args.into_iter().map(Into::into)).await?)
}
