//! From arguments and environment variables to settings. All problems are found in one go, before anything is opened.

use std::{
    collections::BTreeMap,
    env::consts::EXE_SUFFIX,
    ffi::{OsStr, OsString},
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use statefun_core::TypeName;
use statefun_engine::Functions;
use statefun_module::{Module, ModuleFile};
use tracing_subscriber::filter::Targets;

use super::{access_settings::access, args::ServeArgs, input_settings::input};
use crate::{
    access::{Access, Token},
    feed::Feeds,
    http::check_reach,
    input::{FileIngress, Mapping},
    options::{EgressRoutes, SinkSpec, without_password},
};

/// Data folders of programs, each by its program's name.
const DEFAULT_DATA: &str = ".statefun";
const DEFAULT_PORT: u16 = 8080;
const MAX_HANDLER_TIMEOUT_MILLIS: u64 = 24 * 3_600_000;
const DEFAULT_LOG: &str = "info,statefun::handler=debug";

/// What environment variables say. The only place where they are read.
#[derive(Debug, Default)]
pub(super) struct Environment {
    data: Option<OsString>,
    module: Option<OsString>,
    listen: Option<String>,
    token: Option<Token>,
    log: Option<String>,
}

impl Environment {
    pub(super) fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut text = |name: &str| match get(name).map(OsString::into_string).transpose() {
            Ok(text) => text.filter(|text| !text.is_empty()),
            Err(_) => {
                problems.push(format!("{name} is not UTF-8"));
                None
            }
        };
        let (listen, log, token) = (text("STATEFUN_LISTEN"), text("RUST_LOG"), text("STATEFUN_TOKEN"));
        let token =
            token.and_then(|text| keep(&mut problems, Token::new(&text).map_err(|problem| format!("STATEFUN_TOKEN: {problem}"))));
        let path = |name: &str| get(name).filter(|path| !path.is_empty());
        let (data, module) = (path("STATEFUN_DATA"), path("STATEFUN_MODULE"));
        if problems.is_empty() { Ok(Self { data, module, listen, token, log }) } else { Err(problems) }
    }

    /// The data folder: as given, as the environment says, or one of the program's own. `program` is how it was called.
    pub(super) fn data(&self, given: Option<&PathBuf>, program: &OsStr) -> PathBuf {
        let from_environment = || self.data.as_ref().map(PathBuf::from);
        given.cloned().or_else(from_environment).unwrap_or_else(|| default_data(program))
    }

    pub(super) fn log(&self) -> Result<Targets, String> {
        let text = self.log.as_deref().unwrap_or(DEFAULT_LOG);
        text.parse().map_err(|error| format!("RUST_LOG `{text}`: {error}"))
    }
}

/// What `serve` does.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) data: PathBuf,
    pub(super) listen: Option<SocketAddr>,
    pub(super) access: Access,
    pub(super) input: Option<FileIngress>,
    pub(super) egress: EgressRoutes,
    pub(super) module: Option<Arc<Module>>,
    pub(super) handler_timeout: Option<Duration>,
    pub(super) until_idle: bool,
    pub(super) fresh: bool,
}

/// What an application brings along.
pub(super) struct Known<'a> {
    pub(super) functions: &'a Functions,
    pub(super) mapping: Option<&'a Mapping>,
    pub(super) module: Option<Arc<Module>>,
    pub(super) access: Access,
}

/// Reads everything, or says everything that is wrong. A module names `variables`.
pub(super) fn settings(
    args: &ServeArgs,
    data: PathBuf,
    environment: &Environment,
    known: &Known<'_>,
    variables: &BTreeMap<String, String>,
) -> Result<Settings, Vec<String>> {
    let mut problems = Vec::new();
    let listen = keep(&mut problems, listen(args, environment)).flatten();
    let access = access(args, environment.token.as_ref(), &mut problems).or(known.access.clone());
    // A token that cannot be read is reported already.
    if let (Some(address), None) = (listen, &args.token_file.as_ref().filter(|_| access.token.is_none())) {
        keep(&mut problems, check_reach(address, &access));
    }
    let told = problems.len();
    let module = module(args, environment, variables, &mut problems).or_else(|| known.module.clone());
    // Of a module that cannot be read nothing is known: what names it may be right.
    let readable = problems.len() == told;
    let input = input(args, known, Feeds::new(module.clone()), readable, &mut problems);
    let egress = egress(&args.egress, &mut problems);
    let handler_timeout = args.handler_timeout.as_deref().and_then(|text| keep(&mut problems, handler_timeout(text)));
    if !problems.is_empty() {
        return Err(problems);
    }
    let (until_idle, fresh) = (args.until_idle, args.fresh);
    Ok(Settings { data, listen, access, input, egress, module, handler_timeout, until_idle, fresh })
}

