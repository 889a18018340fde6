//! Routes under `/_/` for people and programs that look after a host. A type name cannot start with `_`.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use statefun_core::{Address, EnvelopeId};
use statefun_embedded::Replayed;

use super::problem::{Problem, json};
use crate::{
    accept::find,
    host::Inner,
    letters,
    views::{InstanceView, LetterView},
};

/// Dead letters of one page, if the request does not say how many.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

const ROUTES: &str = "there are GET /_/health, GET /_/metrics, GET /_/dead-letters, POST /_/dead-letters/replay, \
                      POST /_/dead-letters/<id>/replay, GET /_/state/<namespace>/<name>/<id>, \
                      POST /_/ingress/<namespace>/<name>";

#[derive(Serialize)]
struct Health {
    status: &'static str,
    waiting: u64,
    running: usize,
    egress_waiting: u64,
    dead_letters: u64,
}

pub(super) async fn health(State(inner): State<Arc<Inner>>) -> Response {
    let waiting = inner.store.waiting();
    let stopping = inner.is_stopping();
    let health = Health {
        status: if stopping { "stopping" } else { "ok" },
        waiting: waiting.messages,
        running: waiting.running,
        egress_waiting: waiting.egress,
        dead_letters: inner.store.letter_count(),
    };
    json(if stopping { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, &health)
}

#[derive(Deserialize)]
pub(super) struct Page {
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    after: Option<String>,
}

#[derive(Serialize)]
struct Letters {
    dead_letters: Vec<LetterView>,
    /// For the next page: `?after=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) async fn dead_letters(State(inner): State<Arc<Inner>>, Query(page): Query<Page>) -> Result<Response, Problem> {
    let after = page
        .after
        .as_deref()
        .map(|text| letters::parse_place(text).ok_or_else(|| Problem::bad_request("`after` is not what `next` said")));
    let after = after.transpose()?;
    let limit = page.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let found = inner.store.letters(after, limit).map_err(|error| Problem::failed(&error))?;
    let next = (found.len() == limit).then(|| found.last().map(letters::place_after)).flatten();
    Ok(json(StatusCode::OK, &Letters { dead_letters: found.iter().map(LetterView::from).collect(), next }))
}

#[derive(Serialize)]
struct Replays {
    replayed: usize,
    /// Records that could not be read: there is nothing to send again.
    malformed: usize,
}

pub(super) async fn replay(State(inner): State<Arc<Inner>>, Path(text): Path<String>) -> Result<Response, Problem> {
    match letters::replay(&inner.store, id(&text)?).await.map_err(|error| Problem::failed(&error))? {
        Replayed::Sent { .. } => Ok(json(StatusCode::OK, &Replays { replayed: 1, malformed: 0 })),
        Replayed::Unknown => {
            Err(Problem::not_found(format!("there is no dead letter {text}")).hint("GET /_/dead-letters lists them"))
        }
        Replayed::Malformed => {
            Err(Problem::new(StatusCode::CONFLICT, "this record could not be read: there is no message to send again")
                .hint("mend the input and send the record anew"))
        }
    }
}

pub(super) async fn replay_all(State(inner): State<Arc<Inner>>) -> Result<Response, Problem> {
    let all = letters::replay_all(&inner.store).await.map_err(|error| Problem::failed(&error))?;
    Ok(json(StatusCode::OK, &Replays { replayed: all.sent, malformed: all.malformed }))
}

pub(super) async fn state(State(inner): State<Arc<Inner>>, Path(address): Path<String>) -> Result<Response, Problem> {
    let address = Address::parse(&address).map_err(|error| Problem::bad_request(error.to_string()))?;
    let record = inner.store.record(&address).map_err(|error| Problem::failed(&error))?;
    match record {
        Some(record) => Ok(json(StatusCode::OK, &InstanceView::new(&address, &record))),
        None => {
            find(inner.engine.functions(), address.function().as_str())?;
            Err(Problem::not_found(format!("{address} has no state: it was never invoked")))
        }
    }
}

pub(super) async fn unknown() -> Response {
    Problem::not_found("there is nothing here").hint(ROUTES).into_response()
}

pub(super) async fn wrong_method() -> Response {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method").hint(ROUTES).into_response()
}

fn id(text: &str) -> Result<EnvelopeId, Problem> {
    EnvelopeId::from_hex(text)
        .ok_or_else(|| Problem::bad_request(format!("`{text}` is not the id of a dead letter: it has 32 hexadecimal digits")))
}
