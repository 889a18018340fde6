//! `POST /<namespace>/<name>/<id>`: one message to one address.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Method, Request, StatusCode},
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use statefun_core::Address;
use statefun_ingress::traceparent;

use super::{
    body, content,
    problem::{Problem, json},
    request::query,
};
use crate::{accept::find, host::Inner, ingress::Message};

/// Bytes of an idempotency key.
const MAX_KEY_BYTES: usize = 512;

#[derive(Serialize)]
struct Accepted {
    id: String,
    /// Sent with an idempotency key that was used before: nothing was taken in.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

pub(super) async fn post(State(inner): State<Arc<Inner>>, request: Request<Body>) -> Response {
    let response = match take(&inner, request).await {
        Ok(accepted) => json(StatusCode::ACCEPTED, &accepted),
        Err(problem) => problem.into_response(),
    };
    inner.requests.count(response.status());
    response
}

async fn take(inner: &Inner, request: Request<Body>) -> Result<Accepted, Problem> {
    let (head, body) = request.into_parts();
    let path = path(head.uri.path())?;
    let function = find(inner.engine.functions(), &path.function)?;
    if head.method != Method::POST {
        let state = format!("the state of this address is at /_/state{}", head.uri.path());
        return Err(Problem::method("POST").hint(state));
    }
    let to = Address::new(function.spec.name.clone(), &path.id).map_err(|error| Problem::bad_request(error.to_string()))?;
    let [] = query(&head.uri, [])?;
    let key = key(&head.headers)?;
    let content = content::content(&head.headers, &function.spec)?;
    inner.check_room()?;
    let value = content::read(&function.spec, &content, body::read(inner, &head.headers, body).await?)?;
    let message = Message { to, value, key, trace: trace(&head.headers) };
    let submitted = inner.take_in(vec![message]).await?;
    // Nothing is said before it is true: the reply waits for the disk.
    inner.store.durable(submitted.op).await.map_err(|error| Problem::failed(&error))?;
    let id = submitted.ids.first().map(ToString::to_string).unwrap_or_default();
    Ok(Accepted { id, duplicate: submitted.accepted.first() == Some(&false) })
}

impl Inner {
    /// Whether a message may come in now.
    pub(super) fn check_room(&self) -> Result<(), Problem> {
        if self.is_stopping() {
            return Err(Problem::busy("the host is shutting down"));
        }
        let waiting = self.store.waiting().messages;
        match waiting >= self.options.max_waiting {
            true => Err(Problem::busy(format!("{waiting} messages wait, more are not taken in"))),
            false => Ok(()),
        }
    }
}

struct Path {
    function: String,
    id: String,
}

/// The parts of a path: what comes after the second part is the id, whatever is in it.
fn path(path: &str) -> Result<Path, Problem> {
    let mut parts = path.strip_prefix('/').unwrap_or(path).splitn(3, '/');
    let (Some(namespace), Some(name), Some(id)) = (parts.next(), parts.next(), parts.next().filter(|id| !id.is_empty())) else {
        return Err(Problem::not_found("there is nothing here").hint("send messages to POST /<namespace>/<name>/<id>"));
    };
    // It is known to be UTF-8.
    let decode = |text| percent_decode_str(text).decode_utf8_lossy();
    Ok(Path { function: format!("{}/{}", decode(namespace), decode(name)), id: decode(id).into_owned() })
}

pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    match key.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= MAX_KEY_BYTES => Ok(Some(key.to_owned())),
        _ => Err(Problem::bad_request(format!("an Idempotency-Key has 1 to {MAX_KEY_BYTES} ASCII characters"))),
    }
}

/// W3C `traceparent`, if there is one.
pub(super) fn trace(headers: &HeaderMap) -> Option<String> {
    traceparent(headers.get("traceparent")?.to_str().ok()?).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let ok = |text| path(text).map(|path| (path.function, path.id)).unwrap();
        assert_eq!(ok("/a/b/c"), ("a/b".into(), "c".into()));
        assert_eq!(ok("/a/b/c/d%2Fe%20f/"), ("a/b".into(), "c/d/e f/".into()));
        for bad in ["", "/", "/a", "/a/b", "/a/b/"] {
            assert_eq!(path(bad).err().map(|problem| problem.status), Some(StatusCode::NOT_FOUND), "{bad}");
        }
    }
}