pub(super) fn keep<T>(problems: &mut Vec<String>, result: Result<T, String>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}

fn default_data(program: &OsStr) -> PathBuf {
    Path::new(DEFAULT_DATA).join(program_name(program))
}

/// The name of a program that was called like this.
pub(super) fn program_name(program: &OsStr) -> String {
    let name = Path::new(program).file_name().unwrap_or(OsStr::new("app")).to_string_lossy();
    name.strip_suffix(EXE_SUFFIX).unwrap_or(&name).to_owned()
}

fn default_listen() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT)
}

fn listen(args: &ServeArgs, environment: &Environment) -> Result<Option<SocketAddr>, String> {
    match (&args.listen, &environment.listen) {
        (Some(text), _) => parse_listen(text).map_err(|problem| format!("--listen {problem}")),
        (None, Some(text)) => parse_listen(text).map_err(|problem| format!("STATEFUN_LISTEN {problem}")),
        (None, None) => Ok((!args.until_idle).then(default_listen)),
    }
}

fn parse_listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "none" {
        return Ok(None);
    }
    if let Ok(port) = text.parse::<u16>() {
        return Ok(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
    }
    let text = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    text.parse().map(Some).map_err(|_| format!("`{text}` is not an address: write 127.0.0.1:8080, a port alone, or `none`"))
}

fn handler_timeout(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len()));
    let millis = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis)) {
        Some(millis @ 1..=MAX_HANDLER_TIMEOUT_MILLIS) => Ok(Duration::from_millis(millis)),
        _ => Err(format!("--handler-timeout `{text}`: write a time from 1ms to 24h, such as 500ms, 30s or 5m")),
    }
}

fn module(
    args: &ServeArgs,
    environment: &Environment,
    variables: &BTreeMap<String, String>,
    problems: &mut Vec<String>,
) -> Option<Arc<Module>> {
    let (path, name) = match (&args.module, &environment.module) {
        (Some(path), _) => (path.clone(), "--module"),
        (None, Some(path)) => (PathBuf::from(path), "STATEFUN_MODULE"),
        (None, None) => return None,
    };
    let shown = path.display().to_string();
    let text = keep(problems, fs::read(&path).map_err(|error| format!("{name} {shown}: {error}")))?;
    let resolve =
        |file: ModuleFile| file.suggesting(variables.keys().cloned()).resolve_local(&|name| variables.get(name).cloned());
    match Module::parse(&shown, text).and_then(resolve) {
        Ok(module) => Some(Arc::new(module)),
        Err(invalid) => {
            problems.extend(invalid.problems.iter().map(ToString::to_string));
            None
        }
    }
}

