//! The router Lambda: records of Kinesis streams and SQS queues become messages to functions, wake-ups and sweeps fire timers,
//! and operators look at instances and at dead letters.

mod letters;
pub(crate) mod records;
#[cfg(test)]
mod tests;
mod view;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use statefun_aws::dead_letters::Selection;
use statefun_core::{Address, InvalidAddress, InvalidTypeName, TypeName, chain, resource_name};
use statefun_engine::{
    backend::Nudged,
    ports::{Moment, PortError},
};
use statefun_ingress::{Arrival, Dispatcher, Outcome, kinesis_failures, sqs_failures};
use statefun_module::{Module, SourceKind};

use self::view::Instance;
use crate::{
    command::Command,
    emf::Emf,
    events::{BatchResponse, Event, KinesisRecord, SqsMessage, UnknownEvent},
    ports::Operations,
};

/// What is kept of the time before the deadline for the answer. Without one all records of an event come again.
const ANSWER_RESERVE: Duration = Duration::from_secs(2);

/// Letters of one command at most: it has to end before the Lambda's time does.
const MAX_LETTERS: usize = 1_000;

/// Serves the events of a router Lambda; any number of them at the same time.
pub(crate) struct RouterService {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) operations: Arc<dyn Operations>,
    /// Says which ingress a stream or queue is of.
    pub(crate) module: Module,
    /// Whether streams and queues that the module does not declare are routed too: your own router may.
    pub(crate) any_source: bool,
    /// The timers' queue: its name, ARN or URL.
    pub(crate) timers: String,
    /// Records of a stream that fail show in its iterator's age, wake-ups in the sweep, which finds their timers.
    pub(crate) emf: Emf,
}

