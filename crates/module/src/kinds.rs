//! The kinds of documents.

use std::collections::HashMap;

use statefun_core::{BuiltInForm, TypeName, nearest, resource_name, stream_of_consumer};

use crate::{
    between::{Role, Seen, once},
    model::{Destination, Egress, FIFO, FunctionPattern, FunctionQueues, Ingress, Module, Selector, Source, SourceKind},
    problem::Place,
    reader::{Map, Reader, Text, Value, suggest, where_of},
    selector::Choice,
    statefun_keys,
    tree::{Data, Node, Tree},
};

pub(crate) const FUNCTIONS: &str = "io.statefun.lambda.v1/functions";
const KINESIS_INGRESS: &str = "io.statefun.kinesis.v1/ingress";
const SQS_INGRESS: &str = "io.statefun.sqs.v1/ingress";
const KINESIS_EGRESS: &str = "io.statefun.kinesis.v1/egress";
const SQS_EGRESS: &str = "io.statefun.sqs.v1/egress";
const SNS_EGRESS: &str = "io.statefun.sns.v1/egress";

const KINDS: &[&str] = &[FUNCTIONS, KINESIS_INGRESS, SQS_INGRESS, KINESIS_EGRESS, SQS_EGRESS, SNS_EGRESS];

/// StateFun has these, and this runtime does not serve them.
const NOT_YET: &[&str] = &[
    "io.statefun.endpoints.v1/http",
    "io.statefun.endpoints.v2/http",
    "io.statefun.kafka.v1/ingress",
    "io.statefun.kafka.v1/egress",
    "io.statefun.playground.v1/ingress",
    "io.statefun.playground.v1/egress",
];

/// Reads all documents.
pub(crate) fn module(reader: &mut Reader<'_>, tree: &Tree) -> Module {
    let mut module = Module::default();
    let mut seen = Seen::default();
    seen.functions_unclear = !tree.complete;
    for document in &tree.documents {
        if !matches!(document.data, Data::Null) {
            one_document(reader, document, &mut module, &mut seen);
        }
    }
    seen.check_targets(reader, &module.functions);
    module
}

fn one_document(reader: &mut Reader<'_>, document: &Node, module: &mut Module, seen: &mut Seen) -> Option<()> {
    let whole = Value { node: document, key: document.place };
    let map = reader.map(whole, "a document", &["kind", "spec"])?;
    let (kind, spec) = (reader.required(&map, "kind"), reader.required(&map, "spec"));
    let Some(kind) = kind.and_then(|kind| kind_of(reader, kind)) else {
        seen.functions_unclear = true;
        return None;
    };
    match kind {
        FUNCTIONS => match spec.and_then(|spec| functions(reader, spec, seen)) {
            Some(functions) => module.functions.push(functions),
            None => seen.functions_unclear = true,
        },
        KINESIS_INGRESS => module.ingresses.extend(ingress(reader, spec?, SourceKind::Kinesis, seen)),
        SQS_INGRESS => module.ingresses.extend(ingress(reader, spec?, SourceKind::Sqs, seen)),
        KINESIS_EGRESS | SQS_EGRESS | SNS_EGRESS => module.egresses.extend(egress(reader, spec?, kind, seen)),
        _ => {}
    }
    Some(())
}

/// The kind, as far as it is one: also the one that was meant, or one that is not served; both are reported.
fn kind_of(reader: &mut Reader<'_>, value: Value<'_>) -> Option<&'static str> {
    let Text { text, place, .. } = reader.text(value, "kind")?;
    if let Some(kind) = KINDS.iter().find(|kind| **kind == text) {
        return Some(kind);
    }
    if let Some(kind) = NOT_YET.iter().find(|kind| **kind == text) {
        let help = "take this document out; docs/module.md has the kinds that are served";
        reader.wrong(place, format!("`{kind}` is StateFun's, and not served here yet"), Some(help.to_owned()));
        return Some(kind);
    }
    let meant = nearest(&text, KINDS.iter().chain(NOT_YET).copied());
    let help = meant.map_or_else(|| suggest(&text, KINDS), |near| format!("did you mean `{near}`?"));
    reader.wrong(place, format!("`{text}` is not a kind"), Some(help));
    meant
}

fn id(reader: &mut Reader<'_>, spec: &Map<'_>, seen: &mut HashMap<TypeName, Place>, what: &str) -> Option<TypeName> {
    let value = reader.required(spec, "id")?;
    let (id, place) = reader.type_name(value, "id")?;
    once(reader, seen, id.clone(), place, &format!("the {what} `{id}`"));
    Some(id)
}

