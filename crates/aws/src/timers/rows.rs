//! The items of timers.
//!
//! | item | `pk` | `sk` | attributes |
//! |---|---|---|---|
//! | row | `timers#<shard>` | `<due>#<id>` | `d` B: the envelope, or its first part; `n` N: further parts; `w` N: woken by a message |
//! | further part | `timer#<id>` | `<part>` | `d` B |
//! | tombstone | `timer#<id>` | `cancelled` | `ttl` N |
//!
//! Shards spread the writes: a partition takes 1,000 a second. The id says which shard.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use statefun_core::{
    EnvelopeId, Timer, Timestamp,
    stored::{Unreadable, decode_envelope, encode_envelope},
};
use statefun_engine::{backend::TimerRows, ports::PortError};

use super::DynamoTimers;
use crate::{
    error::{port_error, unreadable},
    store::{
        keys::{self, BYTES, Item, TTL, bytes, number},
        record::{bytes_of, number_of},
    },
};

pub(super) const SHARDS: u8 = 16;
/// Bytes of a part. An item takes 400 KB.
const PART: usize = 380 * 1_024;
/// Sort key of a tombstone.
const CANCELLED: &str = "cancelled";
/// How long a tombstone outlives its timer: longer than any environment stays frozen.
const TOMBSTONE_SECONDS: u64 = 7 * 86_400;
/// How long parts outlive their timer. They go with its row; this is for those whose deletion failed. A row without its parts
/// could not fire, so it is longer than any row waits.
const PART_SECONDS: u64 = 400 * 86_400;
/// Rows of a page.
pub(super) const PAGE: usize = 100;

/// Names a row: what a wake-up carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WakeUp {
    pub(super) id: EnvelopeId,
    pub(super) due: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct WakeUpForm {
    timer: String,
    due: Timestamp,
}

impl WakeUp {
    pub(super) fn to_json(self) -> String {
        // A string and a number: this cannot fail.
        serde_json::to_string(&WakeUpForm { timer: self.id.to_string(), due: self.due }).unwrap_or_default()
    }

    pub(super) fn from_json(text: &str) -> Option<Self> {
        let form: WakeUpForm = serde_json::from_str(text).ok()?;
        Some(Self { id: EnvelopeId::from_hex(&form.timer)?, due: form.due })
    }
}

/// A row as a query or a read returned it.
#[derive(Debug)]
pub struct Row {
    pub(super) id: EnvelopeId,
    pub(super) due: Timestamp,
    item: Item,
}

impl Row {
    pub(super) fn of(item: Item) -> Result<Self, Unreadable> {
        let key = item.get("sk").and_then(|sort| sort.as_s().ok()).and_then(|sort| sort.split_once('#'));
        let parsed = key.and_then(|(due, id)| Some((due.parse().ok()?, EnvelopeId::from_hex(id)?)));
        let (due, id) = parsed.ok_or(Unreadable::Form("a timer's key"))?;
        Ok(Self { id, due: Timestamp(due), item })
    }
}

impl DynamoTimers {
    /// Writes the row; one that is there is the same. `woken`: a message will wake it, so that no sweep has to arm it.
    pub(super) async fn put(&self, timer: &Timer, woken: bool) -> Result<(), PortError> {
        let encoded = encode_envelope(&timer.envelope);
        let mut parts = encoded.chunks(PART);
        let first = parts.next().unwrap_or_default();
        // The row comes last: once it is there, all of it is.
        for (index, part) in parts.clone().enumerate() {
            let mut item = keys::key(partition_of(timer.envelope.id), part_key(index));
            item.insert(BYTES.to_owned(), bytes(part));
            item.insert(TTL.to_owned(), number(timer.due.0 / 1_000 + PART_SECONDS));
            self.put_item(item).await?;
        }
        let mut item = row_key(timer.envelope.id, timer.due);
        item.insert(BYTES.to_owned(), bytes(first));
        if parts.len() > 0 {
            item.insert("n".to_owned(), number(parts.len() as u64));
        }
        if woken {
            item.insert("w".to_owned(), number(1));
        }
        self.put_item(item).await
    }

    /// A page of a shard's rows that are due at `until`, by time and id; `after` is the last row of the page before.
    pub(super) async fn due_rows(&self, shard: u8, after: Option<WakeUp>, until: Timestamp) -> Result<Vec<Item>, PortError> {
        let page = i32::try_from(PAGE).unwrap_or(i32::MAX);
        let mut pages = self.store.pages(shard_partition(shard), from_after(after), last_sort(until), Some(page));
        let mut items = Vec::new();
        while let Some(more) = pages.next("due timers").await? {
            items.extend(more);
            if items.len() >= PAGE {
                break;
            }
        }
        Ok(items)
    }

    /// Names of a shard's rows that fall due within this time and that no message wakes.
    pub(super) async fn unwoken(&self, shard: u8, from: Timestamp, until: Timestamp) -> Result<Vec<WakeUp>, PortError> {
        let from = format!("{:020}", from.0.saturating_add(1));
        let mut pages = self.store.pages(shard_partition(shard), from, last_sort(until), None).only("pk, sk, w");
        let mut found = Vec::new();
        while let Some(items) = pages.next("upcoming timers").await? {
            let unwoken = items.into_iter().filter(|item| !item.contains_key("w"));
            // One that cannot be read is reported when it is due.
            found.extend(unwoken.filter_map(|item| Row::of(item).ok()).map(|Row { id, due, .. }| WakeUp { id, due }));
        }
        Ok(found)
    }

