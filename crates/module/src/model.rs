//! What a module file declares, with all variables put in.

use statefun_core::{BuiltInForm, TypeName, limits::MAX_MESSAGE_BYTES, resource_name};

use crate::pointer::JsonPointer;

/// Ends the names of FIFO queues, and of nothing else.
pub(crate) const FIFO: &str = ".fifo";

/// Bytes of an SNS message, its attributes included. Source: SNS quotas.
const MAX_SNS_BYTES: usize = 256 * 1_024;

/// What a module file declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Module {
    /// Which queues carry messages to which functions.
    pub functions: Vec<FunctionQueues>,
    /// Ways in. Ids are distinct, and no two read the same stream or queue.
    pub ingresses: Vec<Ingress>,
    /// Ways out. Ids are distinct.
    pub egresses: Vec<Egress>,
}

/// The queues of some functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionQueues {
    /// The functions.
    pub patterns: Vec<FunctionPattern>,
    /// URLs of FIFO queues: the shards, in a fixed order. An address belongs to the one that its hash says.
    pub queues: Vec<String>,
}

/// Some functions. No pattern stands twice in a module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FunctionPattern {
    /// This one: `namespace/name`. Beats a namespace.
    Exact(TypeName),
    /// All of a namespace: `namespace/*`.
    Namespace(String),
}

/// A way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// Its name.
    pub id: TypeName,
    /// What it reads.
    pub kind: SourceKind,
    /// The streams or queues, at least one.
    pub sources: Vec<Source>,
}

/// What an ingress reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// Kinesis streams.
    Kinesis,
    /// SQS queues, standard or FIFO.
    Sqs,
}

/// A stream or queue of an ingress, and what its records become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Name, ARN or (of queues) URL, as declared. On a local host it may still have variables: `${NAME}`.
    pub location: String,
    /// The type of the messages.
    pub value_type: ValueType,
    /// Functions that get every record, at least one, each once.
    pub targets: Vec<TypeName>,
    /// What the instance's id is taken from.
    pub id: Selector,
    /// What names a record so that a second one of the same name has no effect.
    pub deduplication_key: Option<Selector>,
    /// Columns that are text where a local host feeds rows of CSV in place of records.
    pub text_columns: Vec<String>,
}

/// The type of a record's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueType {
    /// This type; the record's bytes are the type's bytes.
    Named(TypeName),
    /// The record's bytes are UTF-8 text, which becomes an `io.statefun.types/string`.
    Text,
    /// The record says its type; its bytes are the type's bytes.
    From(Selector),
}

/// A part of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The partition key of a Kinesis record.
    PartitionKey,
    /// The message group of an SQS message.
    MessageGroupId,
    /// What SQS calls the message.
    MessageId,
    /// The deduplication id that the producer gave an SQS FIFO message.
    MessageDeduplicationId,
    /// A message attribute of an SQS message.
    MessageAttribute(String),
    /// A value inside of a JSON record.
    JsonPointer(JsonPointer),
}

/// A way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Its name, as functions say it.
    pub id: TypeName,
    /// Where its records go.
    pub destination: Destination,
    /// The form of values of built-in types: plain text, unless `builtInTypes: protobuf` asks for StateFun's.
    pub built_in: BuiltInForm,
}

/// Where an egress goes. On a local host a destination may still have variables: `${NAME}`; it is not used there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The URL of an SQS queue; a FIFO queue if it ends in `.fifo`.
    Queue(String),
    /// The ARN of an SNS topic; a FIFO topic if it ends in `.fifo`.
    Topic(String),
    /// Name or ARN of a Kinesis stream.
    Stream(String),
}

impl Module {
    /// The queues of a function: those declared for it by name, else those of its namespace.
    #[must_use]
    pub fn queues_of(&self, function: &TypeName) -> Option<&[String]> {
        let by = |matches: &dyn Fn(&FunctionPattern) -> bool| {
            self.functions.iter().find(|functions| functions.patterns.iter().any(matches)).map(|found| &found.queues[..])
        };
        let exact = by(&|pattern| matches!(pattern, FunctionPattern::Exact(name) if name == function));
        exact.or_else(|| by(&|pattern| matches!(pattern, FunctionPattern::Namespace(space) if space == function.namespace())))
    }

    /// The ingress of this name.
    #[must_use]
    pub fn ingress(&self, id: &TypeName) -> Option<&Ingress> {
        self.ingresses.iter().find(|ingress| ingress.id == *id)
    }

    /// The ingress that reads a stream or queue, by its name, ARN or URL.
    #[must_use]
    pub fn ingress_of(&self, kind: SourceKind, location: &str) -> Option<(&Ingress, &Source)> {
        let name = resource_name(location);
        let of_kind = self.ingresses.iter().filter(|ingress| ingress.kind == kind);
        let mut sources = of_kind.flat_map(|ingress| ingress.sources.iter().map(move |source| (ingress, source)));
        sources.find(|(_, source)| source.name() == name)
    }

    /// The egress of this name.
    #[must_use]
    pub fn egress(&self, id: &TypeName) -> Option<&Egress> {
        self.egresses.iter().find(|egress| egress.id == *id)
    }
}

impl FunctionPattern {
    /// Whether the function is one of these.
    #[must_use]
    pub fn matches(&self, function: &TypeName) -> bool {
        match self {
            Self::Exact(name) => name == function,
            Self::Namespace(namespace) => namespace == function.namespace(),
        }
    }
}

impl Source {
    /// The stream's or queue's name.
    #[must_use]
    pub fn name(&self) -> &str {
        resource_name(&self.location)
    }

    /// Whether it is a FIFO queue, or may be one: a variable that is still open may name any.
    #[must_use]
    pub fn may_be_fifo(&self) -> bool {
        self.location.ends_with(FIFO) || self.location.contains("${")
    }
}

impl Destination {
    /// URL, ARN or name, as declared.
    #[must_use]
    pub fn location(&self) -> &str {
        match self {
            Self::Queue(location) | Self::Topic(location) | Self::Stream(location) => location,
        }
    }

    /// Bytes of the largest value that is taken there for certain, whatever the bytes are.
    #[must_use]
    pub fn max_value_bytes(&self) -> usize {
        match self {
            // As base64 the largest message has 1,000 KiB, which leaves 24 KiB of 1 MiB for what goes with it.
            Self::Queue(_) | Self::Stream(_) => MAX_MESSAGE_BYTES,
            // 4 KiB are left for the attributes; the rest holds this as base64.
            Self::Topic(_) => (MAX_SNS_BYTES - 4 * 1_024) / 4 * 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_takes_less_than_a_message_may_hold() {
        let limits = [Destination::Queue, Destination::Topic, Destination::Stream].map(|to| to(String::new()).max_value_bytes());
        assert_eq!(limits, [MAX_MESSAGE_BYTES, 189 * 1_024, MAX_MESSAGE_BYTES]);
    }
}
