//! Events that Lambda hands over.

use serde_json::Value;
use statefun_lambda::fuzzing::{Read, read};

use super::{ensure, shape, some};
use crate::{Check, Target};

pub(crate) const EVENT: Target = Target {
    name: "event",
    words: &[
        "\"Records\"",
        "\"eventSource\":\"aws:sqs\"",
        "\"eventSource\":\"aws:kinesis\"",
        "\"messageId\":\"m\"",
        "\"receiptHandle\":\"r\"",
        "\"body\"",
        "\"attributes\"",
        "\"messageAttributes\":null",
        "\"messageAttributes\":{}",
        "\"eventSourceARN\":\"arn:aws:sqs:r:1:q\"",
        "\"SequenceNumber\":\"1\"",
        "\"MessageGroupId\"",
        "\"stringValue\"",
        "\"kinesis\"",
        "\"data\":\"aGk=\"",
        "\"approximateArrivalTimestamp\":1.5",
        "\"statefun\":\"sweep\"",
    ],
    start: || -> Check { Box::new(check) },
};

fn check(input: &[u8]) -> Result<String, String> {
    // Lambda's runtime reads the JSON.
    let Ok(event) = serde_json::from_slice::<Value>(input) else { return Ok("not JSON".to_owned()) };
    let records = event.get("Records").and_then(Value::as_array).map_or(0, Vec::len);
    match read(event.clone()) {
        Ok(Read { kind, messages, taken, failed }) => {
            ensure(kind == "command" || messages == records, || format!("{records} records are read as {messages}"))?;
            ensure(taken == messages, || format!("of {messages} messages {taken} are accounted for"))?;
            // What is answered names a message of the event; what it does not name is deleted.
            ensure(failed.iter().all(|id| event.to_string().contains(&*serde_json::to_string(id).unwrap_or_default())), || {
                format!("{failed:?} are to come again, and the event has none of these ids")
            })?;
            Ok(format!("{kind} {} {}", some(messages), some(failed.len())))
        }
        Err(error) => {
            ensure(!error.is_empty(), || "an error without a word".to_owned())?;
            Ok(shape(&error))
        }
    }
}
