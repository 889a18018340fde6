//! The engine's conformance kit on the AWS adapters.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_dynamodb::{operation::update_item::UpdateItemError, primitives::Blob, types::AttributeValue};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use statefun_aws::{
    Backend, Clients, Options, SystemClock,
    dead_letters::Entry,
    egress::Sink,
    queues::{FunctionQueues, SqsConsumer, create_fifo_queue, create_standard_queue},
    store::create_table,
};
use statefun_core::{
    Address, DeadLetter, EgressRecord, EnvelopeId, RefusedRecord, Timestamp, TypeName, TypedValue, stored::Letter,
};
use statefun_engine::{
    conformance,
    ports::{Clock, DeadLetters, DueTimers, Egress, EnvelopeQueue, InstanceStore, QueueConsumer},
};

use crate::{
    http::REGION,
    problem::{Problem, Result},
    world::Setting,
};

struct Emulated {
    backend: Backend,
    consumer: Arc<SqsConsumer>,
    out: String,
}

/// Runs the kit on a table and queues of its own.
pub(super) async fn run(setting: &Setting, account: &str) -> Result<String> {
    let clients = Clients::for_endpoint(&setting.endpoint, REGION, account).await;
    create_table(&clients, "conformance").await?;
    let url = create_fifo_queue(&clients, "functions.fifo").await?;
    let out = create_fifo_queue(&clients, "out.fifo").await?;
    let mut queues = FunctionQueues::default();
    queues.namespace("conformance", [url.clone()]);
    let options = Options {
        table: "conformance".to_owned(),
        dead_letters: create_fifo_queue(&clients, "dead-letters.fifo").await?,
        timers: create_standard_queue(&clients, "timers").await?,
        queues,
        egress: BTreeMap::from([(TypeName::from_static("conformance/out"), Sink::Sqs { queue_url: out.clone() }.into())]),
        marks: None,
    };
    let backend = Backend::new(clients, options);
    let emulated = Emulated { consumer: Arc::new(SqsConsumer::new(&backend.clients, url)), backend, out };
    let mut findings = conformance::check(&emulated).await;
    findings.extend(protocol_1_is_out(&emulated.backend.clients).await?);
    if findings.is_empty() {
        Ok("the AWS adapters keep the rules of the ports".to_owned())
    } else {
        Err(Problem::new(findings.join("; ")))
    }
}

/// Whether the runtime of protocol 1 gets the lease of this record; then it overwrites it.
pub(super) async fn protocol_1_takes(clients: &Clients, table: &str, mut item: HashMap<String, AttributeValue>) -> Result<bool> {
    let mut key = |name| item.remove(name).ok_or_else(|| Problem::new("an item has no key"));
    let (pk, sk) = (key("pk")?, key("sk")?);
    let request = clients.dynamodb.update_item().table_name(table).key("pk", pk).key("sk", sk).update_expression("SET u = :now");
    let request = request.condition_expression("attribute_not_exists(u) OR u <= :now OR h = :holder");
    let request = request.expression_attribute_values(":now", AttributeValue::N(SystemClock.now().0.to_string()));
    let request = request.expression_attribute_values(":holder", AttributeValue::B(Blob::new([0; 8])));
    match request.send().await {
        Err(error) if error.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception) => Ok(false),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(true),
    }
}

/// None of the records that the kit left is one that protocol 1 can take.
async fn protocol_1_is_out(clients: &Clients) -> Result<Vec<String>> {
    let scan = clients.dynamodb.scan().table_name("conformance").filter_expression("sk = :record");
    let mut pages =
        scan.expression_attribute_values(":record", AttributeValue::S("r".to_owned())).into_paginator().items().send();
    let (mut records, mut taken) = (0, Vec::new());
    while let Some(item) = pages.next().await {
        let item = item?;
        let address = item.get("pk").cloned();
        if protocol_1_takes(clients, "conformance", item).await? {
            taken.push(format!("protocol 1 can take {address:?}"));
        }
        records += 1;
    }
    if records == 0 {
        taken.push("the kit left no record".to_owned());
    }
    Ok(taken)
}

#[async_trait]
impl conformance::Backend for Emulated {
    fn store(&self) -> Arc<dyn InstanceStore> {
        self.backend.store.clone()
    }

    fn queue(&self) -> Arc<dyn EnvelopeQueue> {
        self.backend.queues.clone()
    }

    fn consumer(&self) -> Arc<dyn QueueConsumer> {
        self.consumer.clone()
    }

    fn timers(&self) -> Arc<dyn DueTimers> {
        self.backend.timers.clone()
    }

    fn egress(&self) -> Arc<dyn Egress> {
        self.backend.egress.clone()
    }

    fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        self.backend.dead_letters.clone()
    }

    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    async fn emitted(&self, egress: &TypeName) -> Vec<EgressRecord> {
        let mut records = Vec::new();
        loop {
            let request = self.backend.clients.sqs.receive_message().queue_url(&self.out).max_number_of_messages(10);
            let messages = request.message_attribute_names("All").send().await.map(|output| output.messages.unwrap_or_default());
            let messages = messages.unwrap_or_default();
            if messages.is_empty() {
                return records;
            }
            for message in messages {
                let attributes = message.message_attributes().cloned().unwrap_or_default();
                let attribute = |name: &str| attributes.get(name).and_then(|value| value.string_value()).unwrap_or_default();
                let body = message.body().unwrap_or_default();
                let value = match attribute("statefun-encoding") {
                    "base64" => BASE64.decode(body).unwrap_or_default(),
                    _ => body.as_bytes().to_vec(),
                };
                let record = (|| {
                    let type_name = TypeName::parse(attribute("statefun-type")).ok()?;
                    let id = EnvelopeId::from_hex(attribute("statefun-id"))?;
                    let from = Address::parse(attribute("statefun-from")).ok()?;
                    let at = Timestamp(attribute("statefun-at").parse().ok()?);
                    Some(EgressRecord { id, egress: egress.clone(), from, at, value: TypedValue::present(type_name, value) })
                })();
                records.extend(record);
                let receipt = message.receipt_handle().unwrap_or_default();
                let _ = self.backend.clients.sqs.delete_message().queue_url(&self.out).receipt_handle(receipt).send().await;
            }
        }
    }

    async fn parked(&self) -> Vec<DeadLetter> {
        let (queue, deadline) = (&self.backend.dead_letters, SystemClock.moment().plus(Duration::from_secs(20)));
        let listed = queue.list(1_000, true, deadline).await.unwrap_or_default().entries;
        let _ = queue.delete(&listed.iter().map(|entry| entry.id.clone()).collect(), false, deadline).await;
        let letter = |entry: Entry| match entry.letter {
            Ok(Letter::Dead(letter)) => Some(*letter),
            _ => None,
        };
        listed.into_iter().filter_map(letter).collect()
    }

    async fn refused(&self) -> Vec<RefusedRecord> {
        let deadline = SystemClock.moment().plus(Duration::from_secs(20));
        let listed = self.backend.dead_letters.list(1_000, true, deadline).await.unwrap_or_default().entries;
        let refused = |entry: Entry| match entry.letter {
            Ok(Letter::Refused(refused)) => Some(*refused),
            _ => None,
        };
        listed.into_iter().filter_map(refused).collect()
    }

    /// Nothing to lose: AWS answers a write once it is durable.
    async fn lose_power(&self) {}
}
