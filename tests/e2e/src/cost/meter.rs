//! Looks at every request that the adapters make, as the service's client sends it, and adds up what AWS bills for it. The items' sizes are kept in
//! mind, not asked for; [`Meter::check`] compares them with the table.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_sdk_dynamodb::{
    error::BoxError,
    operation::{
        batch_get_item::BatchGetItemInput,
        put_item::PutItemInput,
        query::{QueryInput, QueryOutput},
        update_item::{UpdateItemError, UpdateItemInput},
    },
    types::AttributeValue,
};
use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchInput;
use aws_smithy_runtime_api::client::{
    interceptors::{
        Intercept,
        context::{BeforeSerializationInterceptorContextRef, FinalizerInterceptorContextRef, Input},
        dyn_dispatch_hint,
    },
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use statefun_aws::Clients;

use super::bill::{Bill, Item, Sizes, chunks, read_units, sizes, total, updated, write_units};
use crate::problem::{Problem, Result};

/// Partition key and sort key.
type Key = (String, String);

/// A request, kept until its answer is there.
#[derive(Debug, Clone)]
enum Asked {
    Read(BatchGetItemInput),
    Query(QueryInput),
    Update(UpdateItemInput),
    Put(PutItemInput),
    Send(SendMessageBatchInput),
    /// What no row is expected to ask for. It would be missing in the bill.
    Other(String),
}

impl Storable for Asked {
    type Storer = StoreReplace<Self>;
}

/// How many calls of a kind had to wait for each other: the most that one address, or one queue, needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) sends: u64,
}

impl std::ops::AddAssign for Chain {
    fn add_assign(&mut self, other: Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.sends += other.sends;
    }
}

/// What is known, and what was billed since it was asked for. Its methods return `None` for a request of another form than they know.
#[derive(Debug, Default)]
struct State {
    items: HashMap<Key, Sizes>,
    largest: usize,
    bill: Bill,
    /// Calls by kind and by what they are about.
    calls: HashMap<(&'static str, String), u64>,
    problem: Option<String>,
}

/// Counts what its [`clients`](Meter::clients) ask for. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter(Arc<Mutex<State>>);

impl Meter {
    /// These clients, watched.
    pub(super) fn clients(&self, clients: &Clients) -> Clients {
        let dynamodb = clients.dynamodb.config().to_builder().interceptor(self.clone()).build();
        let sqs = clients.sqs.config().to_builder().interceptor(self.clone()).build();
        Clients {
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb),
            sqs: aws_sdk_sqs::Client::from_conf(sqs),
            ..clients.clone()
        }
    }

    /// What was billed since the last time, and the longest chain of it. An error if something could not be measured.
    pub(super) fn take(&self) -> Result<(Bill, Chain)> {
        let mut state = self.lock();
        if let Some(problem) = state.problem.take() {
            return Err(Problem::new(problem).during("metering"));
        }
        let most =
            |kind| state.calls.iter().filter(|((of, _), _)| *of == kind).map(|(_, count)| *count).max().unwrap_or_default();
        let chain = Chain { reads: most("read"), writes: most("write"), sends: most("send") };
        state.calls.clear();
        Ok((std::mem::take(&mut state.bill), chain))
    }

    /// The bytes of the largest record that was ever written.
    pub(super) fn largest_record(&self) -> usize {
        self.lock().largest
    }

