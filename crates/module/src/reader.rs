//! Reads nodes as what a kind asks for, and collects what is wrong on the way.

use std::{collections::BTreeSet, sync::Arc};

use statefun_core::{TypeName, nearest};

use crate::{
    problem::{Finding, MAX_PROBLEMS, Place},
    template::{Piece, pieces},
    tree::{Data, Node},
};

/// What environment variables stand for.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What is known of the environment.
#[derive(Clone, Copy)]
pub(crate) enum Variables<'a> {
    /// Everything there is: what is missing is a mistake.
    All(Lookup<'a>),
    /// Of what names things on AWS nothing is needed.
    Local(Lookup<'a>),
}

/// A text with its variables put in.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) place: Place,
    /// Whether all variables in it were known.
    pub(crate) resolved: bool,
}

/// A value of a map, and where its key stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'n> {
    pub(crate) node: &'n Node,
    pub(crate) key: Place,
}

/// A map whose keys were checked.
#[derive(Debug)]
pub(crate) struct Map<'n> {
    /// Where to point when a key is missing.
    place: Place,
    what: String,
    entries: Vec<(&'n str, Value<'n>)>,
    /// Keys that were suggested for others, which therefore need not be reported as missing.
    suggested: Vec<String>,
}

impl<'n> Map<'n> {
    pub(crate) fn get(&self, key: &str) -> Option<Value<'n>> {
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }
}

