//! `module.yaml`: which queues carry messages to which functions, and the ways in and out of an application, as StateFun's
//! multi-document YAML says them. The reference of all kinds and keys is `docs/module.md`.
//!
//! [`Module::parse`] finds everything that is wrong with a file at once; [`UnresolvedModule::resolve`] puts the environment's
//! variables in, and finds everything that is missing at once.

mod kinds;
mod model;
mod pointer;
mod problem;
mod reader;
mod selector;
mod statefun_keys;
mod template;
#[cfg(test)]
mod tests;
mod tree;

use std::{collections::BTreeSet, sync::Arc};

pub use model::{Destination, Egress, FunctionPattern, FunctionQueues, Ingress, Module, Selector, Source, SourceKind, ValueType};
pub use pointer::{InvalidJsonPointer, JsonPointer};
pub use problem::{InvalidModule, Place, Problem};

use reader::{Reader, Variables};
use tree::Node;

/// A module file without mistakes, as far as that can be said without the variables in it.
#[derive(Debug, Clone)]
pub struct UnresolvedModule {
    source: problem::Source,
    documents: Vec<Arc<Node>>,
    variables: BTreeSet<String>,
}

impl Module {
    /// Reads a module file; `file` is its name in reports. Texts with `${NAME}` in them are checked when they are resolved.
    ///
    /// # Errors
    /// [`InvalidModule`] with all mistakes (the first 100), each with its place. Files beyond 1 MiB are refused.
    pub fn parse(file: &str, text: &str) -> Result<UnresolvedModule, InvalidModule> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let source = problem::Source { file: file.to_owned(), text };
        let (documents, unreadable) = tree::documents(&source);
        let mut reader = Reader::new(Variables::Unknown);
        kinds::module(&mut reader, &documents);
        let Reader { mut problems, named: variables, .. } = reader;
        problems.extend(unreadable);
        source.valid(problems)?;
        Ok(UnresolvedModule { source, documents, variables })
    }
}

impl UnresolvedModule {
    /// Puts variables in. On AWS every one of them is needed.
    ///
    /// # Errors
    /// [`InvalidModule`] with all variables that are missing, and all mistakes that show only now.
    pub fn resolve(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Module, InvalidModule> {
        self.with(Variables::All(lookup))
    }

    /// Puts variables in for a local host: queues, streams and topics are not needed there, and keep variables that are missing.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_local(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Module, InvalidModule> {
        self.with(Variables::Local(lookup))
    }

    /// The variables that the file names.
    #[must_use]
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    fn with(&self, variables: Variables<'_>) -> Result<Module, InvalidModule> {
        let mut reader = Reader::new(variables);
        let module = kinds::module(&mut reader, &self.documents);
        self.source.valid(reader.problems)?;
        Ok(module)
    }
}
