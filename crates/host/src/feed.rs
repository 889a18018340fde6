//! Ingresses that a module declares, fed by hand: a record becomes what it would become if its stream or queue delivered it.

use std::{collections::BTreeMap, sync::Arc};

use statefun_core::{Envelope, nearest};
use statefun_engine::Functions;
use statefun_ingress::{IngressRecord, ModuleRouter, Router, envelopes};
use statefun_module::{Module, Selector, Source, SourceKind, ValueType};

use crate::{
    accept::{check, find},
    error::{Refusal, UnknownFunction},
};

/// The ingresses of a module, if there is one.
#[derive(Debug)]
pub(crate) struct Feeds {
    module: Option<Arc<Module>>,
    router: ModuleRouter,
}

/// One stream or queue of an ingress.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    feeds: Arc<Feeds>,
    /// The ingress's name.
    pub(crate) ingress: Arc<str>,
    pub(crate) kind: SourceKind,
    pub(crate) source: Source,
}

/// There is no such ingress, or it is not clear which of its streams or queues is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct UnknownIngress {
    problem: String,
    /// What to write instead.
    pub(crate) known: Vec<String>,
}

/// Why a record is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotFed {
    /// It is malformed, and belongs to the dead letters.
    #[error("{0}")]
    Malformed(String),
    /// It would go to a function that this application lacks: another one may have it.
    #[error(transparent)]
    UnknownFunction(UnknownFunction),
}

impl Feeds {
    pub(crate) fn new(module: Option<Arc<Module>>) -> Arc<Self> {
        let router = ModuleRouter::new(module.as_deref().unwrap_or(&Module::default()));
        Arc::new(Self { module, router })
    }

    /// The stream or queue `source` of an ingress; without `source` its only one.
    pub(crate) fn find(self: &Arc<Self>, name: &str, source: Option<&str>) -> Result<Feed, UnknownIngress> {
        let Some(module) = &self.module else {
            let problem = "no ingress is declared here: start with `--module FILE`".to_owned();
            return Err(UnknownIngress { problem, known: Vec::new() });
        };
        let Some(ingress) = module.ingresses.iter().find(|ingress| ingress.id.as_str() == name) else {
            let known: Vec<_> = module.ingresses.iter().map(|ingress| ingress.id.to_string()).collect();
            let near = nearest(name, known.iter().map(String::as_str)).map(|near| format!("; did you mean `{near}`?"));
            return Err(UnknownIngress {
                problem: format!("no ingress `{name}` is declared{}", near.unwrap_or_default()),
                known,
            });
        };
        let found = match (source, &ingress.sources[..]) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(wanted), all) => all.iter().find(|source| short_name(source) == wanted || source.location == wanted),
        };
        let Some(found) = found else {
            let problem = match source {
                Some(source) => format!("the ingress `{name}` reads no `{source}`"),
                None => format!("the ingress `{name}` reads several: say which"),
            };
            return Err(UnknownIngress {
                problem,
                known: ingress.sources.iter().map(|source| short_name(source).to_owned()).collect(),
            });
        };
        Ok(Feed { feeds: self.clone(), ingress: ingress.id.as_str().into(), kind: ingress.kind, source: found.clone() })
    }
}

/// The source's name; of one that a variable names, the variable's name.
fn short_name(source: &Source) -> &str {
    let name = source.name();
    name.strip_prefix("${").and_then(|name| name.strip_suffix('}')).unwrap_or(name)
}

impl Feed {
    /// A record of this source, without the parts that some kinds have.
    pub(crate) fn record(&self, position: String, body: impl Into<bytes::Bytes>) -> IngressRecord {
        IngressRecord::new(self.ingress.clone(), self.source.name(), position, statefun_core::Timestamp::ZERO, body)
    }

    /// What the record is said to come from, in dead letters.
    pub(crate) fn origin(&self) -> String {
        format!("{} of {}", short_name(&self.source), self.ingress)
    }

    /// The message attributes that this source's records are asked for.
    fn attributes(&self) -> impl Iterator<Item = &str> {
        self.selectors().filter_map(|selector| match selector {
            Selector::MessageAttribute(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Those attributes that `get` knows.
    pub(crate) fn attributes_by<E>(
        &self,
        get: impl Fn(&str) -> Result<Option<String>, E>,
    ) -> Result<BTreeMap<String, String>, E> {
        let pair = |name: &str| Ok(get(name)?.map(|value| (name.to_owned(), value)));
        self.attributes().filter_map(|name| pair(name).transpose()).collect()
    }

    /// The part of its records, if they need it, that nothing but a field of your choice can stand for.
    pub(crate) fn needs_key(&self) -> Option<&'static str> {
        self.selectors().find_map(|selector| match selector {
            Selector::PartitionKey => Some("partition key"),
            Selector::MessageGroupId => Some("message group"),
            _ => None,
        })
    }

    fn selectors(&self) -> impl Iterator<Item = &Selector> {
        let of_type = match &self.source.value_type {
            ValueType::From(selector) => Some(selector),
            ValueType::Named(_) | ValueType::Text => None,
        };
        [Some(&self.source.id), of_type, self.source.deduplication_key.as_ref()].into_iter().flatten()
    }

    /// Whether this application has all functions that records go to.
    pub(crate) fn check_targets(&self, functions: &Functions) -> Result<(), UnknownFunction> {
        self.source.targets.iter().try_for_each(|target| find(functions, target.as_str()).map(drop))
    }

    /// What the record becomes.
    pub(crate) fn envelopes(&self, record: &IngressRecord, functions: &Functions) -> Result<Vec<Envelope>, NotFed> {
        routed(&self.feeds.router, record, functions)
    }
}

/// What a router makes of a record. Its messages are checked as at every other way in.
pub(crate) fn routed(router: &dyn Router, record: &IngressRecord, functions: &Functions) -> Result<Vec<Envelope>, NotFed> {
    let made = envelopes(router, record).map_err(|error| NotFed::Malformed(error.reason().to_owned()))?;
    for envelope in &made {
        let function = find(functions, envelope.to.function().as_str()).map_err(NotFed::UnknownFunction)?;
        let refused = |refusal: Refusal| NotFed::Malformed(refusal.to_string());
        envelope.messages.iter().try_for_each(|message| check(&function.spec, message)).map_err(refused)?;
    }
    Ok(made)
}
