//! A stream's event source mapping, as AWS does it: a batch that was answered with a failed record comes again from there on, a
//! failed invocation comes again whole. The emulator's own mapping goes on regardless of failed records.

use std::time::{Duration, Instant};

use aws_sdk_kinesis::types::ShardIteratorType;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use crate::{
    http::REGION,
    problem::{Problem, Result},
    world::World,
};

/// Records of one batch.
const BATCH: usize = 40;

/// Pause after a failure; AWS's grows, from less than a second on.
const PAUSE: Duration = Duration::from_millis(200);

/// Hands all records that are in a stream of this output to a Lambda, and returns once the last of them was done with.
pub(crate) async fn drain(world: &World, stream: &str, function: &str, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    let name = world.stack.output(stream)?;
    let shards = world.clients.kinesis.list_shards().stream_name(name).send().await?;
    for shard in shards.shards() {
        let mut records = read(world, name, shard.shard_id()).await?;
        let mut last = None;
        while !records.is_empty() {
            if Instant::now() > deadline {
                let what = format!("{} records of {stream} are not read after {} s", records.len(), limit.as_secs());
                return Err(last.unwrap_or_else(|| Problem::new("each batch failed in part")).during(what));
            }
            let batch = &records[..records.len().min(BATCH)];
            let done = match world.http.invoke(function, &json!({"Records": batch})).await {
                Ok(answer) => done(batch, &answer)?,
                // A crash, such as the process being killed.
                Err(problem) => {
                    last = Some(problem);
                    0
                }
            };
            if done < batch.len() {
                tokio::time::sleep(PAUSE).await;
            }
            records.drain(..done);
        }
    }
    Ok(())
}

/// How many records of the batch are done with: those before the first failed one.
fn done(batch: &[Value], answer: &Value) -> Result<usize> {
    let failures =
        answer["batchItemFailures"].as_array().ok_or_else(|| Problem::new(format!("{answer} is not an answer to records")))?;
    let place = |failure: &Value| {
        let number = &failure["itemIdentifier"];
        let place = batch.iter().position(|record| record["kinesis"]["sequenceNumber"] == *number);
        place.ok_or_else(|| Problem::new(format!("{number} is not a record of the batch")))
    };
    failures.iter().map(place).try_fold(batch.len(), |done, place| Ok(done.min(place?)))
}

/// All records of a shard, as Lambda hands them over.
pub(crate) async fn read(world: &World, stream: &str, shard: &str) -> Result<Vec<Value>> {
    let kinesis = &world.clients.kinesis;
    let start = kinesis.get_shard_iterator().stream_name(stream).shard_id(shard);
    let start = start.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await?;
    let (mut iterator, mut events) = (start.shard_iterator, Vec::new());
    while let Some(from) = iterator {
        let reply = kinesis.get_records().shard_iterator(from).send().await?;
        for record in reply.records() {
            let arrived = record.approximate_arrival_timestamp().map_or(0.0, |time| time.as_secs_f64());
            let (key, number) = (record.partition_key(), record.sequence_number());
            let data = BASE64.encode(record.data().as_ref());
            events.push(json!({
                "kinesis": {"kinesisSchemaVersion": "1.0", "partitionKey": key, "sequenceNumber": number, "data": data,
                    "approximateArrivalTimestamp": arrived},
                "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventName": "aws:kinesis:record",
                "eventID": format!("{shard}:{number}"), "awsRegion": REGION,
                "invokeIdentityArn": format!("arn:aws:iam::{}:role/router", world.account),
                "eventSourceARN": format!("arn:aws:kinesis:{REGION}:{}:stream/{stream}", world.account),
            }));
        }
        iterator = reply.next_shard_iterator.filter(|_| !reply.records.is_empty());
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_again_from_its_first_failed_record() {
        let batch: Vec<Value> = ["1", "2", "3"].map(|number| json!({"kinesis": {"sequenceNumber": number}})).into();
        let answer = |numbers: &[&str]| {
            let failures: Vec<_> = numbers.iter().map(|number| json!({"itemIdentifier": number})).collect();
            done(&batch, &json!({"batchItemFailures": failures}))
        };
        assert_eq!(answer(&[]).unwrap(), 3);
        assert_eq!(answer(&["3", "2"]).unwrap(), 1);
        assert!(answer(&["4"]).is_err());
        assert!(done(&batch, &Value::Null).is_err());
    }
}
