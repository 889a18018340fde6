//! From arguments and environment variables to settings. All problems are found in one go, before anything is opened.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use statefun_core::TypeName;
use statefun_engine::Functions;
use tracing_subscriber::filter::Targets;

use super::args::ServeArgs;
use crate::{
    input::{FileIngress, Format, Mapping, by_ending},
    options::{EgressRoutes, SinkSpec},
};

const DEFAULT_DATA: &str = ".statefun";
const DEFAULT_PORT: u16 = 8080;
const DEFAULT_LOG: &str = "info,statefun::handler=debug";

/// What environment variables say. The only place where they are read.
#[derive(Debug, Default)]
pub(super) struct Environment {
    data: Option<OsString>,
    listen: Option<String>,
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
        let (listen, log) = (text("STATEFUN_LISTEN"), text("RUST_LOG"));
        let data = get("STATEFUN_DATA").filter(|data| !data.is_empty());
        if problems.is_empty() { Ok(Self { data, listen, log }) } else { Err(problems) }
    }

    pub(super) fn data(&self, given: Option<&PathBuf>) -> PathBuf {
        let from_environment = || self.data.as_ref().map(PathBuf::from);
        given.cloned().or_else(from_environment).unwrap_or_else(|| DEFAULT_DATA.into())
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
    pub(super) input: Option<FileIngress>,
    pub(super) egress: EgressRoutes,
    pub(super) until_idle: bool,
    pub(super) fresh: bool,
}

/// Reads everything, or says everything that is wrong.
pub(super) fn settings(
    args: &ServeArgs,
    data: PathBuf,
    environment: &Environment,
    functions: &Functions,
    app_mapping: Option<&Mapping>,
) -> Result<Settings, Vec<String>> {
    let mut problems = Vec::new();
    let listen = keep(&mut problems, listen(args, environment));
    let input = input(args, functions, app_mapping, &mut problems);
    let egress = egress(&args.egress, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let (until_idle, fresh) = (args.until_idle, args.fresh);
    Ok(Settings { data, listen: listen.flatten(), input, egress, until_idle, fresh })
}

fn keep<T>(problems: &mut Vec<String>, result: Result<T, String>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
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
    text.parse().map(Some).map_err(|_| format!("`{text}` is no address: write 127.0.0.1:8080, a port alone, or `none`"))
}

fn input(
    args: &ServeArgs,
    functions: &Functions,
    app_mapping: Option<&Mapping>,
    problems: &mut Vec<String>,
) -> Option<FileIngress> {
    let format = match args.format.as_deref() {
        None => None,
        Some("csv") => Some(Format::Csv),
        Some("jsonl") => Some(Format::JsonLines),
        Some(other) => {
            problems.push(format!("--format `{other}`: write csv or jsonl"));
            None
        }
    };
    let mapping = mapping(args, functions, problems);
    let Some(path) = &args.input else {
        let without = [
            ("--format", args.format.is_some()),
            ("--to", args.to.is_some()),
            ("--id", args.id.is_some()),
            ("--type", args.message_type.is_some()),
        ];
        problems.extend(without.iter().filter(|(_, given)| *given).map(|(name, _)| format!("{name} needs --input")));
        return None;
    };
    let mapping = mapping.or_else(|| app_mapping.cloned());
    if mapping.is_none() && args.to.is_none() && args.id.is_none() {
        problems.push("--input needs --to NAMESPACE/NAME and --id FIELD: where its rows go".to_owned());
    }
    if path != Path::new("-") {
        check_file(path, format.is_some() || args.format.is_some(), problems);
    }
    let ingress = match path == Path::new("-") {
        true => FileIngress::stdin(mapping?),
        false => FileIngress::path(path, mapping?),
    };
    Some(match format {
        Some(format) => ingress.with_format(format),
        None => ingress,
    })
}

fn mapping(args: &ServeArgs, functions: &Functions, problems: &mut Vec<String>) -> Option<Mapping> {
    let message_type = match &args.message_type {
        Some(text) => keep(problems, TypeName::parse(text).map_err(|error| format!("--type {error}"))).map(Some),
        None => Some(None),
    };
    let (to, id) = match (&args.to, &args.id) {
        (Some(to), Some(id)) => (to, id),
        (None, None) => {
            if args.message_type.is_some() {
                problems.push("--type needs --to and --id".to_owned());
            }
            return None;
        }
        (Some(_), None) => {
            problems.push("--to needs --id FIELD: the field of a row that is the id it is sent to".to_owned());
            return None;
        }
        (None, Some(_)) => {
            problems.push("--id needs --to NAMESPACE/NAME: the function that rows are sent to".to_owned());
            return None;
        }
    };
    let to = keep(problems, TypeName::parse(to).map_err(|error| format!("--to {error}")))?;
    let mut mapping = Mapping::field(to, id);
    if let Some(name) = message_type? {
        mapping = mapping.with_type(name);
    }
    keep(problems, mapping.resolve(functions).map_err(|error| error.to_string()))?;
    Some(mapping)
}

fn check_file(path: &Path, has_format: bool, problems: &mut Vec<String>) {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => problems.push(format!("--input {} is a folder", path.display())),
        Ok(_) => {}
        Err(error) => problems.push(format!("--input {}: {error}", path.display())),
    }
    if !has_format && by_ending(path).is_none() {
        problems.push(format!(
            "--input {} does not end in .csv, .jsonl or .ndjson: add --format csv or --format jsonl",
            path.display()
        ));
    }
}

fn egress(routes: &[String], problems: &mut Vec<String>) -> EgressRoutes {
    let mut named = BTreeMap::new();
    for route in routes {
        let parsed = match route.split_once('=') {
            Some((name, sink)) => {
                TypeName::parse(name).map_err(|error| error.to_string()).and_then(|name| Ok((name, SinkSpec::parse(sink)?)))
            }
            None => Err(format!("`{route}`: write NAMESPACE/NAME=SINK")),
        };
        let Some((name, sink)) = keep(problems, parsed.map_err(|problem| format!("--egress {problem}"))) else { continue };
        if matches!(&sink, SinkSpec::File(_)) && named.values().any(|other| *other == sink) {
            // Each keeps the file's length for itself.
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
        settings(&args, "x".into(), &Environment::default(), &Functions::default(), None)
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
            egress: vec!["a/b".into(), "a/b=https://x".into(), "a/b=file:x".into(), "a/c=file:x".into(), "a/c=stdout".into()],
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
            "proxy",
            "share a file",
            "--egress a/c is given twice",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part} in {problems:#?}");
        }
        assert_eq!(problems.len(), 9, "{problems:#?}");
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