pub(crate) struct Reader<'a> {
    pub(crate) variables: Variables<'a>,
    pub(crate) problems: Vec<Finding>,
    /// Variables that the file names.
    named: BTreeSet<String>,
    missing: Vec<(Place, String)>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(variables: Variables<'a>) -> Self {
        Self { variables, problems: Vec::new(), named: BTreeSet::new(), missing: Vec::new() }
    }

    /// All that is wrong. Of the variables that are `set`, one that the file does not name may be meant where one is missing.
    pub(crate) fn finish(mut self, set: &[String]) -> Vec<Finding> {
        let unused: Vec<_> = set.iter().filter(|name| !self.named.contains(*name)).map(String::as_str).collect();
        // There may be as many as there are texts: no more are looked up than can be reported.
        self.missing.sort();
        self.missing.truncate(MAX_PROBLEMS);
        for (place, name) in self.missing {
            let alike = unused.iter().copied().filter(|known| known.len().abs_diff(name.len()) <= 1 + name.len() / 4);
            let help = match nearest(&name, alike) {
                Some(near) => format!("`{near}` is set: did you mean that?"),
                None => "set it where this program is started, or write the value here".to_owned(),
            };
            self.problems.push(Finding::new(place, format!("the environment variable `{name}` is not set"), Some(help)));
        }
        self.problems
    }

    pub(crate) fn wrong(&mut self, place: Place, message: impl Into<String>, help: Option<String>) {
        self.problems.push(Finding::new(place, message, help));
    }

    /// The map that `value` is, with no keys but `keys`. `what` names it in sentences.
    pub(crate) fn map<'n>(&mut self, value: Value<'n>, what: &str, keys: &[&str]) -> Option<Map<'n>> {
        let Data::Map(entries) = &value.node.data else {
            self.wrong(
                where_of(value),
                format!("{what} is a map, not {}", value.node.what()),
                Some(format!("its keys are {}", list(keys))),
            );
            return None;
        };
        let mut map = Map { place: value.key, what: what.to_owned(), entries: Vec::new(), suggested: Vec::new() };
        for (key, node) in entries {
            let Data::Scalar(name) = &key.data else {
                self.wrong(key.place, format!("a key is a text, not {}", key.what()), None);
                continue;
            };
            if name == "<<" {
                let help = "write the keys out, or name a whole value with an alias: `key: *name`";
                self.wrong(key.place, "merge keys (`<<`) are not read: YAML has had none since 1.2", Some(help.to_owned()));
            } else if map.get(name).is_some() {
                self.wrong(key.place, format!("the key `{name}` is given twice"), None);
            } else if !keys.contains(&name.as_str()) {
                map.suggested.extend(nearest(name, keys.iter().copied()).map(str::to_owned));
                self.wrong(key.place, format!("{what} has no key `{name}`"), Some(suggest(name, keys)));
            } else {
                map.entries.push((name, Value { node, key: key.place }));
            }
        }
        Some(map)
    }

    pub(crate) fn required<'n>(&mut self, map: &Map<'n>, key: &str) -> Option<Value<'n>> {
        let value = map.get(key);
        if value.is_none() && !map.suggested.iter().any(|suggested| suggested == key) {
            self.wrong(map.place, format!("{} lacks the key `{key}`", map.what), None);
        }
        value
    }

    /// The list that `value` is, with at least one item.
    pub(crate) fn items<'n>(&mut self, value: Value<'n>, what: &str) -> Vec<Value<'n>> {
        match &value.node.data {
            Data::List(items) if items.is_empty() => {
                self.wrong(value.key, format!("`{what}` is empty"), None);
                Vec::new()
            }
            Data::List(items) => items.iter().map(|node: &Arc<Node>| Value { node, key: node.place }).collect(),
            _ => {
                self.wrong(where_of(value), format!("`{what}` is a list, not {}", value.node.what()), None);
                Vec::new()
            }
        }
    }

    /// A text that is not empty. `None` if it is none, or if a variable in it is missing (which is then reported).
    pub(crate) fn text(&mut self, value: Value<'_>, what: &str) -> Option<Text> {
        self.read(value, what, false)
    }

    /// The same, of what names something on AWS: on a local host its variables may be missing.
    pub(crate) fn destination(&mut self, value: Value<'_>, what: &str) -> Option<Text> {
        self.read(value, what, true)
    }

    fn read(&mut self, value: Value<'_>, what: &str, on_aws: bool) -> Option<Text> {
        let Data::Scalar(written) = &value.node.data else {
            self.wrong(where_of(value), format!("`{what}` is a text, not {}", value.node.what()), None);
            return None;
        };
        let place = value.node.place;
        let pieces = pieces(written).map_err(|problem| self.wrong(place, problem, None)).ok()?;
        let (Variables::All(lookup) | Variables::Local(lookup)) = self.variables;
        let (mut text, mut missing) = (String::with_capacity(written.len()), Vec::new());
        for piece in &pieces {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Variable(name) => {
                    self.named.insert((*name).to_owned());
                    match lookup(name) {
                        Some(found) => text.push_str(&found),
                        None => missing.push((place, (*name).to_owned())),
                    }
                }
            }
        }
        match (missing.is_empty(), self.variables) {
            (true, _) if text.is_empty() => {
                self.wrong(place, format!("`{what}` is empty"), None);
                None
            }
            (true, _) => Some(Text { text, place, resolved: true }),
            (false, Variables::Local(_)) if on_aws => Some(Text { text: written.clone(), place, resolved: false }),
            (false, _) => {
                self.missing.extend(missing);
                None
            }
        }
    }

    pub(crate) fn type_name(&mut self, value: Value<'_>, what: &str) -> Option<(TypeName, Place)> {
        let Text { text, place, .. } = self.text(value, what)?;
        match TypeName::parse(&text) {
            Ok(name) => Some((name, place)),
            Err(error) => {
                self.wrong(place, error.to_string(), None);
                None
            }
        }
    }

    /// One of the words; what else is possible stands in `or`.
    pub(crate) fn word<'w>(&mut self, value: Value<'_>, what: &str, words: &[&'w str]) -> Option<&'w str> {
        let Text { text, place, .. } = self.text(value, what)?;
        let known = words.iter().find(|word| **word == text);
        if known.is_none() {
            let near = nearest(&text, words.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            let help = near.unwrap_or_else(|| format!("write {}", either(words)));
            self.wrong(place, format!("`{what}` cannot be `{text}`"), Some(help));
        }
        known.copied()
    }
}

/// Where a value is, or its key if there is nothing.
pub(crate) fn where_of(value: Value<'_>) -> Place {
    match value.node.data {
        Data::Null => value.key,
        _ => value.node.place,
    }
}

pub(crate) fn suggest(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known: {}", list(known)),
    }
}

fn list(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

fn either(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(" or ")
}
