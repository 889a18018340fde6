//! Where the input comes from and what its rows become, from arguments.

use std::{path::Path, sync::Arc};

use statefun_core::TypeName;

use super::{
    args::ServeArgs,
    settings::{Known, keep},
};
use crate::{
    feed::Feeds,
    input::{FileIngress, Format, Mapping, by_ending},
};

/// The input that the arguments name, if there is one. While the module is not `readable`, mappings are not looked up.
pub(super) fn input(
    args: &ServeArgs,
    known: &Known<'_>,
    feeds: Arc<Feeds>,
    readable: bool,
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
    let mapping = match &args.ingress {
        Some(ingress) => ingress_mapping(args, ingress, problems),
        None => field_mapping(args, problems),
    };
    if let Some(mapping) = mapping.as_ref().filter(|_| readable) {
        keep(problems, mapping.resolve(known.functions, &feeds).map_err(|error| error.to_string()));
    }
    let Some(path) = &args.input else {
        let without = [
            ("--format", args.format.is_some()),
            ("--follow", args.follow),
            ("--text", !args.text.is_empty()),
            ("--to", args.to.is_some()),
            ("--id", args.id.is_some()),
            ("--type", args.message_type.is_some()),
            ("--ingress", args.ingress.is_some()),
        ];
        problems.extend(without.iter().filter(|(_, given)| *given).map(|(name, _)| format!("{name} needs --input")));
        return None;
    };
    let mapping = mapping.or_else(|| known.mapping.cloned());
    if mapping.is_none() && args.to.is_none() && args.id.is_none() && args.ingress.is_none() {
        problems
            .push("--input needs --to NAMESPACE/NAME and --id FIELD, or --ingress NAMESPACE/NAME: where its rows go".to_owned());
    }
    if path != Path::new("-") {
        check_file(path, format.is_some() || args.format.is_some(), problems);
    }
    if args.follow && (args.until_idle || path == Path::new("-")) {
        problems.push("--follow is for a file, and never ends: it excludes --until-idle and `--input -`".to_owned());
    }
    let mapping = mapping?.with_text(&args.text);
    let ingress = match path == Path::new("-") {
        true => FileIngress::stdin(mapping),
        false => FileIngress::path(path, mapping),
    };
    let ingress = if args.follow { ingress.follow() } else { ingress };
    Some(match format {
        Some(format) => ingress.with_format(format),
        None => ingress,
    })
}

fn ingress_mapping(args: &ServeArgs, ingress: &str, problems: &mut Vec<String>) -> Option<Mapping> {
    for (name, given) in [("--to", args.to.is_some()), ("--type", args.message_type.is_some())] {
        if given {
            problems.push(format!("{name} and --ingress exclude each other: the module says where records go, and as what"));
        }
    }
    let name = keep(problems, TypeName::parse(ingress).map_err(|error| format!("--ingress {error}")))?;
    Some(Mapping::ingress(name, args.source.clone(), args.id.clone()))
}

fn field_mapping(args: &ServeArgs, problems: &mut Vec<String>) -> Option<Mapping> {
    if args.source.is_some() {
        problems.push("--source needs --ingress".to_owned());
    }
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