    /// Compares what was kept in mind with the whole table.
    pub(super) async fn check(&self, clients: &Clients, table: &str) -> Result<()> {
        let mut found = HashMap::new();
        let mut pages = clients.dynamodb.scan().table_name(table).consistent_read(true).into_paginator().items().send();
        while let Some(item) = pages.next().await {
            let item = item?;
            found.insert(key(&item).ok_or_else(|| Problem::new("an item has no key"))?, total(&sizes(&item)));
        }
        let kept: HashMap<Key, usize> = self.lock().items.iter().map(|(key, sizes)| (key.clone(), total(sizes))).collect();
        match kept.iter().find(|(key, bytes)| found.get(*key) != Some(*bytes)) {
            Some((key, bytes)) => {
                Err(Problem::new(format!("{key:?} was taken for {bytes} bytes, and has {:?} in the table", found.get(key))))
            }
            None if found.len() != kept.len() => {
                Err(Problem::new(format!("{} items were seen, the table has {}", kept.len(), found.len())))
            }
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn call(&mut self, kind: &'static str, about: &str) {
        *self.calls.entry((kind, about.to_owned())).or_default() += 1;
    }

    fn read(&mut self, asked: &BatchGetItemInput) -> Option<()> {
        for keys in asked.request_items.iter().flatten().flat_map(|(_, wanted)| &wanted.keys) {
            let key = key(keys)?;
            self.bill.reads += 1;
            self.bill.read_units += read_units(self.items.get(&key).map_or(0, total));
            self.call("read", &key.0);
        }
        Some(())
    }

    /// A query is billed by all it finds together.
    fn query(&mut self, asked: &QueryInput, found: Option<&QueryOutput>) -> Option<()> {
        let items = found.map(QueryOutput::items).unwrap_or_default();
        self.bill.reads += 1;
        self.bill.read_units += read_units(items.iter().map(|item| total(&sizes(item))).sum());
        let partition = asked.expression_attribute_values.as_ref().and_then(|values| values.get(":pk")?.as_s().ok());
        self.call("read", partition?);
        Some(())
    }

    fn update(&mut self, asked: &UpdateItemInput, refused: bool) -> Option<()> {
        let keys = asked.key.clone().unwrap_or_default();
        let key = key(&keys)?;
        let before = self.items.get(&key).cloned();
        let (names, values) = (asked.expression_attribute_names.clone(), asked.expression_attribute_values.clone());
        let begun = before.clone().unwrap_or_else(|| sizes(&keys));
        let after = match refused {
            true => begun.clone(),
            false => {
                updated(&begun, asked.update_expression.as_deref()?, &names.unwrap_or_default(), &values.unwrap_or_default())?
            }
        };
        let bytes = total(&after);
        self.bill.write_units += write_units(before.as_ref().map_or(0, total), bytes);
        self.call("write", &key.0);
        if refused {
            self.bill.refused += 1;
        } else {
            self.bill.writes += 1;
            self.largest = self.largest.max(bytes);
            self.items.insert(key, after);
        }
        Some(())
    }

    fn put(&mut self, asked: &PutItemInput) -> Option<()> {
        let item = asked.item.as_ref()?;
        let (key, after) = (key(item)?, sizes(item));
        let units = write_units(self.items.get(&key).map_or(0, total), total(&after));
        self.call("write", &key.0);
        self.items.insert(key, after);
        self.bill.segments += 1;
        self.bill.segment_units += units;
        Some(())
    }

    fn send(&mut self, asked: &SendMessageBatchInput) -> Option<()> {
        let entries = asked.entries();
        self.bill.send_requests += 1;
        self.bill.send_chunks += chunks(entries.iter().map(|entry| entry.message_body.len()).sum());
        self.bill.sent += entries.len() as u64;
        self.call("send", asked.queue_url.as_deref()?);
        Some(())
    }
}

#[dyn_dispatch_hint]
impl Intercept for Meter {
    fn name(&self) -> &'static str {
        "meter"
    }

    fn read_before_serialization(
        &self,
        context: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        config.interceptor_state().store_put(asked(context.input()));
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let (Some(asked), Some(answer)) = (config.load::<Asked>(), context.output_or_error()) else { return Ok(()) };
        let mut state = self.lock();
        let refused = answer.as_ref().err().is_some_and(|error| {
            let error = error.as_operation_error().and_then(|error| error.downcast_ref::<UpdateItemError>());
            error.is_some_and(UpdateItemError::is_conditional_check_failed_exception)
        });
        if let (Err(error), false) = (&answer, refused) {
            state.problem = Some(format!("a call failed: {error:?}"));
        }
        let metered = match asked {
            Asked::Read(asked) => state.read(asked),
            Asked::Query(asked) => state.query(asked, answer.ok().and_then(|found| found.downcast_ref())),
            Asked::Update(asked) => state.update(asked, refused),
            Asked::Put(asked) => state.put(asked),
            Asked::Send(asked) => state.send(asked),
            Asked::Other(input) => {
                state.problem = Some(format!("a call is not known: {input}"));
                return Ok(());
            }
        };
        if metered.is_none() {
            state.problem = Some(format!("a call has another form: {asked:?}"));
        }
        Ok(())
    }
}

fn asked(input: &Input) -> Asked {
    let read = || input.downcast_ref().cloned().map(Asked::Read);
    let query = || input.downcast_ref().cloned().map(Asked::Query);
    let update = || input.downcast_ref().cloned().map(Asked::Update);
    let put = || input.downcast_ref().cloned().map(Asked::Put);
    let send = || input.downcast_ref().cloned().map(Asked::Send);
    let known = read().or_else(query).or_else(update).or_else(put).or_else(send);
    known.unwrap_or_else(|| Asked::Other(format!("{input:?}")))
}

fn key(item: &Item) -> Option<Key> {
    let text = |name| item.get(name).and_then(|value: &AttributeValue| value.as_s().ok()).cloned();
    Some((text("pk")?, text("sk")?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aws_sdk_dynamodb::{primitives::Blob, types::KeysAndAttributes};

    use super::*;

    fn keys() -> Item {
        Item::from([("pk", "a/b/c"), ("sk", "r")].map(|(name, text)| (name.to_owned(), AttributeValue::S(text.to_owned()))))
    }

    fn update(bytes: usize) -> UpdateItemInput {
        let value = AttributeValue::B(Blob::new(vec![7; bytes]));
        let request = UpdateItemInput::builder().set_key(Some(keys())).update_expression("SET r = :r");
        request.expression_attribute_values(":r", value).build().unwrap()
    }

    #[test]
    fn a_refused_write_is_billed_by_what_stands() {
        let mut state = State::default();
        state.update(&update(2_000), false).unwrap();
        state.update(&update(10), true).unwrap();
        assert_eq!((state.bill.writes, state.bill.refused, state.bill.write_units), (1, 1, 4));
        state.update(&update(10), false).unwrap();
        state.update(&update(10), false).unwrap();
        assert_eq!((state.bill.write_units, state.largest), (7, 2_011), "2 for what shrinks, 1 after that");
    }

    #[test]
    fn a_read_is_billed_for_each_of_its_records() {
        let mut state = State::default();
        state.update(&update(5_000), false).unwrap();
        let mut other = keys();
        other.insert("pk".to_owned(), AttributeValue::S("a/b/none".to_owned()));
        let wanted = KeysAndAttributes::builder().keys(keys()).keys(other).build().unwrap();
        state.read(&BatchGetItemInput::builder().request_items("table", wanted).build().unwrap()).unwrap();
        assert_eq!((state.bill.reads, state.bill.read_units), (2, 3));
    }

    #[test]
    fn calls_of_one_address_wait_for_each_other_and_those_of_others_do_not() {
        let meter = Meter::default();
        for about in ["a", "b", "a"] {
            meter.lock().call("write", about);
        }
        meter.lock().call("send", "queue");
        assert_eq!(meter.take().unwrap().1, Chain { reads: 0, writes: 2, sends: 1 });
        assert_eq!(meter.take().unwrap().1, Chain::default());
    }

    #[test]
    fn what_is_not_known_is_not_left_out() {
        let kinds: BTreeSet<_> = [
            asked(&Input::erase(update(1))),
            asked(&Input::erase(aws_sdk_sqs::operation::send_message::SendMessageInput::builder().build().unwrap())),
        ]
        .iter()
        .map(|asked| matches!(asked, Asked::Other(_)))
        .collect();
        assert_eq!(kinds, BTreeSet::from([false, true]));
    }
}
