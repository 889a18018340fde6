//! From a row to messages.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use statefun_core::{
    Address, Envelope, EnvelopeId, FunctionSpec, Timestamp, TypeName, TypedValue, Value,
    limits::{MAX_ENVELOPE_BYTES, MAX_ENVELOPE_MESSAGES},
    wire_bytes,
};
use statefun_engine::Functions;
use statefun_ingress::{IngressRecord, Origin, Router, SqsOrigin};
use statefun_module::SourceKind;

use super::{row::Row, split::Place};
use crate::{
    accept::{Form, check, find, message, only_json},
    error::{InputError, Refusal},
    feed::{Feed, Feeds, routed},
};

/// Bytes of all messages of a row: they may all go to one address, in one envelope. The rest is for what is around them.
const MAX_ROW_WIRE_BYTES: usize = MAX_ENVELOPE_BYTES - (16 << 10);

/// The ingress of rows that a router gets. Ids are made of it: never change it.
const ROWS: &str = "statefun/rows";

type RowFn = dyn Fn(&Row<'_>) -> Result<Vec<(Address, TypedValue)>, String> + Send + Sync;

/// Says which messages a row becomes.
#[derive(Clone)]
pub struct Mapping {
    kind: Kind,
    text: Vec<String>,
}

#[derive(Clone)]
enum Kind {
    Rows(Arc<RowFn>),
    Field { function: TypeName, id: String, type_name: Option<TypeName> },
    Ingress { name: TypeName, source: Option<String>, key: Option<String> },
    Router(Arc<dyn Router>),
}

impl Mapping {
    /// Messages as `map` makes them of a row; all messages of a row to one address travel together, in their order. An error
    /// (or a panic) sends the row to the dead letters. The same row must always become the same messages.
    pub fn rows(map: impl Fn(&Row<'_>) -> Result<Vec<(Address, TypedValue)>, String> + Send + Sync + 'static) -> Self {
        Kind::Rows(Arc::new(map)).into()
    }

    /// One message a row: the row as JSON, to `function`, at the id that stands in the field `id`. Its type is the function's only
    /// JSON type.
    #[must_use]
    pub fn field(function: TypeName, id: impl Into<String>) -> Self {
        Kind::Field { function, id: id.into(), type_name: None }.into()
    }

    /// For [`field`](Self::field): the message's type. `io.statefun.types/string` holds the JSON text as a string.
    #[must_use]
    pub fn with_type(mut self, name: TypeName) -> Self {
        if let Kind::Field { type_name, .. } = &mut self.kind {
            *type_name = Some(name);
        }
        self
    }

    /// What the module makes of a record of this ingress whose body is the row as JSON; see
    /// [`HostOptions::module`](crate::HostOptions::module). `source` names its stream or queue, if there are several. `key` names
    /// the field that is the record's partition key or message group. Message attributes are the fields of the same names.
    #[must_use]
    pub fn ingress(name: TypeName, source: Option<String>, key: Option<String>) -> Self {
        Kind::Ingress { name, source, key }.into()
    }

    /// What a router makes of a record whose body is the row as JSON and whose origin is [`Origin::Row`]: the router that a router Lambda of
    /// this application would run.
    #[must_use]
    pub fn router(router: Arc<dyn Router>) -> Self {
        Kind::Router(router).into()
    }

    /// For CSV: these columns are text. Their fields become strings of JSON, also if they look like numbers, and empty ones stay
    /// empty strings. A code such as `007` or `7` is text.
    #[must_use]
    pub fn with_text(mut self, fields: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.text.extend(fields.into_iter().map(Into::into));
        self
    }

    /// The columns that are text.
    pub(super) fn text(&self) -> &[String] {
        &self.text
    }

    /// The field that must be in a CSV header.
    pub(super) fn id_field(&self) -> Option<&str> {
        match &self.kind {
            Kind::Rows(_) | Kind::Router(_) => None,
            Kind::Field { id, .. } => Some(id),
            Kind::Ingress { key, .. } => key.as_deref(),
        }
    }

    /// Looks up what the mapping names.
    ///
    /// # Errors
    /// If the application has no such function, or it does not take JSON of that type; if no such ingress is declared.
    pub(crate) fn resolve(&self, functions: &Functions, feeds: &Arc<Feeds>) -> Result<Resolved, InputError> {
        let how = match &self.kind {
            Kind::Rows(map) => How::Rows(map.clone()),
            Kind::Router(router) => How::Router(router.clone()),
            Kind::Field { function, id, type_name } => {
                let found = find(functions, function.as_str()).map_err(|error| InputError::Mapping(error.to_string()))?;
                let spec = found.spec.clone();
                let type_name = match type_name {
                    Some(name) => explicit(&spec, name)?,
                    None => only_json(&spec).map_err(|refusal| InputError::Mapping(advice(&refusal)))?.type_name.clone(),
                };
                How::Field { spec, id: id.clone(), type_name }
            }
            Kind::Ingress { name, source, key } => {
                let feed = feeds.find(name.as_str(), source.as_deref()).map_err(|error| {
                    let known =
                        if error.known.is_empty() { String::new() } else { format!("; there are {}", error.known.join(", ")) };
                    InputError::Mapping(format!("{error}{known}"))
                })?;
                feed.check_targets(functions).map_err(|error| InputError::Mapping(format!("{}: {error}", feed.origin())))?;
                if let (Some(part), None) = (feed.needs_key(), key) {
                    return Err(InputError::Mapping(format!(
                        "give --id FIELD: records of {} go by their {part}, and the field says which one a row has",
                        feed.origin()
                    )));
                }
                How::Ingress { feed, key: key.clone() }
            }
        };
        Ok(Resolved { functions: functions.clone(), how })
    }
}

impl From<Kind> for Mapping {
    fn from(kind: Kind) -> Self {
        Self { kind, text: Vec::new() }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Rows(_) => f.write_str("Mapping::rows(..)"),
            Kind::Router(_) => f.write_str("Mapping::router(..)"),
            Kind::Field { function, id, type_name } => {
                f.debug_tuple("Mapping::field").field(function).field(id).field(type_name).finish()
            }
            Kind::Ingress { name, source, key } => {
                f.debug_tuple("Mapping::ingress").field(name).field(source).field(key).finish()
            }
        }
    }
}

fn explicit(spec: &FunctionSpec, name: &TypeName) -> Result<TypeName, InputError> {
    let accepted = spec.accepts.iter().find(|accepted| accepted.type_name == *name);
    let fits = spec.accepts.is_empty() || *name == String::TYPE_NAME || accepted.is_some_and(|accepted| accepted.json);
    match (accepted, fits) {
        (None, _) if !spec.accepts.is_empty() => {
            Err(InputError::Mapping(format!("`{}` does not take `{name}`{}", spec.name, takes(spec))))
        }
        (_, true) => Ok(name.clone()),
        (_, false) => Err(InputError::Mapping(format!("rows are JSON, and `{name}` is not: write a mapping in Rust for it"))),
    }
}

fn takes(spec: &FunctionSpec) -> String {
    let names: Vec<_> = spec.accepts.iter().map(|accepted| format!("`{}`", accepted.type_name)).collect();
    format!("; it takes {}", names.join(", "))
}

fn advice(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Type { accepted, .. } => {
            let names: Vec<_> = accepted.iter().map(|name| format!("`{name}`")).collect();
            format!(
                "{refusal}: give the type with `--type`; it takes {}",
                if names.is_empty() { "any".into() } else { names.join(", ") }
            )
        }
        other => other.to_string(),
    }
}

