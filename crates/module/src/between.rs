//! What holds between documents: what must not stand twice, queues with one role each, targets that have queues.

use std::{collections::HashMap, hash::Hash};

use statefun_core::{TypeName, nearest, resource_name};

use crate::{
    kinds::FUNCTIONS,
    model::{FunctionPattern, FunctionQueues, SourceKind},
    problem::Place,
    reader::{Reader, Variables},
};

/// What was read so far.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) ingresses: HashMap<TypeName, Place>,
    pub(crate) egresses: HashMap<TypeName, Place>,
    pub(crate) patterns: HashMap<FunctionPattern, Place>,
    pub(crate) sources: HashMap<(SourceKind, String), Place>,
    pub(crate) targets: Vec<(TypeName, Place)>,
    /// Functions may be declared that could not be read: then nothing is known of targets that have none.
    pub(crate) functions_unclear: bool,
    queues: HashMap<String, (Role, Place)>,
}

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Functions,
    Ingress,
    Egress,
}

/// Notes a thing, or returns that it is there already.
pub(crate) fn once<T: Eq + Hash>(reader: &mut Reader<'_>, seen: &mut HashMap<T, Place>, thing: T, place: Place, what: &str) {
    match seen.get(&thing) {
        None => drop(seen.insert(thing, place)),
        Some(first) => reader.wrong(place, format!("{what} is declared twice"), Some(format!("first in line {}", first.line))),
    }
}

impl Seen {
    /// Notes what a queue is for. Its messages would be taken for something else in another role.
    pub(crate) fn queue(&mut self, reader: &mut Reader<'_>, location: &str, role: Role, place: Place) {
        let (first, Place { line, .. }) = *self.queues.entry(resource_name(location).to_owned()).or_insert((role, place));
        let has = match first {
            _ if first == role => return,
            Role::Functions => "already carries messages to functions",
            Role::Ingress => "is already read by an ingress",
            Role::Egress => "already takes the records of an egress",
        };
        reader.wrong(place, format!("this queue {has} (line {line})"), Some("each role needs a queue of its own".to_owned()));
    }

    /// Every target has queues. A local host has functions without queues.
    pub(crate) fn check_targets(self, reader: &mut Reader<'_>, functions: &[FunctionQueues]) {
        let local = matches!(reader.variables, Variables::Local(_));
        if self.functions_unclear || (local && functions.is_empty()) {
            return;
        }
        let patterns = || functions.iter().flat_map(|functions| &functions.patterns);
        for (target, place) in self.targets {
            if !patterns().any(|pattern| pattern.matches(&target)) {
                let help = match near(&target, patterns()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("declare it in a document of the kind `{FUNCTIONS}`"),
                };
                reader.wrong(place, format!("no `functions` have the target `{target}`"), Some(help));
            }
        }
    }
}

/// The function that may be meant: one that is declared, or this one in a namespace that is.
fn near<'p>(target: &TypeName, patterns: impl Iterator<Item = &'p FunctionPattern>) -> Option<String> {
    let (mut names, mut namespaces) = (Vec::new(), Vec::new());
    for pattern in patterns {
        match pattern {
            FunctionPattern::Exact(name) => names.push(name.as_str()),
            FunctionPattern::Namespace(namespace) => namespaces.push(namespace.as_str()),
        }
    }
    let in_namespace = || Some(format!("{}/{}", nearest(target.namespace(), namespaces)?, target.name()));
    nearest(target.as_str(), names).map(str::to_owned).or_else(in_namespace)
}