    /// The row of this name, if it is there.
    pub(super) async fn row(&self, wake_up: WakeUp) -> Result<Option<Row>, PortError> {
        let item = self.get(row_key(wake_up.id, wake_up.due)).await?;
        item.map(Row::of).transpose().map_err(|error| unreadable("a timer", error))
    }

    async fn put_item(&self, item: Item) -> Result<(), PortError> {
        let request = self.store.client.put_item().table_name(&*self.store.table).set_item(Some(item));
        let output = request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await;
        let output = output.map_err(|error| port_error("schedule", error))?;
        self.store.calls.consumed("PutItem", output.consumed_capacity());
        Ok(())
    }

    async fn get(&self, key: Item) -> Result<Option<Item>, PortError> {
        let request = self.store.client.get_item().table_name(&*self.store.table).set_key(Some(key)).consistent_read(true);
        let output = request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await;
        let output = output.map_err(|error| port_error("a timer", error))?;
        self.store.calls.consumed("GetItem", output.consumed_capacity());
        Ok(output.item)
    }
}

#[async_trait]
impl TimerRows for DynamoTimers {
    type Row = Row;

    fn key(row: &Row) -> (EnvelopeId, Timestamp) {
        (row.id, row.due)
    }

    async fn read(&self, mut row: Row) -> Result<Option<Timer>, PortError> {
        let further = number_of(&row.item, "n").map_err(|error| unreadable("a timer", error))?.unwrap_or_default();
        let mut encoded = bytes_of(&mut row.item, BYTES).map_err(|error| unreadable("a timer", error))?.to_vec();
        for index in 0..further as usize {
            let Some(mut part) = self.get(keys::key(partition_of(row.id), part_key(index))).await? else { return Ok(None) };
            encoded.extend_from_slice(&bytes_of(&mut part, BYTES).map_err(|error| unreadable("a timer", error))?);
        }
        let envelope = decode_envelope(Bytes::from(encoded)).map_err(|error| unreadable("a timer", error))?;
        Ok(Some(Timer { due: row.due, envelope }))
    }

    async fn bury(&self, id: EnvelopeId, due: Timestamp) -> Result<(), PortError> {
        let mut item = keys::key(partition_of(id), CANCELLED);
        let expires = due.max(self.clock.now()).0 / 1_000 + TOMBSTONE_SECONDS;
        item.insert(TTL.to_owned(), number(expires));
        self.put_item(item).await
    }

    async fn is_buried(&self, id: EnvelopeId) -> Result<bool, PortError> {
        Ok(self.get(keys::key(partition_of(id), CANCELLED)).await?.is_some())
    }

    /// Deletes the row, then its parts.
    async fn delete(&self, id: EnvelopeId, due: Timestamp) -> Result<(), PortError> {
        let request = self.store.client.delete_item().table_name(&*self.store.table).set_key(Some(row_key(id, due)));
        let request = request.return_values(aws_sdk_dynamodb::types::ReturnValue::AllOld);
        let output = request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await;
        let output = output.map_err(|error| port_error("delete a timer", error))?;
        self.store.calls.consumed("DeleteItem", output.consumed_capacity());
        let further = output.attributes().and_then(|item| number_of(item, "n").ok().flatten()).unwrap_or_default();
        for index in 0..further as usize {
            let key = keys::key(partition_of(id), part_key(index));
            let request = self.store.client.delete_item().table_name(&*self.store.table).set_key(Some(key));
            match request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
                Ok(output) => self.store.calls.consumed("DeleteItem", output.consumed_capacity()),
                Err(error) => {
                    let error = port_error("delete a timer", error);
                    tracing::debug!(%error, "a part of a timer is left to its time to live");
                }
            }
        }
        Ok(())
    }
}

/// Where the page after a row begins.
fn from_after(row: Option<WakeUp>) -> String {
    // Ids have one length, so nothing lies between a row and this.
    row.map_or_else(|| "0".to_owned(), |row| format!("{:020}#{}!", row.due.0, row.id))
}

/// Sorts behind every row that is due at `until`.
fn last_sort(until: Timestamp) -> String {
    format!("{:020}#~", until.0)
}

fn shard_partition(shard: u8) -> String {
    format!("timers#{shard:02}")
}

fn partition_of(id: EnvelopeId) -> String {
    format!("timer#{id}")
}

fn part_key(index: usize) -> String {
    format!("{index:03}")
}

fn row_key(id: EnvelopeId, due: Timestamp) -> Item {
    keys::key(shard_partition(id.0[15] % SHARDS), format!("{:020}#{id}", due.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_names_its_row() {
        let wake_up = WakeUp { id: EnvelopeId([9; 16]), due: Timestamp(1_700_000_000_123) };
        assert_eq!(WakeUp::from_json(&wake_up.to_json()), Some(wake_up));
        for bad in ["", "{}", "{\"timer\":\"9\",\"due\":1}", "{\"timer\":\"09090909090909090909090909090909\"}"] {
            assert_eq!(WakeUp::from_json(bad), None, "{bad}");
        }
        let row = Row::of(row_key(wake_up.id, wake_up.due)).unwrap();
        assert_eq!((row.id, row.due), (wake_up.id, wake_up.due));
    }
}