/// A mapping of which everything was looked up.
pub(crate) struct Resolved {
    functions: Functions,
    how: How,
}

enum How {
    Rows(Arc<RowFn>),
    Field { spec: Arc<FunctionSpec>, id: String, type_name: TypeName },
    Ingress { feed: Feed, key: Option<String> },
    Router(Arc<dyn Router>),
}

impl Resolved {
    /// Columns that the module declares as text.
    pub(super) fn text_columns(&self) -> &[String] {
        match &self.how {
            How::Ingress { feed, .. } => &feed.source.text_columns,
            How::Rows(_) | How::Field { .. } | How::Router(_) => &[],
        }
    }

    /// What the row at `place` of the input `identity` becomes: one envelope per address, in the order of their first messages.
    /// They are without their times: they are sent when they are taken in.
    ///
    /// # Errors
    /// Why the row belongs to the dead letters.
    pub(super) fn envelopes(&self, identity: &str, place: Place, row: &Row<'_>) -> Result<Vec<Envelope>, String> {
        match &self.how {
            How::Ingress { feed, key } => {
                let record = row_record(feed, key.as_deref(), format!("{identity}@{}", place.offset), row)?;
                return feed.envelopes(&record, &self.functions).map_err(|error| error.to_string());
            }
            How::Router(router) => {
                let position = place.offset.to_string();
                let record = IngressRecord::new(ROWS, identity, position, Timestamp::ZERO, row.to_json());
                let record = IngressRecord { origin: Origin::Row { line: place.line }, ..record };
                return routed(&**router, &record, &self.functions).map_err(|error| error.to_string());
            }
            How::Rows(_) | How::Field { .. } => {}
        }
        let mut envelopes: Vec<Envelope> = Vec::new();
        for (to, message) in self.messages(row)? {
            if let Some(envelope) = envelopes.iter_mut().find(|envelope| envelope.to == to) {
                envelope.messages.push(message);
                continue;
            }
            // The target of an ingress id is a function type alone; a row may go to several of its instances.
            let record = [&place.offset.to_be_bytes(), to.id().as_bytes()].concat();
            let id = EnvelopeId::of_ingress(identity, &record, to.function());
            let (sent_at, messages) = (Timestamp::ZERO, vec![message]);
            envelopes.push(Envelope { id, to, from: None, sent_at, keyed: false, hops: 0, trace: None, messages });
        }
        Ok(envelopes)
    }