fn egress(routes: &[String], problems: &mut Vec<String>) -> EgressRoutes {
    let mut named = BTreeMap::new();
    for route in routes {
        let parsed = match route.split_once('=') {
            // Else a URL without a name would be shown as the name.
            Some((name, sink)) if !name.contains("//") => {
                TypeName::parse(name).map_err(|error| error.to_string()).and_then(|name| Ok((name, SinkSpec::parse(sink)?)))
            }
            _ => Err(format!("`{}`: write NAMESPACE/NAME=SINK", without_password(route))),
        };
        let Some((name, sink)) = keep(problems, parsed.map_err(|problem| format!("--egress {problem}"))) else { continue };
        if matches!(&sink, SinkSpec::File(_)) && named.values().any(|other| *other == sink) {
            // Spelled in two ways, one file is noticed when the host opens it.
            problems.push(format!("--egress {route}: two egresses cannot share a file"));
        }
        if named.insert(name.clone(), sink).is_some() {
            problems.push(format!("--egress {name} is given twice"));
        }
    }
    EgressRoutes { named }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: ServeArgs) -> Result<Settings, Vec<String>> {
        let known = Known { functions: &Functions::default(), mapping: None, module: None, access: Access::default() };
        let variables = BTreeMap::from([("ORDERS_TYPE".to_owned(), "a/b".to_owned())]);
        settings(&args, "x".into(), &Environment::default(), &known, &variables)
    }

    #[test]
    fn all_problems_at_once() {
        let text = |text: &str| Some(text.to_owned());
        let problems = read(ServeArgs {
            listen: text("nowhere"),
            input: Some("missing.txt".into()),
            format: text("xml"),
            to: text("nonsense"),
            id: text("id"),
            message_type: text("x"),
            egress: vec![
                "a/b".into(),
                "a/b=https://x:99999".into(),
                "a/d=file:/dev/null".into(),
                "a/b=file:x".into(),
                "a/c=file:x".into(),
                "a/c=stdout".into(),
            ],
            ..ServeArgs::default()
        })
        .unwrap_err();
        for part in [
            "--listen `nowhere`",
            "--format `xml`",
            "--type `x`",
            "--to `nonsense`",
            "--input missing.txt: ",
            "--egress `a/b`",
            "--egress `https://x:99999/`: a port is",
            "--egress `/dev/null` is a device",
            "share a file",
            "--egress a/c is given twice",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part} in {problems:#?}");
        }
        assert_eq!(problems.len(), 10, "{problems:#?}");
    }

    #[test]
    fn all_mistakes_of_a_module_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("module.yaml");
        let problems = |text: &[u8]| {
            fs::write(&file, text).unwrap();
            read(ServeArgs { module: Some(file.clone()), listen: Some("nowhere".into()), ..ServeArgs::default() }).unwrap_err()
        };
        let functions = "kind: io.statefun.lambda.v1/functions\nspec: {functions: [a/b], queues: [\"${Q}\"]}\n---\n";
        let source = "{stream: s, valueTyp: text, targets: [a/c], id: {jsonPointer: \"${ORDER_TYPE}\"}}";
        let told = problems(
            format!("{functions}kind: io.statefun.kinesis.v1/ingress\nspec: {{id: a/in, streams: [{source}]}}").as_bytes(),
        );
        for part in ["--listen `nowhere`", "did you mean `valueType`?", "did you mean `a/b`?", "`ORDERS_TYPE` is set"] {
            assert!(told.iter().any(|problem| problem.contains(part)), "{part} in {told:#?}");
        }
        assert_eq!(told.len(), 4, "{told:#?}");
        assert!(problems(b"# \xe4")[1].starts_with("the file is not UTF-8"));
    }

    #[test]
    fn what_belongs_together() {
        let problems = |args| read(args).unwrap_err().join("\n");
        assert!(problems(ServeArgs { id: Some("x".into()), ..ServeArgs::default() }).contains("--id needs --to"));
        assert!(problems(ServeArgs { input: Some("-".into()), ..ServeArgs::default() }).contains("--input needs --to"));
        let unknown = ServeArgs { input: Some("-".into()), to: Some("a/b".into()), id: Some("x".into()), ..ServeArgs::default() };
        assert!(problems(unknown).contains("no function `a/b` is known"));
    }

    #[test]
    fn every_program_has_a_folder_of_its_own() {
        let called = |data: Option<&str>, program: &str| {
            Environment { data: data.map(OsString::from), ..Environment::default() }.data(None, OsStr::new(program))
        };
        let path = format!("target/debug/greeter{EXE_SUFFIX}");
        assert_eq!(called(None, &path), Path::new(".statefun/greeter"));
        assert_eq!(called(None, "my.app"), Path::new(".statefun/my.app"));
        assert_eq!(called(None, ""), Path::new(".statefun/app"));
        assert_eq!(called(Some("x"), &path), Path::new("x"));
        assert_eq!(Environment::default().data(Some(&"y".into()), OsStr::new("z")), Path::new("y"));
    }

    #[test]
    fn times() {
        let millis = |text| handler_timeout(text).map(|time| time.as_millis()).ok();
        assert_eq!(
            [millis("500ms"), millis("30s"), millis("30"), millis("5m")],
            [Some(500), Some(30_000), Some(30_000), Some(300_000)]
        );
        for bad in ["", "0", "s", "-1s", "1.5s", "1d", "25h", "99999999999999999999", "18446744073709551615h"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(parse_listen("none"), Ok(None));
        assert_eq!(parse_listen("0"), Ok(Some("127.0.0.1:0".parse().unwrap())));
        assert_eq!(parse_listen("localhost:81"), Ok(Some("127.0.0.1:81".parse().unwrap())));
        assert_eq!(parse_listen("[::1]:81"), Ok(Some("[::1]:81".parse().unwrap())));
        let batch = read(ServeArgs { until_idle: true, ..ServeArgs::default() }).unwrap();
        assert_eq!(batch.listen, None);
        assert_eq!(read(ServeArgs::default()).unwrap().listen, Some(default_listen()));
    }
}
