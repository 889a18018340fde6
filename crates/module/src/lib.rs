//! `module.yaml`: which queues carry messages to which functions, and the ways in and out of an application, as StateFun's
//! multi-document YAML says them. The reference of all kinds and keys is `docs/module.md`.
//!
//! [`Module::parse`] reads a file's text, [`ModuleFile::resolve`] puts the environment's variables in and reports everything that is
//! wrong, all at once.

mod between;
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

pub use model::{Destination, Egress, FunctionPattern, FunctionQueues, Ingress, Module, Selector, Source, SourceKind, ValueType};
pub use pointer::{InvalidJsonPointer, JsonPointer};
pub use problem::{InvalidModule, Place, Problem};

use reader::{Reader, Variables};
use tree::Tree;

/// The text of a module file. [`resolve`](Self::resolve) reports whether it is right.
#[derive(Debug)]
pub struct ModuleFile {
    source: problem::Source,
    tree: Tree,
    set: Vec<String>,
}

impl Module {
    /// Takes the text of a module file; `file` is its name in reports.
    ///
    /// # Errors
    /// If nothing can be said of it: it has more than 1 MiB, or is not UTF-8. All other mistakes are reported by
    /// [`ModuleFile::resolve`], together.
    pub fn parse(file: &str, text: impl AsRef<[u8]>) -> Result<ModuleFile, InvalidModule> {
        let source = problem::Source::new(file, text.as_ref())?;
        let tree = tree::tree(&source);
        Ok(ModuleFile { source, tree, set: Vec::new() })
    }
}

impl ModuleFile {
    /// Names variables that are set: where one is missing, the nearest of them that the file does not use yet is suggested.
    #[must_use]
    pub fn suggesting(self, set: impl IntoIterator<Item = String>) -> Self {
        Self { set: set.into_iter().collect(), ..self }
    }

    /// What the file declares, with variables put in. On AWS every one of them is needed.
    ///
    /// # Errors
    /// [`InvalidModule`] with all mistakes (the first 100), each with its place: of YAML, kinds and keys, variables that are
    /// missing, and what does not fit together.
    pub fn resolve(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Module, InvalidModule> {
        self.with(Variables::All(lookup))
    }

    /// The same for a local host: queues, streams and topics are not needed there, and keep variables that are missing; without any
    /// `functions` targets are not checked.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_local(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Module, InvalidModule> {
        self.with(Variables::Local(lookup))
    }

    fn with(&self, variables: Variables<'_>) -> Result<Module, InvalidModule> {
        let mut reader = Reader::new(variables);
        let module = kinds::module(&mut reader, &self.tree);
        let mut problems = reader.finish(&self.set);
        problems.extend(self.tree.problems.iter().cloned());
        self.source.valid(problems)?;
        Ok(module)
    }
}
