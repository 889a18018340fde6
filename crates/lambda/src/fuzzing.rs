//! A door for the fuzz targets: an event as it is read and answered, without a backend.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use statefun_core::{Safeguards, Timestamp, chain};
use statefun_engine::{
    Outcome,
    receive::{Batch, Slot},
};
use statefun_ingress::Arrival;

use crate::{events::Event, functions::neutral, router::records};

/// What was read.
#[derive(Debug)]
pub struct Read {
    /// `sqs`, `kinesis` or `command`.
    pub kind: &'static str,
    /// Messages or records of the event.
    pub messages: usize,
    /// Those of which something became, if only a dead letter.
    pub taken: usize,
    /// What is answered to come again if every envelope fails.
    pub failed: Vec<String>,
}

/// Reads an event, its messages as a function Lambda and as a router.
///
/// # Errors
/// What is wrong with it, with all causes.
pub fn read(event: Value) -> Result<Read, String> {
    let ingress: Arc<str> = "in".into();
    match Event::read(event).map_err(|error| chain(&error))? {
        Event::Command(_) => Ok(Read { kind: "command", messages: 0, taken: 0, failed: Vec::new() }),
        Event::Kinesis(records) => {
            let arrivals: Vec<Arrival> = records.iter().map(|record| records::of_kinesis((record, ingress.clone()))).collect();
            let failed = records.iter().map(|record| record.kinesis.sequence_number.clone()).collect();
            Ok(Read { kind: "kinesis", messages: records.len(), taken: arrivals.len(), failed })
        }
        Event::Sqs(messages) => {
            let arrivals: Vec<Arrival> = messages.iter().map(|message| records::of_sqs((message, ingress.clone()))).collect();
            let count = messages.len();
            let Ok(messages) = neutral(messages) else {
                // Of a standard queue: the router's alone.
                return Ok(Read { kind: "sqs", messages: count, taken: arrivals.len(), failed: Vec::new() });
            };
            let batch = Batch::read(&messages, Timestamp::ZERO, Safeguards::default());
            let run = batch.slots.iter().filter(|slot| matches!(slot, Slot::Run(_))).count();
            let outcomes = vec![Outcome::Retry(Duration::ZERO); batch.envelopes.len()];
            let failures = batch.failures(&messages, &outcomes, Duration::ZERO);
            let failed = messages.iter().zip(failures).filter_map(|(message, pause)| pause.map(|_| message.id.clone()));
            let taken = if run == batch.envelopes.len() { arrivals.len().min(batch.slots.len()) } else { 0 };
            Ok(Read { kind: "sqs", messages: count, taken, failed: failed.collect() })
        }
    }
}
