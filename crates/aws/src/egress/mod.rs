//! Egress to SQS, SNS and Kinesis.
//!
//! | sink | what arrives |
//! |---|---|
//! | [`Sink::Sqs`], [`Sink::Sns`] | the value itself as the body ([`message`] says how), the rest as message attributes |
//! | [`Sink::Kinesis`] | one JSON object per record, partition key the sender's id ([`kinesis`]) |
//!
//! Delivery is at least once, with a stable id: the attribute `statefun-id`, or the member `id`. FIFO queues and topics drop a
//! repeated id by themselves for 5 minutes, and keep the order of what one instance sends. Standard ones, and Kinesis after a
//! partial failure, keep none. A sender's records to a FIFO queue or topic go out one request after the other.
//!
//! **What holds up an instance.** A record that cannot be sent stays in its sender's outbox, and the sender's later messages wait behind
//! it. So nothing that a handler can put into a record is refused, as far as that is known: unknown egresses and values over
//! [`Sink::max_value_bytes`] fail in the handler's call (`Rules::egresses`), and what a service could not hold is written otherwise. An
//! entry that a service calls invalid all the same is [`PortErrorKind::Rejected`]: the engine makes it a dead letter after some tries.
//! What remains is the deployment's to correct: a queue, topic, stream or permission that is missing.

pub mod kinesis;
pub mod message;
mod rounds;
mod sns;
mod sqs;
#[cfg(test)]
mod wire_tests;

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::future::join_all;
use statefun_core::{BuiltInForm, EgressRecord, TypeName, limits::MAX_MESSAGE_BYTES, nearest};
use statefun_engine::ports::{Egress, PortError, PortErrorKind};

use crate::clients::Clients;
use message::Message;

/// Where an egress goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// An SQS queue, standard or FIFO by its name.
    Sqs {
        /// Its URL.
        queue_url: String,
    },
    /// An SNS topic, standard or FIFO by its name.
    Sns {
        /// Its ARN.
        topic_arn: String,
    },
    /// A Kinesis stream.
    Kinesis {
        /// Its name or ARN.
        stream: String,
    },
}

impl Sink {
    /// Bytes of the largest value that the sink takes for certain, whatever the bytes are.
    #[must_use]
    pub fn max_value_bytes(&self) -> usize {
        match self {
            // As base64 the largest message has 1,000 KiB, which leaves 24 KiB of 1 MiB for what goes with it.
            Self::Sqs { .. } | Self::Kinesis { .. } => MAX_MESSAGE_BYTES,
            // Of 256 KiB, 4 KiB are left for the attributes; the rest holds this as base64.
            Self::Sns { .. } => (sns::MAX_BYTES - 4 * 1024) / 4 * 3,
        }
    }
}

/// An egress: where it goes, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlet {
    /// Where it goes.
    pub sink: Sink,
    /// The form of values of built-in types.
    pub built_in: BuiltInForm,
}

impl From<Sink> for Outlet {
    fn from(sink: Sink) -> Self {
        Self { sink, built_in: BuiltInForm::default() }
    }
}

/// The way out, over AWS services.
#[derive(Debug, Clone)]
pub struct AwsEgress {
    clients: Clients,
    outlets: BTreeMap<TypeName, Outlet>,
}

impl AwsEgress {
    /// These egresses. Nothing is sent.
    #[must_use]
    pub fn new(clients: Clients, outlets: BTreeMap<TypeName, Outlet>) -> Self {
        Self { clients, outlets }
    }

    fn unknown(&self, egress: &TypeName) -> PortError {
        let hint = nearest(egress.as_str(), self.outlets.keys().map(TypeName::as_str))
            .map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        refused(format!("no egress `{egress}` is declared: add it to module.yaml and deploy{hint}"))
    }

    async fn emit_to(&self, outlet: &Outlet, records: &[&EgressRecord]) -> Vec<Result<(), PortError>> {
        let form = outlet.built_in;
        match &outlet.sink {
            Sink::Sqs { queue_url } => {
                let queue = sqs::Queue { client: &self.clients.sqs, url: queue_url };
                rounds::deliver(&queue, &messages(records, queue_url, form)).await
            }
            Sink::Sns { topic_arn } => {
                let topic = sns::Topic { client: &self.clients.sns, arn: topic_arn };
                rounds::deliver(&topic, &messages(records, topic_arn, form)).await
            }
            Sink::Kinesis { stream } => kinesis::emit(&self.clients.kinesis, stream, records, form).await,
        }
    }
}

/// FIFO queues and topics are known by their names.
fn messages(records: &[&EgressRecord], sink: &str, form: BuiltInForm) -> Vec<Message> {
    let fifo = sink.ends_with(".fifo");
    records.iter().map(|record| Message::of(record, fifo, form)).collect()
}

#[async_trait]
impl Egress for AwsEgress {
    async fn emit(&self, records: &[&EgressRecord]) -> Vec<Result<(), PortError>> {
        let mut by_sink: BTreeMap<&TypeName, Vec<usize>> = BTreeMap::new();
        for (index, record) in records.iter().enumerate() {
            by_sink.entry(&record.egress).or_default().push(index);
        }
        let sent = join_all(by_sink.into_iter().map(|(egress, indices)| async move {
            let theirs: Vec<_> = indices.iter().map(|index| records[*index]).collect();
            let results = match self.outlets.get(egress) {
                Some(outlet) => self.emit_to(outlet, &theirs).await,
                None => theirs.iter().map(|_| Err(self.unknown(egress))).collect(),
            };
            (indices, results)
        }))
        .await;
        let mut results: Vec<_> = records.iter().map(|_| Ok(())).collect();
        for (index, result) in sent.into_iter().flat_map(|(indices, results)| indices.into_iter().zip(results)) {
            results[index] = result;
        }
        results
    }
}

const CALL: &str = "send to an egress";

fn refused(text: String) -> PortError {
    PortError::new(CALL, PortErrorKind::Refused, text)
}

#[cfg(test)]
pub(crate) mod tests {
    use statefun_core::{Address, EnvelopeId, Timestamp, TypedValue};

    use super::*;

    /// A record of the instance `a/b/<id>`.
    pub(crate) fn record(number: u8, id: &str, value: TypedValue) -> EgressRecord {
        EgressRecord {
            id: EnvelopeId([number; 16]),
            egress: TypeName::from_static("example/out"),
            from: Address::new(TypeName::from_static("a/b"), id).unwrap(),
            at: Timestamp(1_709_251_200_007),
            value,
        }
    }

    #[tokio::test]
    async fn an_unknown_egress_is_refused_with_the_nearest() {
        let clients = Clients::for_endpoint("http://127.0.0.1:1", "eu-west-1", "000000000001").await;
        let sink = Sink::Kinesis { stream: "unused".to_owned() };
        let egress = AwsEgress::new(clients, [(TypeName::from_static("example/outs"), sink.into())].into());
        let record = record(1, "x", TypedValue::absent(TypeName::from_static("a/b")));
        let mut results = egress.emit(&[&record, &record]).await;
        assert_eq!(results.len(), 2);
        let error = results.remove(0).unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Refused);
        assert!(error.source.to_string().ends_with("did you mean `example/outs`?"), "{}", error.source);
    }
}