fn functions(reader: &mut Reader<'_>, spec: Value<'_>, seen: &mut Seen) -> Option<FunctionQueues> {
    let spec = reader.map(spec, "`spec` of functions", &["functions", "queues"])?;
    let (functions, queues) = (reader.required(&spec, "functions"), reader.required(&spec, "queues"));
    let functions = functions.map(|value| reader.items(value, "functions")).unwrap_or_default();
    let items = functions.len();
    let patterns: Vec<_> = functions.into_iter().filter_map(|item| pattern(reader, item, seen)).collect();
    seen.functions_unclear |= patterns.is_empty() || patterns.len() < items;
    let queues = queues.map(|value| reader.items(value, "queues")).unwrap_or_default();
    let mut urls: Vec<String> = Vec::new();
    for item in queues {
        let Some(Text { text, place, resolved }) = reader.destination(item, "queue") else { continue };
        let help = "an item of `queues` is the URL of a FIFO queue, which ends in `.fifo`";
        let fits = !resolved || (is_url(&text) && text.ends_with(FIFO));
        let queue = reader.expect(fits, place, format!("`{text}` is not the URL of a FIFO queue"), help);
        if urls.contains(&text) {
            reader.wrong(place, "this queue is already one of the shards", None);
        }
        if queue.is_some() {
            seen.queue(reader, &text, Role::Functions, place);
        }
        urls.push(text);
    }
    Some(FunctionQueues { patterns, queues: urls })
}

fn pattern(reader: &mut Reader<'_>, item: Value<'_>, seen: &mut Seen) -> Option<FunctionPattern> {
    let Text { text, place, .. } = reader.text(item, "function")?;
    // A namespace is whatever makes a name with something behind it.
    let namespace = text.strip_suffix("/*").filter(|namespace| TypeName::parse(&format!("{namespace}/x")).is_ok());
    let pattern = match (namespace, TypeName::parse(&text)) {
        (Some(namespace), _) => FunctionPattern::Namespace(namespace.to_owned()),
        (None, Ok(name)) => FunctionPattern::Exact(name),
        (None, Err(_)) => {
            let help = "write `namespace/name`, or `namespace/*` for all of a namespace";
            reader.wrong(place, format!("`{text}` does not name functions"), Some(help.to_owned()));
            return None;
        }
    };
    once(reader, &mut seen.patterns, pattern.clone(), place, &format!("`{text}`"));
    Some(pattern)
}

fn ingress(reader: &mut Reader<'_>, spec: Value<'_>, kind: SourceKind, seen: &mut Seen) -> Option<Ingress> {
    let (what, list, statefun) = match kind {
        SourceKind::Kinesis => ("`spec` of a Kinesis ingress", "streams", statefun_keys::INGRESS),
        SourceKind::Sqs => ("`spec` of an SQS ingress", "queues", &[] as &[&str]),
    };
    let keys: Vec<_> = ["id", list].iter().chain(statefun).copied().collect();
    let spec = reader.map(spec, what, &keys)?;
    let id = id(reader, &spec, &mut seen.ingresses, "ingress");
    reader.statefun_keys(&spec);
    let sources = reader.required(&spec, list).map(|value| reader.items(value, list)).unwrap_or_default();
    let sources: Vec<_> = sources.into_iter().filter_map(|item| source(reader, item, kind, seen)).collect();
    Some(Ingress { id: id?, kind, sources })
}

fn source(reader: &mut Reader<'_>, item: Value<'_>, kind: SourceKind, seen: &mut Seen) -> Option<Source> {
    let (what, key) = match kind {
        SourceKind::Kinesis => ("a stream", "stream"),
        SourceKind::Sqs => ("a queue", "queue"),
    };
    let map = reader.map(item, what, &[key, "valueType", "targets", "id", "deduplicationKey", "textColumns"])?;
    let location = reader.required(&map, key).and_then(|value| location(reader, value, kind, seen));
    let standard = location.as_ref().is_some_and(|location| location.resolved && !location.text.ends_with(FIFO));
    let value_type = reader.required(&map, "valueType").and_then(|value| reader.value_type(value, kind));
    let targets = reader.required(&map, "targets").map(|value| targets(reader, value, seen));
    let selected = match (map.get("id"), kind) {
        (None, SourceKind::Kinesis) => Some(Selector::PartitionKey),
        (Some(value), _) => reader.selector(value, "id", Choice::of_id(kind)),
        (None, SourceKind::Sqs) => {
            reader.required(&map, "id");
            None
        }
    };
    let deduplication_key = match map.get("deduplicationKey") {
        Some(value) => Some(deduplication_key(reader, value, kind, standard)?),
        None => None,
    };
    let text_columns = map.get("textColumns").map(|value| text_columns(reader, value)).unwrap_or_default();
    Some(Source {
        location: location?.text,
        value_type: value_type?,
        targets: targets?,
        id: selected?,
        deduplication_key,
        text_columns,
    })
}

fn text_columns(reader: &mut Reader<'_>, value: Value<'_>) -> Vec<String> {
    let items = reader.items(value, "textColumns");
    items.into_iter().filter_map(|item| reader.text(item, "a column").map(|text| text.text)).collect()
}

