//! One deployed stack in an account of its own, and what a scenario does to it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::{primitives::Blob, types::PutRecordsRequestEntry};
use aws_sdk_sqs::types::{Message, MessageAttributeValue, QueueAttributeName};
use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use serde_json::Value;
use statefun_aws::{Clients, SystemClock};
use statefun_core::{Address, Envelope, EnvelopeId, Timestamp, TypeName, TypedValue, group_id, stored};
use statefun_engine::ports::Clock;

use crate::{
    deploy::{Changes, Packages, Stack},
    faults::Faults,
    http::{Http, REGION},
    problem::{Problem, Result, same, until},
};

/// What all scenarios share.
pub(crate) struct Setting {
    pub(crate) packages: Packages,
    /// The emulator, without faults.
    pub(crate) endpoint: String,
    /// The proxy, which the functions call.
    pub(crate) functions_call: std::net::SocketAddr,
    /// What the functions' calls go through.
    pub(crate) faults: Arc<Faults>,
    /// The Python that has the AWS SDK.
    pub(crate) python: std::path::PathBuf,
    pub(crate) workspace: std::path::PathBuf,
    pub(crate) binaries: std::path::PathBuf,
    pub(crate) seed: u64,
}

/// A stack, and ways to reach it.
pub(crate) struct World {
    pub(crate) account: String,
    pub(crate) http: Http,
    pub(crate) clients: Clients,
    pub(crate) stack: Stack,
    pub(crate) faults: Arc<Faults>,
    /// Files of functions that do something once.
    pub(crate) folder: tempfile::TempDir,
}

/// A record for a stream: partition key and data.
pub(crate) type Record = (String, Vec<u8>);

impl World {
    /// Deploys template.yaml with these changes to an account that nobody else uses.
    pub(crate) async fn deploy(setting: &Setting, account: &str, changes: &Changes) -> Result<Self> {
        let http = Http::new(&setting.endpoint, account);
        let stack = setting.packages.deploy(&http, changes).await.map_err(|problem| problem.during("deploying"))?;
        Self::of(setting, account, stack).await
    }

    /// A stack that is there.
    pub(crate) async fn of(setting: &Setting, account: &str, stack: Stack) -> Result<Self> {
        let http = Http::new(&setting.endpoint, account);
        let clients = Clients::for_endpoint(&setting.endpoint, REGION, account).await;
        let (account, faults) = (account.to_owned(), setting.faults.clone());
        Ok(Self { account, http, clients, stack, faults, folder: tempfile::tempdir()? })
    }

    /// Puts records into the stream of this output, in order.
    pub(crate) async fn put(&self, stream: &str, records: impl IntoIterator<Item = Record>) -> Result<()> {
        let records: Vec<Record> = records.into_iter().collect();
        for batch in records.chunks(500) {
            let entries = batch
                .iter()
                .map(|(key, data)| PutRecordsRequestEntry::builder().partition_key(key).data(Blob::new(data.clone())).build());
            let entries = entries.collect::<std::result::Result<Vec<_>, _>>()?;
            let put = self.clients.kinesis.put_records().stream_name(self.stack.output(stream)?).set_records(Some(entries));
            let reply = put.send().await?;
            if reply.failed_record_count() != Some(0) {
                return Err(Problem::new(format!("the stream {stream} took only a part of the records")));
            }
        }
        Ok(())
    }

    /// Sends a message to a FIFO queue.
    pub(crate) async fn send(&self, queue: &str, group: &str, id: &str, attributes: &[(&str, &str)], body: &str) -> Result<()> {
        let mut send = self.clients.sqs.send_message().queue_url(queue).message_group_id(group).message_deduplication_id(id);
        for (name, value) in attributes {
            let value = MessageAttributeValue::builder().data_type("String").string_value(*value).build()?;
            send = send.message_attributes(*name, value);
        }
        send.message_body(body).send().await?;
        Ok(())
    }

    /// Sends an envelope to the queue of a function, under this deduplication id.
    pub(crate) async fn send_envelope(&self, queue: &str, envelope: &Envelope, id: &str) -> Result<()> {
        let queue = self.stack.queue(queue)?;
        self.send(queue, &group_id(&envelope.to), id, &[], &envelope.to_wire()).await
    }

    /// All messages of a queue of this output that can be received now; they are deleted.
    pub(crate) async fn take(&self, queue: &str) -> Result<Vec<Message>> {
        self.take_from(self.stack.output(queue)?).await
    }

    pub(crate) async fn take_from(&self, queue: &str) -> Result<Vec<Message>> {
        let mut taken = Vec::new();
        loop {
            let messages = self.receive(queue, 30).await?;
            if messages.is_empty() {
                return Ok(taken);
            }
            let deletions = messages.iter().map(|message| {
                let delete = self.clients.sqs.delete_message().queue_url(queue);
                delete.set_receipt_handle(message.receipt_handle.clone()).send()
            });
            for deletion in join_all(deletions).await {
                deletion?;
            }
            taken.extend(messages);
        }
    }

    async fn receive(&self, queue: &str, visibility: i32) -> Result<Vec<Message>> {
        let receive = self.clients.sqs.receive_message().queue_url(queue).max_number_of_messages(10);
        let reply = receive.visibility_timeout(visibility).message_attribute_names("All").send().await?;
        Ok(reply.messages.unwrap_or_default())
    }

    /// What lies in the dead letters, by id. They stay there.
    pub(crate) async fn dead_letters(&self) -> Result<BTreeMap<String, Value>> {
        let messages = self.receive(self.stack.output("DeadLetters")?, 0).await?;
        let letters = messages.iter().filter_map(|message| serde_json::from_str::<Value>(message.body()?).ok());
        Ok(letters.map(|letter| (letter["id"].as_str().unwrap_or_default().to_owned(), letter)).collect())
    }

