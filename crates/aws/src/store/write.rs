//! Writing a commit: one try of it, and what DynamoDB's answer to it means. The engine repeats it.

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    config::retry::RetryConfig,
    error::SdkError,
    operation::{transact_write_items::TransactWriteItemsError, update_item::UpdateItemError},
    types::{
        CancellationReason, Delete, Put, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
    },
};
use futures_util::future::try_join_all;
use statefun_core::{Address, Commit, Safeguards};
use statefun_engine::{
    backend::{ConditionalWrite, Tag, Tried, commit_with_retries},
    ports::{Clock, Committed, PortError, PortErrorKind},
};

use super::{
    DynamoStore,
    commit::{MAX_ACTIONS, Writes},
    keys::{self, Item, number},
    record::tag_of,
    unchanged,
};
use crate::{
    backend::SystemClock,
    error::{kind_of_code, port_error},
};

/// A commit and its writes.
struct Prepared<'a> {
    store: &'a DynamoStore,
    commit: &'a Commit,
    tag: Tag,
    writes: Writes,
}

#[async_trait]
impl ConditionalWrite for Prepared<'_> {
    async fn put_first(&self) -> Result<(), PortError> {
        try_join_all(self.writes.first.iter().map(|item| self.store.put(item.clone()))).await?;
        Ok(())
    }

    async fn try_commit(&self) -> Result<Tried, PortError> {
        match self.writes.puts.is_empty() {
            true => self.store.update(self.commit, &self.writes).await,
            false => self.store.transact(self.commit, &self.writes, &format!("{:032x}", self.tag.0)).await,
        }
    }
}

impl DynamoStore {
    /// Writes the commit, trying a few times.
    pub(super) async fn write(&self, commit: &Commit) -> Result<Committed, PortError> {
        let tag = Tag(fastrand::u64(..));
        let writes = Writes::of(commit, tag, SystemClock.now().0 / 1_000);
        if writes.puts.len() >= MAX_ACTIONS {
            let problem =
                format!("the commit has {} items beside its record, a transaction takes {MAX_ACTIONS}", writes.puts.len());
            return Err(PortError::new("commit", PortErrorKind::Refused, problem));
        }
        let write = Prepared { store: self, commit, tag, writes };
        commit_with_retries(&write, tag, &SystemClock, Safeguards::default()).await
    }

    async fn put(&self, item: Item) -> Result<(), PortError> {
        let request = self.client.put_item().table_name(&*self.table).set_item(Some(item));
        let output = request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await;
        let output = output.map_err(|error| port_error("commit", error))?;
        self.calls.consumed("PutItem", output.consumed_capacity());
        Ok(())
    }

    /// The SDK must not repeat this by itself: after a lost reply the condition fails *because* the write took effect, and nobody
    /// would know of that write.
    async fn update(&self, commit: &Commit, writes: &Writes) -> Result<Tried, PortError> {
        let update = &writes.update;
        let mut request = self.client.update_item().table_name(&*self.table).set_key(Some(keys::record(&commit.address)));
        request = request.expression_attribute_values(":expect", number(commit.expect));
        for (place, value) in &update.values {
            request = request.expression_attribute_values(place, value.clone());
        }
        let request = request.update_expression(update.expression()).condition_expression(unchanged(commit.expect));
        let request = request.set_expression_attribute_names(Some(update.names.clone()));
        let request = request.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let request = request.return_consumed_capacity(ReturnConsumedCapacity::Total);
        let once = aws_sdk_dynamodb::config::Builder::new().retry_config(RetryConfig::disabled());
        match request.customize().config_override(once).send().await {
            Ok(output) => {
                self.calls.consumed("UpdateItem", output.consumed_capacity());
                Ok(Tried::Written)
            }
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => match error.into_err() {
                UpdateItemError::ConditionalCheckFailedException(failed) => Ok(conflict(failed.item.as_ref())),
                _ => Ok(Tried::Conflict(None)),
            },
            Err(error) => Err(port_error("commit", error)),
        }
    }

