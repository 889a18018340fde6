//! Events as records of an ingress. Pure.

use std::sync::Arc;

use statefun_core::{Timestamp, resource_name};
use statefun_router::{Arrival, IngressRecord, deaggregate, traceparent};

use crate::events::{KinesisRecord, SqsMessage};

/// The user records of a Kinesis record; most have one.
pub(super) fn of_kinesis(record: &KinesisRecord, ingress: String) -> impl Iterator<Item = Arrival> {
    let (ingress, source): (Arc<str>, Arc<str>) = (ingress.into(), resource_name(&record.source_arn).into());
    let data = &record.kinesis;
    let users = deaggregate(&data.partition_key, data.data.clone());
    users.into_iter().map(move |user| {
        // The event's id is shard and sequence number.
        let position = user.position(&record.event_id);
        let key = user.partition_key;
        Arrival::Record(IngressRecord {
            order: Some(key.clone()),
            partition_key: Some(key),
            ..IngressRecord::new(ingress.clone(), source.clone(), position, record.kinesis.arrived, user.data)
        })
    })
}

/// An SQS message.
pub(super) fn of_sqs(message: &SqsMessage, ingress: String) -> Arrival {
    let SqsMessage { message_id, attributes: system, .. } = message;
    let attributes = message.message_attributes.iter();
    let attributes = attributes.filter_map(|(name, attribute)| Some((name.clone(), attribute.text()?.to_owned()))).collect();
    let trace = message.message_attributes.get("traceparent").and_then(|attribute| traceparent(attribute.text()?));
    let arrived = Timestamp(system.sent_timestamp);
    let source = resource_name(&message.source_arn);
    let record = IngressRecord {
        order: message.order().map(str::to_owned),
        message_group_id: system.message_group_id.clone(),
        message_id: Some(message_id.clone()),
        message_deduplication_id: system.message_deduplication_id.clone(),
        attributes,
        trace: trace.map(str::to_owned),
        ..IngressRecord::new(ingress, source, &**message_id, arrived, message.body.clone().into_bytes())
    };
    Arrival::Record(record)
}
