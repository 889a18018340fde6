//! YAML as nodes that know their places. Repeated keys are kept, so that they can be reported with everything else.

use std::{collections::HashMap, sync::Arc};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};

use crate::problem::{Finding, Place, Source};

/// Nodes inside of nodes. The kinds need 6.
const MAX_DEPTH: usize = 32;

/// Nodes of a file, those repeated by aliases included: aliases of aliases grow without bound in a few lines.
const MAX_NODES: usize = 100_000;

/// A value in the file.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) data: Data,
    /// Nodes in it, itself included.
    nodes: usize,
}

#[derive(Debug)]
pub(crate) enum Data {
    Null,
    Scalar(String),
    List(Vec<Arc<Node>>),
    Map(Vec<(Arc<Node>, Arc<Node>)>),
}

impl Node {
    /// What it is, for a sentence.
    pub(crate) fn what(&self) -> &'static str {
        match self.data {
            Data::Null => "nothing",
            Data::Scalar(_) => "a text",
            Data::List(_) => "a list",
            Data::Map(_) => "a map",
        }
    }
}

/// A file as YAML.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) documents: Vec<Arc<Node>>,
    pub(crate) problems: Vec<Finding>,
    /// Whether these are all documents: none follow a place that is not YAML.
    pub(crate) complete: bool,
}

/// Reads a file as far as it is YAML.
pub(crate) fn tree(source: &Source) -> Tree {
    let mut builder =
        Builder { source, documents: Vec::new(), open: Vec::new(), anchors: HashMap::new(), nodes: 0, tags: Vec::new() };
    let mut parser = Parser::new_from_str(&source.text);
    let stopped = builder.run(&mut parser).err();
    let complete = stopped.is_none();
    Tree { documents: builder.documents, problems: builder.tags.into_iter().chain(stopped).collect(), complete }
}

/// A list or map that is not closed yet.
struct Open {
    place: Place,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Arc<Node>>),
    Map { entries: Vec<(Arc<Node>, Arc<Node>)>, key: Option<Arc<Node>> },
}

struct Builder<'a> {
    source: &'a Source,
    documents: Vec<Arc<Node>>,
    open: Vec<Open>,
    anchors: HashMap<usize, Arc<Node>>,
    nodes: usize,
    /// Problems with tags: they do not keep the rest from being read.
    tags: Vec<Finding>,
}

impl<'a> Builder<'a> {
    fn run(&mut self, parser: &mut Parser<'a, StrInput<'a>>) -> Result<(), Finding> {
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| self.syntax(error.marker(), error.info()))?;
            let place = self.place(span);
            match event {
                Event::Scalar(text, style, anchor, tag) => {
                    let tagged = tag.is_some();
                    self.check_tag(tag.as_deref(), place);
                    let null = style == ScalarStyle::Plain && !tagged && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                    let data = if null { Data::Null } else { Data::Scalar(text.into_owned()) };
                    self.add(Node { place, data, nodes: 1 }, anchor)?;
                }
                Event::SequenceStart(anchor, tag) => {
                    self.check_tag(tag.as_deref(), place);
                    self.enter(Open { place, anchor, content: Content::List(Vec::new()) })?;
                }
                Event::MappingStart(anchor, tag) => {
                    self.check_tag(tag.as_deref(), place);
                    self.enter(Open { place, anchor, content: Content::Map { entries: Vec::new(), key: None } })?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.leave()?,
                Event::Alias(anchor) => {
                    let inside = "an alias stands inside of what it names";
                    let node = self.anchors.get(&anchor).cloned().ok_or_else(|| Finding::new(place, inside, None))?;
                    let nodes = node.nodes;
                    self.put(node, place, nodes)?;
                }
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {}
            }
        }
        Ok(())
    }

    fn enter(&mut self, open: Open) -> Result<(), Finding> {
        if self.open.len() == MAX_DEPTH {
            return Err(Finding::new(open.place, format!("more than {MAX_DEPTH} levels of lists and maps"), None));
        }
        self.open.push(open);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Finding> {
        let Some(Open { place, anchor, content }) = self.open.pop() else { return Ok(()) };
        let (data, inside) = match content {
            Content::List(items) => {
                let inside = items.iter().map(|node| node.nodes).sum::<usize>();
                (Data::List(items), inside)
            }
            Content::Map { entries, .. } => {
                let inside = entries.iter().map(|(key, value)| key.nodes + value.nodes).sum();
                (Data::Map(entries), inside)
            }
        };
        self.add(Node { place, data, nodes: inside + 1 }, anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Finding> {
        let (place, node) = (node.place, Arc::new(node));
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        // What is inside was counted when it was put there.
        self.put(node, place, 1)
    }

    /// Puts a whole node where it belongs; `place` is where it is used, `nodes` how many that adds.
    fn put(&mut self, node: Arc<Node>, place: Place, nodes: usize) -> Result<(), Finding> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(Finding::new(place, format!("more than {MAX_NODES} values, those repeated by aliases included"), None));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.documents.push(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, key }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(node),
            },
        }
        Ok(())
    }

    fn check_tag(&mut self, tag: Option<&Tag>, place: Place) {
        let Some(tag) = tag else { return };
        // As it was written: YAML's own tags have a short form.
        let handle = if tag.is_yaml_core_schema() { "!!" } else { &tag.handle };
        let help = "write `${NAME}` for what the environment gives";
        self.tags.push(Finding::new(
            place,
            format!("the tag `{handle}{}` has no meaning here", tag.suffix),
            Some(help.to_owned()),
        ));
    }

    /// A span over several lines means its first line from there on.
    fn place(&self, span: Span) -> Place {
        let (start, end) = (span.start, span.end);
        let length = if end.line() == start.line() { end.index().saturating_sub(start.index()).max(1) } else { usize::MAX };
        Place { line: start.line().max(1), column: start.col() + 1, length }
    }

    fn syntax(&self, marker: &Marker, info: &str) -> Finding {
        let place = Place { line: marker.line().max(1), column: marker.col() + 1, length: 1 };
        let help = "put quotes around a text with `${…}` inside of `[…]` or `{…}`";
        let help = self.source.line(place.line).contains("${").then(|| help.to_owned());
        Finding::new(place, format!("this is not YAML: {info}"), help)
    }
}
