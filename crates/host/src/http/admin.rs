//! Routes under `/_/` for people and programs that look after a host. A type name cannot start with `_`.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use statefun_core::{Address, EnvelopeId};

use super::{
    problem::{Problem, json},
    request::{flag, query},
};
use crate::{
    accept::find,
    host::Inner,
    letters::{self, AllReplayed, One},
    views::{InstanceView, LetterView},
};

/// Dead letters of one page, if the request does not say how many.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

/// What to do about letters that a replay left because their messages may have been applied.
const ASK: &str =
    "look at the instance's state; if the message was not applied, replay the letter by its id with ?may_be_applied=true";

const ROUTES: &str = "there are GET /_/health, GET /_/metrics, GET /_/dead-letters, POST /_/dead-letters/replay, \
                      POST /_/dead-letters/<id>/replay, DELETE /_/dead-letters/<id>, \
                      DELETE /_/dead-letters?malformed=true, GET /_/state/<namespace>/<name>/<id>, \
                      POST /_/ingress/<namespace>/<name>";

#[derive(Serialize)]
struct Health {
    status: &'static str,
    waiting: u64,
    running: usize,
    egress_waiting: u64,
    dead_letters: u64,
}

pub(super) async fn health(State(inner): State<Arc<Inner>>, uri: Uri) -> Result<Response, Problem> {
    let [] = query(&uri, [])?;
    let waiting = inner.store.waiting();
    let stopping = inner.is_stopping();
    let health = Health {
        status: if stopping { "stopping" } else { "ok" },
        waiting: waiting.messages,
        running: waiting.running,
        egress_waiting: waiting.egress,
        dead_letters: inner.store.letter_count(),
    };
    Ok(json(if stopping { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, &health))
}

#[derive(Serialize)]
struct Letters<'a> {
    dead_letters: Vec<LetterView<'a>>,
    /// For the next page: `?after=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) async fn dead_letters(State(inner): State<Arc<Inner>>, uri: Uri) -> Result<Response, Problem> {
    let [limit, after] = query(&uri, ["limit", "after"])?;
    let after = after
        .as_deref()
        .map(|text| letters::parse_place(text).ok_or_else(|| Problem::bad_request("`after` is not what `next` said")));
    let after = after.transpose()?;
    let limit = match limit.as_deref().map(str::parse) {
        None => PAGE,
        Some(Ok(limit)) if (1..=MAX_PAGE).contains(&limit) => limit,
        Some(_) => return Err(Problem::bad_request(format!("`limit` is a number from 1 to {MAX_PAGE}"))),
    };
    let found = inner.store.letters(after, limit).map_err(|error| Problem::failed(&error))?;
    let next = (found.len() == limit).then(|| found.last().map(letters::place_after)).flatten();
    Ok(json(StatusCode::OK, &Letters { dead_letters: found.iter().map(LetterView::from).collect(), next }))
}

#[derive(Default, Serialize)]
struct Replays {
    replayed: usize,
    /// Records that could not be read: there is nothing to send again.
    malformed: usize,
    /// Letters that were left because their messages may have been applied.
    may_be_applied: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

#[derive(Serialize)]
struct Deleted {
    deleted: usize,
}

/// Whether to send what may have been applied.
fn may_be_applied(uri: &Uri) -> Result<bool, Problem> {
    let [asked] = query(uri, ["may_be_applied"])?;
    flag("may_be_applied", asked.as_deref())
}

pub(super) async fn replay(State(inner): State<Arc<Inner>>, Path(text): Path<String>, uri: Uri) -> Result<Response, Problem> {
    let replayed = letters::replay(&inner.store, id(&text)?, may_be_applied(&uri)?).await;
    match replayed.map_err(|error| Problem::failed(&error))? {
        One::Sent => Ok(json(StatusCode::OK, &Replays { replayed: 1, ..Replays::default() })),
        One::MayBeApplied => {
            Err(Problem::new(StatusCode::CONFLICT, "this message may have been applied: sent again, it would be applied twice")
                .hint(ASK))
        }
        One::Unknown => Err(no_letter(&text)),
        One::Malformed => {
            Err(Problem::new(StatusCode::CONFLICT, "this record could not be read: there is no message to send again")
                .hint("fix the input and send the record again"))
        }
    }
}

pub(super) async fn delete(State(inner): State<Arc<Inner>>, Path(text): Path<String>, uri: Uri) -> Result<Response, Problem> {
    let [] = query(&uri, [])?;
    match letters::delete(&inner.store, id(&text)?).await.map_err(|error| Problem::failed(&error))? {
        true => Ok(json(StatusCode::OK, &Deleted { deleted: 1 })),
        false => Err(no_letter(&text)),
    }
}

fn no_letter(id: &str) -> Problem {
    Problem::not_found(format!("there is no dead letter {id}")).hint("GET /_/dead-letters lists them")
}

pub(super) async fn replay_all(State(inner): State<Arc<Inner>>, uri: Uri) -> Result<Response, Problem> {
    let all = letters::replay_all(&inner.store, may_be_applied(&uri)?).await.map_err(|error| Problem::failed(&error))?;
    let AllReplayed { sent, malformed, may_be_applied } = all;
    let hint = (may_be_applied > 0).then_some(ASK);
    Ok(json(StatusCode::OK, &Replays { replayed: sent, malformed, may_be_applied, hint }))
}

pub(super) async fn delete_malformed(State(inner): State<Arc<Inner>>, uri: Uri) -> Result<Response, Problem> {
    let [asked] = query(&uri, ["malformed"])?;
    if !flag("malformed", asked.as_deref())? {
        return Err(Problem::bad_request("letters of messages are deleted by their ids")
            .hint("DELETE /_/dead-letters/<id>; ?malformed=true deletes all records that could not be read"));
    }
    let deleted = letters::delete_malformed(&inner.store).await.map_err(|error| Problem::failed(&error))?;
    Ok(json(StatusCode::OK, &Deleted { deleted }))
}

pub(super) async fn state(State(inner): State<Arc<Inner>>, Path(address): Path<String>, uri: Uri) -> Result<Response, Problem> {
    let [] = query(&uri, [])?;
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