    /// The row's messages, each checked as an ingress checks it.
    fn messages(&self, row: &Row<'_>) -> Result<Vec<(Address, TypedValue)>, String> {
        match &self.how {
            How::Rows(map) => {
                let messages = catch_unwind(AssertUnwindSafe(|| map(row))).map_err(|_| "the mapping panicked".to_owned())??;
                let bytes: usize = messages.iter().map(|(_, value)| wire_bytes(value)).sum();
                if messages.len() > MAX_ENVELOPE_MESSAGES || bytes > MAX_ROW_WIRE_BYTES {
                    return Err(format!(
                        "the row becomes too much: at most {MAX_ENVELOPE_MESSAGES} messages and {MAX_ROW_WIRE_BYTES} bytes"
                    ));
                }
                for (address, value) in &messages {
                    let Some(function) = self.functions.get(address.function()) else {
                        let error = find(&self.functions, address.function().as_str()).err();
                        return Err(error.map_or_else(String::new, |error| error.to_string()));
                    };
                    check(&function.spec, value).map_err(|refusal| refusal.to_string())?;
                }
                Ok(messages)
            }
            How::Field { spec, id, type_name } => {
                let text = row.id(id)?.ok_or_else(|| format!("no field `{id}` to take the id from"))?;
                let address = Address::new(spec.name.clone(), text).map_err(|error| format!("the field `{id}`: {error}"))?;
                let form = if *type_name == String::TYPE_NAME { Form::Text } else { Form::Type(type_name) };
                let value = message(spec, form, row.to_json().into()).map_err(|refusal| refusal.to_string())?;
                Ok(vec![(address, value)])
            }
            How::Ingress { .. } | How::Router(_) => Ok(Vec::new()),
        }
    }
}

/// The row as a record of the ingress's stream or queue. It knows no deduplication id of its producer's: where there may be one, its
/// place stands for it.
fn row_record(feed: &Feed, key: Option<&str>, position: String, row: &Row<'_>) -> Result<IngressRecord, String> {
    let field = |name: &str| Ok::<_, String>(row.id(name)?.map(std::borrow::Cow::into_owned));
    let key = match key {
        Some(name) => Some(field(name)?.ok_or_else(|| format!("no field `{name}` to take the key from"))?),
        None => None,
    };
    let origin = match (feed.kind, key) {
        (SourceKind::Kinesis, Some(key)) => Origin::Kinesis { partition_key: key.into() },
        (SourceKind::Kinesis, None) => Origin::Plain,
        (SourceKind::Sqs, group_id) => Origin::Sqs(SqsOrigin {
            message_id: position.clone(),
            group_id,
            deduplication_id: feed.source.may_be_fifo().then(|| position.clone()),
            attributes: feed.attributes_by(field)?,
        }),
    };
    Ok(IngressRecord { origin, ..feed.record(position, row.to_json()) })
}

#[cfg(test)]
mod tests {
    use statefun_module::Module;

    use super::*;
    use crate::input::{
        row::RowReader,
        split::{Format, RawRow},
    };

    #[test]
    fn only_rows_for_fifo_queues_have_a_deduplication_id() {
        let text = "kind: io.statefun.sqs.v1/ingress
spec:
  id: a/in
  queues:
    - {queue: standard, valueType: text, targets: [a/b], id: {messageAttribute: who}}
    - {queue: orders.fifo, valueType: text, targets: [a/b], id: messageGroupId}
";
        let module = Module::parse("m.yaml", text).and_then(|module| module.resolve_local(&|_| None)).unwrap();
        let feeds = Feeds::new(Some(Arc::new(module)));
        let header = crate::input::header::Header::default();
        let raw = |bytes| RawRow { place: Place::START, bytes, flaw: None };
        let mut reader = RowReader::new(Format::JsonLines);
        for (source, expected) in [("standard", None), ("orders.fifo", Some("file@0"))] {
            let feed = feeds.find("a/in", Some(source)).unwrap();
            assert_eq!(feed.needs_key().is_some(), expected.is_some());
            let row = reader.read(raw(b"{\"who\":7}"), &header).unwrap();
            let record = row_record(&feed, Some("who"), "file@0".to_owned(), &row).unwrap();
            let sqs = record.origin.sqs().unwrap();
            assert_eq!((sqs.group_id.as_deref(), sqs.deduplication_id.as_deref()), (Some("7"), expected));
            let row = reader.read(raw(b"{\"who\":1.5}"), &header).unwrap();
            assert!(
                row_record(&feed, None, String::new(), &row).is_err() == (source == "standard"),
                "an attribute that is a key"
            );
        }
    }
}