fn deduplication_key(reader: &mut Reader<'_>, value: Value<'_>, kind: SourceKind, standard: bool) -> Option<Selector> {
    let selector = reader.selector(value, "deduplicationKey", Choice::of_deduplication_key(kind))?;
    let fits = !standard || selector != Selector::MessageDeduplicationId;
    let message = "only messages of FIFO queues have a `messageDeduplicationId`, and this queue is none".to_owned();
    reader.expect(
        fits,
        where_of(value),
        message,
        "a FIFO queue's name ends in `.fifo`; of others take an attribute or a `jsonPointer`",
    )?;
    Some(selector)
}

fn location(reader: &mut Reader<'_>, value: Value<'_>, kind: SourceKind, seen: &mut Seen) -> Option<Text> {
    let (key, service, help) = match kind {
        SourceKind::Kinesis => ("stream", "kinesis", "write a stream's name or ARN, or the ARN of a consumer of it"),
        SourceKind::Sqs => ("queue", "sqs", "write a queue's URL, ARN or name"),
    };
    let Text { text, place, resolved } = reader.destination(value, key)?;
    let fits = !resolved
        || is_location(&text, service)
        || (kind == SourceKind::Sqs && is_url(&text))
        || text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    reader.expect(fits, place, format!("`{text}` does not name a {key}"), help)?;
    let name = resource_name(&text).to_owned();
    if kind == SourceKind::Sqs {
        seen.queue(reader, &text, Role::Ingress, place);
    }
    once(reader, &mut seen.sources, (kind, name.clone()), place, &format!("the {key} `{name}`"));
    Some(Text { text, place, resolved })
}

fn targets(reader: &mut Reader<'_>, value: Value<'_>, seen: &mut Seen) -> Vec<TypeName> {
    let mut targets: Vec<TypeName> = Vec::new();
    for item in reader.items(value, "targets") {
        let Some((target, place)) = reader.type_name(item, "target") else { continue };
        if targets.contains(&target) {
            reader.wrong(place, format!("`{target}` is already a target"), None);
            continue;
        }
        seen.targets.push((target.clone(), place));
        targets.push(target);
    }
    targets
}

fn egress(reader: &mut Reader<'_>, spec: Value<'_>, kind: &str, seen: &mut Seen) -> Option<Egress> {
    let (what, key, statefun) = match kind {
        KINESIS_EGRESS => ("`spec` of a Kinesis egress", "stream", statefun_keys::EGRESS),
        SNS_EGRESS => ("`spec` of an SNS egress", "topic", &[] as &[&str]),
        _ => ("`spec` of an SQS egress", "queue", &[] as &[&str]),
    };
    let keys: Vec<_> = ["id", key, "builtInTypes"].iter().chain(statefun).copied().collect();
    let spec = reader.map(spec, what, &keys)?;
    let id = id(reader, &spec, &mut seen.egresses, "egress");
    reader.statefun_keys(&spec);
    let built_in = spec.get("builtInTypes").and_then(|value| reader.word(value, "builtInTypes", &["text", "protobuf"]));
    let built_in = if built_in == Some("protobuf") { BuiltInForm::Protobuf } else { BuiltInForm::Text };
    let location = reader.required(&spec, key).and_then(|value| reader.destination(value, key));
    let Text { text, place, resolved } = location?;
    let (fits, help) = match key {
        "stream" if stream_of_consumer(&text).is_some() => {
            (false, "this is the ARN of a consumer, which reads: write the ARN of its stream")
        }
        "queue" => (is_url(&text), "write the URL of a queue: `https://…`"),
        "topic" => (is_location(&text, "sns"), "write the ARN of a topic: `arn:aws:sns:…`"),
        _ => (is_location(&text, "kinesis") || !text.contains([':', '/']), "write a stream's name or ARN"),
    };
    reader.expect(fits || !resolved, place, format!("`{text}` does not name a {key}"), help)?;
    if key == "queue" {
        seen.queue(reader, &text, Role::Egress, place);
    }
    let destination = match key {
        "queue" => Destination::Queue(text),
        "topic" => Destination::Topic(text),
        _ => Destination::Stream(text),
    };
    Some(Egress { id: id?, destination, built_in })
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        rest.split_once('/').is_some_and(|(host, path)| !host.is_empty() && !path.ends_with('/') && !path.is_empty())
    })
}

/// Whether it is the ARN of a queue or topic, or of a stream or a consumer of one.
fn is_location(text: &str, service: &str) -> bool {
    let mut parts = text.splitn(6, ':');
    let resource = (parts.next() == Some("arn") && parts.nth(1) == Some(service)).then(|| parts.nth(2)).flatten();
    resource.is_some_and(|resource| match (service, stream_of_consumer(text)) {
        ("kinesis", None) => resource.strip_prefix("stream/").is_some_and(is_name),
        // A consumer has a name and the time at which it was made.
        ("kinesis", Some(stream)) => {
            let consumer = text[stream.len()..].strip_prefix("/consumer/").and_then(|consumer| consumer.split_once(':'));
            is_name(resource_name(stream)) && consumer.is_some_and(|(name, time)| is_name(name) && is_name(time))
        }
        _ => is_name(resource),
    })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['/', ':'])
}