    /// The state values of this name of all instances of a function, by their ids.
    pub(crate) async fn states<T: DeserializeOwned>(&self, function: &str, name: &str) -> Result<BTreeMap<String, T>> {
        let mut states = BTreeMap::new();
        let mut from = None;
        loop {
            let scan = self.clients.dynamodb.scan().table_name(self.stack.output("Table")?).consistent_read(true);
            let page = scan.set_exclusive_start_key(from).send().await?;
            for item in page.items() {
                let Some(id) = text(item, "pk").strip_prefix(&format!("{function}/")) else { continue };
                if let (Some(value), "r") = (state(item, name)?, text(item, "sk")) {
                    states.insert(id.to_owned(), value);
                }
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(states);
            }
        }
    }

    /// A state value of one instance.
    pub(crate) async fn state<T: DeserializeOwned>(&self, address: &str, name: &str) -> Result<Option<T>> {
        let get = self.clients.dynamodb.get_item().table_name(self.stack.output("Table")?).consistent_read(true);
        let get = get.key("pk", AttributeValue::S(address.to_owned())).key("sk", AttributeValue::S("r".to_owned()));
        get.send().await?.item.map_or(Ok(None), |item| state(&item, name))
    }

    /// Items of the table whose partition key begins with this.
    pub(crate) async fn items(&self, prefix: &str) -> Result<Vec<HashMap<String, AttributeValue>>> {
        let scan = self.clients.dynamodb.scan().table_name(self.stack.output("Table")?).consistent_read(true);
        let items = scan.send().await?.items.unwrap_or_default();
        Ok(items.into_iter().filter(|item| text(item, "pk").starts_with(prefix)).collect())
    }

    /// Puts an item that nobody can read; says which.
    pub(crate) async fn put_junk(&self, partition: &str, sort: &str) -> Result<HashMap<String, AttributeValue>> {
        let key = HashMap::from(
            [("pk", partition), ("sk", sort)].map(|(name, value)| (name.to_owned(), AttributeValue::S(value.to_owned()))),
        );
        let put = self.clients.dynamodb.put_item().table_name(self.stack.output("Table")?);
        put.set_item(Some(key.clone())).send().await?;
        Ok(key)
    }

    /// Deletes the item with this key.
    pub(crate) async fn delete(&self, key: HashMap<String, AttributeValue>) -> Result<()> {
        self.clients.dynamodb.delete_item().table_name(self.stack.output("Table")?).set_key(Some(key)).send().await?;
        Ok(())
    }

    /// Puts an item of the table under another sort key.
    pub(crate) async fn rename(&self, mut item: HashMap<String, AttributeValue>, sort: &str) -> Result<()> {
        let key = ["pk", "sk"].into_iter().filter_map(|name| Some((name.to_owned(), item.get(name)?.clone()))).collect();
        item.insert("sk".to_owned(), AttributeValue::S(sort.to_owned()));
        self.clients.dynamodb.put_item().table_name(self.stack.output("Table")?).set_item(Some(item)).send().await?;
        self.delete(key).await
    }

    /// How many messages a queue holds: waiting, on their way, and delayed.
    pub(crate) async fn holds(&self, queue: &str) -> Result<u64> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let get = self.clients.sqs.get_queue_attributes().queue_url(queue);
        let reply = get.set_attribute_names(Some(names.to_vec())).send().await?;
        let mut held = 0;
        for name in &names {
            let count =
                reply.attributes().and_then(|map| map.get(name)).ok_or_else(|| Problem::new("the queue reports no count"))?;
            held += count.parse::<u64>()?;
        }
        Ok(held)
    }

    /// Returns once a queue holds nothing.
    pub(crate) async fn emptied(&self, queue: &str, limit: Duration) -> Result<()> {
        until(&format!("{queue} does not become empty"), limit, async || same("messages", &self.holds(queue).await?, &0)).await
    }

    /// An operator's command to the router.
    pub(crate) async fn operate(&self, command: &Value) -> Result<Value> {
        self.http.invoke(self.stack.output("Router")?, command).await
    }
}

fn text<'a>(item: &'a HashMap<String, AttributeValue>, name: &str) -> &'a str {
    item.get(name).and_then(|value| value.as_s().ok()).map_or("", String::as_str)
}

/// A state value of a record's item: the bytes of its JSON, or a built-in number; `None` if it is not there.
fn state<T: DeserializeOwned>(item: &HashMap<String, AttributeValue>, name: &str) -> Result<Option<T>> {
    let Some(bytes) = item.get(&format!("s.{name}")).and_then(|value| value.as_b().ok()) else { return Ok(None) };
    let value = stored::decode_value(bytes.clone().into_inner().into())?.value;
    if value.is::<u64>() {
        return Ok(Some(serde_json::from_value(value.get::<u64>()?.into())?));
    }
    value.value.as_ref().map(|json| serde_json::from_slice(json)).transpose().map_err(Problem::from)
}

/// This moment.
pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// An envelope with one JSON message, as a router would make it at this moment.
pub(crate) fn envelope(to: &str, identity: &str, kind: &'static str, message: &impl serde::Serialize) -> Result<Envelope> {
    let address = Address::parse(to)?;
    let message = TypedValue::present(TypeName::from_static(kind), serde_json::to_vec(message)?);
    Ok(Envelope {
        id: EnvelopeId::of_ingress("e2e", format!("{to} {identity}").as_bytes(), address.function()),
        to: address,
        from: None,
        sent_at: now(),
        keyed: false,
        hops: 0,
        trace: None,
        messages: vec![message],
    })
}
