//! Running an application where it is.

use std::{error::Error as StdError, ffi::OsString, fmt};

use statefun_core::chain;

use crate::application::{Application, BuiltApplication, InvalidApplication};

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
        #[cfg(feature = "lambda")]
        if let Some(statefun_lambda::ServeError::Settings(invalid)) = self.source.downcast_ref() {
            // Several lines, as they are.
            return fmt::Display::fmt(invalid, f);
        }
        f.write_str(&chain(&*self.source))
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

#[cfg(feature = "local")]
impl From<statefun_host::HostError> for Error {
    fn from(error: statefun_host::HostError) -> Self {
        Self { exit_code: error.exit_code(), source: Box::new(error) }
    }
}

#[cfg(feature = "lambda")]
impl From<statefun_lambda::ServeError> for Error {
    fn from(error: statefun_lambda::ServeError) -> Self {
        let exit_code = if matches!(error, statefun_lambda::ServeError::Settings(_)) { 2 } else { 1 };
        Self { exit_code, source: Box::new(error) }
    }
}

/// A feature that this program was built without.
#[cfg(not(all(feature = "local", feature = "lambda")))]
fn missing_feature(advice: &'static str) -> Error {
    Error { source: advice.into(), exit_code: 2 }
}

/// Runs the application until it is told to stop: as a Lambda function where `AWS_LAMBDA_RUNTIME_API` is set (with the feature
/// `lambda`), else on this machine as the command line says (with the feature `local`; `--help` lists what it takes).
///
/// On this machine everything that was acknowledged is durable when it returns, and at every moment before. The command line ends the
/// process itself in two cases only: on mistakes in arguments and environment variables, with exit code 2 and what is wrong; and at once
/// on a second signal, or when a stop takes more than its time and a second. In every other case this returns, so that what comes after
/// it in `main` is run.
///
/// # Errors
/// If the application cannot be built, or the host or the Lambda cannot start or go on. [`Error::exit_code`] goes with it; a `main` that
/// returns the error shows it and exits with 1.
pub async fn run(app: Application) -> Result<(), Error> {
    let built = app.build()?;
    if is_lambda() { serve(built).await } else { host_main(built).await }
}

/// [`run`] with your own arguments, the program's name first, and with its error handed back.
///
/// # Errors
/// If the application cannot be built, the arguments or the environment are wrong, or the host cannot start or go on.
pub async fn run_with<A: Into<OsString>>(app: Application, args: impl IntoIterator<Item = A>) -> Result<(), Error> {
    let built = app.build()?;
    if is_lambda() { serve(built).await } else { host(built, args.into_iter().map(Into::into)).await }
}

/// Runs a router Lambda with your own router, such as a closure: records of Kinesis streams and SQS queues become messages
/// to functions. It also serves the timers' wake-ups, the sweep, and operators' commands.
///
/// ```no_run
/// # use lambda_statefun::prelude::*;
/// use lambda_statefun::{IngressRecord, Routed};
///
/// #[tokio::main]
/// async fn main() -> Result<(), lambda_statefun::Error> {
///     lambda_statefun::run_router(|record: &IngressRecord| {
///         let name = record.text()?.to_owned();
///         Ok(vec![Routed::new(("example/greeter", &name), &name)?])
///     })
///     .await
/// }
/// ```
///
/// # Errors
/// If the settings are wrong, or the Lambda cannot go on.
#[cfg(feature = "lambda")]
pub async fn run_router(router: impl statefun_ingress::Router + 'static) -> Result<(), Error> {
    if is_lambda() { Ok(statefun_lambda::serve_router(router).await?) } else { Err(not_lambda()) }
}

/// Runs a router Lambda that does what the ingresses of `module.yaml` say.
///
/// # Errors
/// As [`run_router`].
#[cfg(feature = "lambda")]
pub async fn run_module_router() -> Result<(), Error> {
    if is_lambda() { Ok(statefun_lambda::serve_module_router().await?) } else { Err(not_lambda()) }
}

#[cfg(feature = "lambda")]
fn not_lambda() -> Error {
    let advice = "this is a router Lambda: on this machine run the application, with `--module FILE` or `Application::router`";
    Error { source: advice.into(), exit_code: 2 }
}

fn is_lambda() -> bool {
    std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some()
}

#[cfg(feature = "lambda")]
async fn serve(built: BuiltApplication) -> Result<(), Error> {
    Ok(statefun_lambda::serve_functions(built.functions, built.rules).await?)
}

#[cfg(not(feature = "lambda"))]
async fn serve(_: BuiltApplication) -> Result<(), Error> {
    Err(missing_feature("this program was built without Lambda: build it with `--features lambda`"))
}

#[cfg(feature = "local")]
async fn host(built: BuiltApplication, args: impl Iterator<Item = OsString>) -> Result<(), Error> {
    Ok(statefun_host::run_cli(local_app(built), args).await?)
}

#[cfg(feature = "local")]
fn local_app(built: BuiltApplication) -> statefun_host::App {
    let BuiltApplication { functions, rules, router, version } = built;
    let input = router.map(statefun_host::Mapping::router);
    statefun_host::App { rules, version, input, ..statefun_host::App::new(functions) }
}

/// The same as the command line of this process.
#[cfg(feature = "local")]
async fn host_main(built: BuiltApplication) -> Result<(), Error> {
    Ok(statefun_host::run_main(local_app(built)).await?)
}

#[cfg(not(feature = "local"))]
async fn host_main(built: BuiltApplication) -> Result<(), Error> {
    host(built, std::iter::empty()).await
}

#[cfg(not(feature = "local"))]
async fn host(_: BuiltApplication, _: impl Iterator<Item = OsString>) -> Result<(), Error> {
    Err(missing_feature("this program was built without the local host: build it with the feature `local`, or run it in Lambda"))
}
