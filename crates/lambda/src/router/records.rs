//! Events as records of an ingress. Pure.

use std::sync::Arc;

use statefun_core::{Timestamp, resource_name};
use statefun_ingress::{Arrival, IngressRecord, Origin, SqsOrigin, UserRecord, deaggregate, traceparent};

use crate::events::{KinesisRecord, SqsMessage};

/// A Kinesis record of an ingress, with all the user records in it; most have one.
pub(crate) fn of_kinesis((record, ingress): (&KinesisRecord, Arc<str>)) -> Arrival {
    let KinesisRecord { source_arn, event_id, kinesis } = record;
    let source: Arc<str> = resource_name(source_arn).into();
    // The event's id is shard and sequence number.
    let whole = IngressRecord::new(ingress, source, &**event_id, kinesis.arrived, kinesis.data.clone());
    let users = match deaggregate(&kinesis.partition_key, kinesis.data.clone()) {
        Ok(users) => users,
        Err(error) => return Arrival::Malformed(whole, error),
    };
    let record_of = |user: UserRecord| IngressRecord {
        position: user.position(event_id),
        order: Some(user.partition_key.clone()),
        origin: Origin::Kinesis { partition_key: user.partition_key },
        body: user.data,
        ..whole.clone()
    };
    let records = users.into_iter().map(record_of).collect();
    Arrival::Packed { whole, records }
}

/// An SQS message of an ingress.
pub(crate) fn of_sqs((message, ingress): (&SqsMessage, Arc<str>)) -> Arrival {
    let SqsMessage { message_id, attributes: system, .. } = message;
    let attributes = message.message_attributes.iter();
    let attributes = attributes.filter_map(|(name, attribute)| Some((name.clone(), attribute.text()?.to_owned()))).collect();
    let trace = message.message_attributes.get("traceparent").and_then(|attribute| traceparent(attribute.text()?));
    let arrived = Timestamp(system.sent_timestamp);
    let source = resource_name(&message.source_arn);
    let record = IngressRecord {
        order: message.order().map(Into::into),
        origin: Origin::Sqs(SqsOrigin {
            message_id: message_id.clone(),
            group_id: system.message_group_id.clone(),
            deduplication_id: system.message_deduplication_id.clone(),
            attributes,
        }),
        trace: trace.map(str::to_owned),
        ..IngressRecord::new(ingress, source, &**message_id, arrived, message.body.clone().into_bytes())
    };
    Arrival::Record(record)
}