/// Why an event as a whole is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RouterError {
    #[error(transparent)]
    Unknown(#[from] UnknownEvent),
    #[error("module.yaml declares no ingress that reads `{0}`: add it there and deploy, or remove the event source")]
    Undeclared(String),
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    #[error("`function` names no function type")]
    Function(#[from] InvalidTypeName),
    #[error("say which letters are to be deleted: `\"ids\":[…]`, or `\"malformed\":true` for all records that could not be read")]
    NothingToDelete,
    #[error(transparent)]
    Port(#[from] PortError),
}

impl RouterService {
    /// Serves one event.
    ///
    /// # Errors
    /// If nobody knows the event, its stream or queue is not declared, or a command fails. The records of an event come again
    /// then, however often their event source mapping allows.
    pub(crate) async fn handle(&self, event: Value, deadline: Moment) -> Result<Box<RawValue>, RouterError> {
        let answer = match Event::read(event)? {
            Event::Kinesis(records) => self.kinesis(&records, deadline).await?,
            Event::Sqs(messages) if messages.first().is_some_and(|message| self.is_timers(message)) => {
                self.wake_up(&messages).await
            }
            Event::Sqs(messages) => self.sqs(&messages, deadline).await?,
            Event::Command(command) => return self.command(command, deadline).await,
        };
        Ok(json_of(&answer.to_json()))
    }

    async fn kinesis(&self, records: &[KinesisRecord], deadline: Moment) -> Result<BatchResponse, RouterError> {
        let sources = records.iter().map(|record| &*record.source_arn);
        let ingresses = self.ingresses(SourceKind::Kinesis, sources)?;
        // Unpacked one after the other, as far as the batch gets.
        let arrivals = records.iter().zip(ingresses).map(records::of_kinesis);
        let outcomes = self.dispatch(arrivals, deadline).await;
        let numbers = records.iter().map(|record| &*record.kinesis.sequence_number);
        Ok(BatchResponse::of(kinesis_failures(numbers.zip(outcomes))))
    }

    async fn sqs(&self, messages: &[SqsMessage], deadline: Moment) -> Result<BatchResponse, RouterError> {
        let sources = messages.iter().map(|message| &*message.source_arn);
        let ingresses = self.ingresses(SourceKind::Sqs, sources)?;
        let arrivals = messages.iter().zip(ingresses).map(records::of_sqs);
        let outcomes = self.dispatch(arrivals, deadline).await;
        let results = messages.iter().zip(outcomes).map(|(message, outcome)| (&*message.message_id, message.order(), outcome));
        let failed = BatchResponse::of(sqs_failures(results));
        let of_failed = messages.iter().filter(|message| failed.failures.contains(&message.message_id));
        self.emf.failing(of_failed.map(SqsMessage::sent_at), self.dispatcher.clock.now());
        Ok(failed)
    }

    async fn dispatch(&self, arrivals: impl ExactSizeIterator<Item = Arrival> + Send, deadline: Moment) -> Vec<Outcome> {
        let outcomes = self.dispatcher.dispatch(arrivals, self.work_until(deadline)).await;
        let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
        tracing::debug!(done = count(Outcome::Done), parked = count(Outcome::Parked), failed = count(Outcome::Failed), "records");
        outcomes
    }

    fn work_until(&self, deadline: Moment) -> Moment {
        before(deadline, self.dispatcher.clock.moment())
    }

    fn ingresses<'a>(&self, kind: SourceKind, arns: impl Iterator<Item = &'a str>) -> Result<Vec<Arc<str>>, RouterError> {
        arns.map(|arn| self.ingress(kind, arn)).collect()
    }

    /// The ingress that reads a stream or queue. A record's ids hold its name, so it must not depend on anything else.
    fn ingress(&self, kind: SourceKind, arn: &str) -> Result<Arc<str>, RouterError> {
        match self.module.ingress_of(kind, arn) {
            Some((ingress, _)) => Ok(ingress.id.as_str().into()),
            None if self.any_source => Ok(resource_name(arn).into()),
            None => Err(RouterError::Undeclared(arn.to_owned())),
        }
    }

    fn is_timers(&self, message: &SqsMessage) -> bool {
        resource_name(&message.source_arn) == resource_name(&self.timers)
    }

    /// Each wake-up by itself: they have no order.
    async fn wake_up(&self, messages: &[SqsMessage]) -> BatchResponse {
        let woken = join_all(messages.iter().map(|message| self.operations.wake_up(&message.body))).await;
        let failed = messages.iter().zip(woken).filter_map(|(message, woken)| {
            let error = woken.err()?;
            tracing::warn!(error = chain(&error), "a timer's wake-up comes again");
            Some(&*message.message_id)
        });
        BatchResponse::of(failed)
    }

    async fn command(&self, command: Command, deadline: Moment) -> Result<Box<RawValue>, RouterError> {
        match command {
            Command::Sweep {} => {
                let until = self.work_until(deadline);
                // What fails of the one keeps nobody from the other.
                let timers = self.operations.sweep(until).await;
                let Nudged { nudged, overdue, error } = self.operations.sweep_outboxes(until).await;
                self.emf.overdue(overdue, self.dispatcher.clock.now());
                let swept = timers.and_then(|swept| error.map_or(Ok(swept), Err))?;
                tracing::debug!(fired = swept.fired, armed = swept.armed, nudged, "sweep");
                Ok(json_of(&json!({"fired": swept.fired, "armed": swept.armed, "nudged": nudged})))
            }
            Command::ListDeadLetters { max, payloads } => {
                let listed = self.operations.list(max.min(MAX_LETTERS), payloads, self.work_until(deadline)).await?;
                Ok(json_of(&letters::listed(&listed, payloads)))
            }
            Command::ReplayDeadLetters { max, ids, function, may_be_applied } => {
                let function = function.map(|name| TypeName::parse(&name)).transpose()?;
                let selection = Selection { ids, function, may_be_applied };
                let replayed = self.operations.replay(&selection, max.min(MAX_LETTERS), self.work_until(deadline)).await?;
                let (sent, left) = (replayed.sent, replayed.left);
                tracing::info!(
                    sent,
                    left,
                    malformed = replayed.malformed,
                    no_queue = replayed.no_queue,
                    may_be_applied = replayed.may_be_applied,
                    "dead letters sent again"
                );
                Ok(json_of(&letters::replayed(&replayed)))
            }
            Command::DeleteDeadLetters { ids, malformed } if ids.is_empty() && !malformed => Err(RouterError::NothingToDelete),
            Command::DeleteDeadLetters { ids, malformed } => {
                let deleted = self.operations.delete(&ids, malformed, self.work_until(deadline)).await?;
                tracing::info!(deleted = deleted.deleted, "dead letters deleted");
                Ok(json_of(&letters::deleted(&deleted)))
            }
            Command::SweepOutboxes { from } => {
                let (Nudged { nudged, error, .. }, from) =
                    self.operations.sweep_all_outboxes(from, self.work_until(deadline)).await;
                error.map_or(Ok(()), Err)?;
                Ok(json_of(&match from {
                    Some(from) => json!({"nudged": nudged, "from": from}),
                    None => json!({"nudged": nudged}),
                }))
            }
            Command::ListOutboxes { from } => {
                let found = self.operations.outboxes(from, self.work_until(deadline)).await?;
                Ok(json_of(&found))
            }
            Command::State { address } => {
                let address = Address::parse(&address)?;
                let record = self.operations.peek(&address).await?;
                Ok(json_of(&record.as_ref().map(|record| Instance::new(&address, record))))
            }
        }
    }
}

/// An answer's JSON: in a `Value`, numbers would lose digits.
pub(crate) fn json_of(answer: &impl Serialize) -> Box<RawValue> {
    // Strings, numbers and maps with string keys: serde_json cannot fail on these.
    to_raw_value(answer).unwrap_or_default()
}

/// When work has to end that begins now. Of a short time half is kept, so that something is done.
fn before(deadline: Moment, now: Moment) -> Moment {
    deadline.minus(ANSWER_RESERVE.min(deadline.since(now) / 2))
}
