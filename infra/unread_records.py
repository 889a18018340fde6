"""Gives routers the records of streams once more that they have given up, as the queue UnreadRecords reports them.

Ids of messages are made of a record's shard and sequence number. Both stay, so these are the same messages: what had been sent
before has no second effect.

Usage: python infra/unread_records.py URL_OF_UNREAD_RECORDS
"""

import base64
import json
import sys

import boto3

# An invocation takes 6 MB.
MOST_BYTES = 4_000_000
MOST_RECORDS = 100


def records(kinesis, stream, shard, first, last):
    """The records of a shard from one sequence number to another."""
    place = kinesis.get_shard_iterator(
        StreamARN=stream, ShardId=shard, ShardIteratorType="AT_SEQUENCE_NUMBER", StartingSequenceNumber=first
    )["ShardIterator"]
    while place:
        page = kinesis.get_records(StreamARN=stream, ShardIterator=place)
        for record in page["Records"]:
            if int(record["SequenceNumber"]) > int(last):
                return
            yield record
            if record["SequenceNumber"] == last:
                return
        if not page["Records"] and page.get("MillisBehindLatest") == 0:
            return
        place = page.get("NextShardIterator")


def event(stream, shard, record):
    """A record as its mapping hands it to the Lambda."""
    number = record["SequenceNumber"]
    return {
        "eventSource": "aws:kinesis",
        "eventName": "aws:kinesis:record",
        "eventID": f"{shard}:{number}",
        "eventSourceARN": stream,
        "kinesis": {
            "partitionKey": record["PartitionKey"],
            "sequenceNumber": number,
            "data": base64.b64encode(record["Data"]).decode(),
            "approximateArrivalTimestamp": record["ApproximateArrivalTimestamp"].timestamp(),
        },
    }


def batches(events):
    batch, size = [], 0
    for each in events:
        more = len(json.dumps(each))
        if batch and (size + more > MOST_BYTES or len(batch) == MOST_RECORDS):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += more
    if batch:
        yield batch


def give(functions, router, batch):
    """Has the router route a batch; an error if it did not route all of it."""
    reply = functions.invoke(FunctionName=router, Payload=json.dumps({"Records": batch}))
    answer = json.loads(reply["Payload"].read())
    if reply.get("FunctionError") or answer.get("batchItemFailures"):
        sys.exit(f"{router} did not route all of it, and the rest was not tried: {answer}")


def give_all(kinesis, functions, letter):
    router, info = letter["requestContext"]["functionArn"], letter["KinesisBatchInfo"]
    stream, shard = info["streamArn"], info["shardId"]
    first, last = info["startSequenceNumber"], info["endSequenceNumber"]
    found = list(records(kinesis, stream, shard, first, last))
    numbers = [record["SequenceNumber"] for record in found]
    for batch in batches(event(stream, shard, record) for record in found):
        give(functions, router, batch)
    gone = "" if first in numbers and last in numbers else "; others of them have left the stream for good"
    print(f"{stream}, {shard}: {len(found)} records from {first} to {last} were routed{gone}")


def main(queue):
    sqs, kinesis, functions = boto3.client("sqs"), boto3.client("kinesis"), boto3.client("lambda")
    while letters := sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=2, VisibilityTimeout=300).get("Messages"):
        for letter in letters:
            give_all(kinesis, functions, json.loads(letter["Body"]))
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=letter["ReceiptHandle"])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
