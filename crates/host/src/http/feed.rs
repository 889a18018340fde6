//! `POST /_/ingress/<namespace>/<name>`: a record to a declared ingress, as its stream or queue would deliver it.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, Request},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use statefun_embedded::{MalformedRecord, Repeats};
use statefun_ingress::{IngressRecord, Origin, SqsOrigin};
use statefun_module::SourceKind;

use super::{
    body,
    ingress::{key, trace},
    problem::{Problem, json},
    request::query,
};
use crate::{
    feed::{Feed, NotFed, UnknownIngress},
    host::Inner,
    ingress::random_id,
    letters::MAX_RAW_BYTES,
};

const PARTITION_KEY: &str = "statefun-partition-key";
const MESSAGE_GROUP_ID: &str = "statefun-message-group-id";
const MESSAGE_DEDUPLICATION_ID: &str = "statefun-message-deduplication-id";
const ATTRIBUTE: &str = "statefun-attribute-";

#[derive(Serialize)]
struct Fed {
    /// The envelopes that the record became.
    ids: Vec<String>,
    /// The record was taken in before: nothing was taken in now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

pub(super) async fn post(
    State(inner): State<Arc<Inner>>,
    Path((namespace, name)): Path<(String, String)>,
    request: Request<Body>,
) -> Response {
    let response = match take(&inner, &format!("{namespace}/{name}"), request).await {
        Ok(fed) => json(StatusCode::ACCEPTED, &fed),
        Err(problem) => problem.into_response(),
    };
    inner.requests.count(response.status());
    response
}

async fn take(inner: &Inner, name: &str, request: Request<Body>) -> Result<Fed, Problem> {
    let (head, body) = request.into_parts();
    // The stream or queue, if the ingress has several.
    let [source] = query(&head.uri, ["source"])?;
    let feed = inner.feeds.find(name, source.as_deref())?;
    let identity = key(&head.headers)?;
    inner.check_room()?;
    let named = identity.is_some();
    let position = match identity {
        Some(key) => key,
        None => random_id()?.to_string(),
    };
    let record = record(&feed, &head.headers, position, named, body::read(inner, &head.headers, body).await?)?;
    let mut envelopes = match feed.envelopes(&record, inner.engine.functions()) {
        Ok(envelopes) => envelopes,
        Err(NotFed::UnknownFunction(unknown)) => return Err(unknown.into()),
        Err(NotFed::Malformed(reason)) => return Err(park(inner, &feed, &record, reason).await),
    };
    let now = inner.clock.now();
    let mut keyed = false;
    for envelope in &mut envelopes {
        // The store refuses what it took before in the same step: whatever it takes is a first copy.
        keyed |= std::mem::take(&mut envelope.keyed);
        envelope.sent_at = now;
    }
    let repeats = match (keyed, named) {
        // A key within the message, as in production: the first message counts.
        (true, _) => Repeats::Drop,
        (false, true) => Repeats::DropIfSame,
        (false, false) => Repeats::Take,
    };
    let submitted = inner.take_envelopes(envelopes, repeats).await?;
    inner.store.durable(submitted.op).await.map_err(|error| Problem::failed(&error))?;
    let duplicate = !submitted.accepted.iter().any(|accepted| *accepted);
    Ok(Fed { ids: submitted.ids.iter().map(ToString::to_string).collect(), duplicate })
}

/// The record that a request stands for. What a stream or queue would not even have taken is refused.
fn record(feed: &Feed, headers: &HeaderMap, position: String, named: bool, body: bytes::Bytes) -> Result<IngressRecord, Problem> {
    let mut record = feed.record(position, body);
    let lacks = |what: &str, header: &str| {
        Problem::bad_request(format!("records of {} have a {what}", feed.origin()))
            .hint(format!("give it in the header `{header}`"))
    };
    match feed.kind {
        SourceKind::Kinesis => {
            let key = text(headers, PARTITION_KEY)?.ok_or_else(|| lacks("partition key", PARTITION_KEY))?;
            record.origin = Origin::Kinesis { partition_key: key.into() };
        }
        SourceKind::Sqs => {
            let group_id = text(headers, MESSAGE_GROUP_ID)?;
            if group_id.is_none() && feed.source.name().ends_with(".fifo") {
                return Err(lacks("message group", MESSAGE_GROUP_ID));
            }
            let by_key = || (named && feed.source.may_be_fifo()).then(|| record.position.clone());
            let deduplication_id = text(headers, MESSAGE_DEDUPLICATION_ID)?.or_else(by_key);
            // Headers have no capitals; attributes may.
            let attributes = feed.attributes_by(|name| text(headers, &format!("{ATTRIBUTE}{}", name.to_ascii_lowercase())))?;
            let message_id = record.position.clone();
            record.origin = Origin::Sqs(SqsOrigin { message_id, group_id, deduplication_id, attributes });
        }
    }
    record.trace = trace(headers);
    Ok(record)
}

fn text(headers: &HeaderMap, name: &str) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(Problem::bad_request(format!("the header `{name}` is not UTF-8"))),
    }
}

/// Keeps a malformed record as its event source's router would, and answers so.
async fn park(inner: &Inner, feed: &Feed, record: &IngressRecord, reason: String) -> Problem {
    let (now, origin) = (inner.clock.now(), feed.origin());
    let letter = MalformedRecord::new(now, &origin, &record.position, &reason, &record.body, MAX_RAW_BYTES);
    let parked = async { inner.store.durable(inner.store.park_malformed(&letter).await?).await };
    match parked.await {
        Ok(()) => Problem::bad_request(reason).hint("the record is kept among the dead letters: GET /_/dead-letters"),
        Err(error) => Problem::failed(&error),
    }
}

impl From<UnknownIngress> for Problem {
    fn from(unknown: UnknownIngress) -> Self {
        let problem = Self::not_found(unknown.to_string());
        match unknown.known.is_empty() {
            true => problem,
            false => {
                problem.hint(format!("there are {}; `?source=` picks one of several streams or queues", unknown.known.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use statefun_module::Module;

    use super::*;
    use crate::feed::Feeds;

    #[test]
    fn only_messages_of_fifo_queues_have_a_deduplication_id() {
        let text = "kind: io.statefun.sqs.v1/ingress
spec:
  id: a/in
  queues:
    - {queue: standard, valueType: text, targets: [a/b], id: messageId}
    - {queue: orders.fifo, valueType: text, targets: [a/b], id: messageId}
    - {queue: \"${OPEN}\", valueType: text, targets: [a/b], id: messageId}
";
        let module = Module::parse("m.yaml", text).and_then(|module| module.resolve_local(&|_| None)).unwrap();
        let feeds = Feeds::new(Some(Arc::new(module)));
        let headers = [("statefun-message-group-id", "g")]
            .map(|(name, value)| (name.parse().unwrap(), axum::http::HeaderValue::from_static(value)));
        let headers: HeaderMap = headers.into_iter().collect();
        for (source, expected) in [("standard", None), ("orders.fifo", Some("key")), ("OPEN", Some("key"))] {
            let feed = feeds.find("a/in", Some(source)).unwrap();
            let record = record(&feed, &headers, "key".to_owned(), true, bytes::Bytes::new()).ok().unwrap();
            assert_eq!(record.origin.sqs().unwrap().deduplication_id.as_deref(), expected, "{source}");
        }
    }
}