    async fn transact(&self, commit: &Commit, writes: &Writes, token: &str) -> Result<Tried, PortError> {
        let update = &writes.update;
        let mut record = Update::builder().table_name(&*self.table).set_key(Some(keys::record(&commit.address)));
        record = record.expression_attribute_values(":expect", number(commit.expect));
        for (place, value) in &update.values {
            record = record.expression_attribute_values(place, value.clone());
        }
        let record = record.update_expression(update.expression()).condition_expression(unchanged(commit.expect));
        let record = record.set_expression_attribute_names(Some(update.names.clone()));
        let record = record.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let built = |error| PortError::new("commit", PortErrorKind::Refused, error);
        let mut items = vec![TransactWriteItem::builder().update(record.build().map_err(built)?).build()];
        for item in &writes.puts {
            let put = Put::builder().table_name(&*self.table).set_item(Some(item.clone())).build().map_err(built)?;
            items.push(TransactWriteItem::builder().put(put).build());
        }
        let request = self.client.transact_write_items().set_transact_items(Some(items)).client_request_token(token);
        match request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(output) => {
                self.calls.consumed("TransactWriteItems", output.consumed_capacity());
                Ok(Tried::Written)
            }
            Err(SdkError::ServiceError(error)) if error.err().is_transaction_canceled_exception() => match error.into_err() {
                TransactWriteItemsError::TransactionCanceledException(canceled) => cancelled(canceled.cancellation_reasons),
                other => Err(PortError::new("commit", PortErrorKind::Unavailable, other)),
            },
            Err(error) => Err(port_error("commit", error)),
        }
    }

    /// Deletes the parts of an outbox that was sent. What is left of them goes by its time to live.
    pub(super) async fn forget_outbox(&self, address: &Address, tag: u64, parts: usize) {
        let deletes = (0..parts).map(|part| {
            let delete =
                Delete::builder().table_name(&*self.table).set_key(Some(keys::key(address, keys::outbox_part(tag, part))));
            delete.build().map(|delete| TransactWriteItem::builder().delete(delete).build())
        });
        let Ok(deletes) = deletes.collect::<Result<Vec<_>, _>>() else { return };
        let request = self.client.transact_write_items().set_transact_items(Some(deletes));
        match request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(output) => self.calls.consumed("TransactWriteItems", output.consumed_capacity()),
            Err(error) => {
                let error = port_error("finish", error);
                tracing::debug!(%error, "parts of a sent outbox are left to their time to live");
            }
        }
    }
}

/// A failed condition; this is the item that was found, if DynamoDB returned it.
fn conflict(found: Option<&Item>) -> Tried {
    Tried::Conflict(found.and_then(tag_of))
}

/// What the reasons of a cancelled transaction come to; they stand in the order of its actions, the record's first.
fn cancelled(reasons: Option<Vec<CancellationReason>>) -> Result<Tried, PortError> {
    let reasons = reasons.unwrap_or_default();
    if let Some(first) = reasons.first()
        && first.code() == Some("ConditionalCheckFailed")
    {
        return Ok(conflict(first.item()));
    }
    let code = reasons.iter().filter_map(CancellationReason::code).find(|code| *code != "None").unwrap_or("unknown").to_owned();
    let kind = match code.as_str() {
        "ThrottlingError" | "ProvisionedThroughputExceeded" => PortErrorKind::Throttled,
        code => kind_of_code(code, true),
    };
    Err(PortError::new("commit", kind, format!("the transaction was cancelled: {code}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(code: &str) -> CancellationReason {
        CancellationReason::builder().code(code).build()
    }

    #[test]
    fn reasons_are_told_apart() {
        let kind = |codes: &[&str]| cancelled(Some(codes.iter().map(|code| reason(code)).collect())).map_err(|error| error.kind);
        assert!(matches!(kind(&["ConditionalCheckFailed", "None"]), Ok(Tried::Conflict(None))));
        assert!(matches!(kind(&["None", "TransactionConflict"]), Err(PortErrorKind::Throttled)));
        assert!(matches!(kind(&["TransactionConflict"]), Err(PortErrorKind::Throttled)));
        assert!(matches!(kind(&["None", "ThrottlingError"]), Err(PortErrorKind::Throttled)));
        assert!(matches!(kind(&["ProvisionedThroughputExceeded"]), Err(PortErrorKind::Throttled)));
        assert!(matches!(kind(&["ValidationError"]), Err(PortErrorKind::Refused)));
    }
}
