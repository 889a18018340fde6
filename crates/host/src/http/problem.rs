//! Refusals over HTTP: a status, what is wrong, and what to do.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use statefun_core::{TypeName, Value};

use crate::error::{Refusal, SendError, UnknownFunction, chain};

/// An answer that is not the one asked for. Its body is `{"error", "hint"}`.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    error: String,
    hint: Option<String>,
    header: Option<Header>,
}

/// A header that belongs to a status.
#[derive(Debug, Clone, Copy)]
enum Header {
    Allow(&'static str),
    RetryAfterOneSecond,
    Bearer,
}

#[derive(Serialize)]
struct Form<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: None, header: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(super) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    pub(super) fn method(allowed: &'static str) -> Self {
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allowed} only"));
        problem.header = Some(Header::Allow(allowed));
        problem
    }

    /// Without the host's token.
    pub(super) fn unauthorized() -> Self {
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, "this host answers only those who have its token")
            .hint("send it in the header `Authorization: Bearer TOKEN`; it is what STATEFUN_TOKEN or `--token-file` says");
        problem.header = Some(Header::Bearer);
        problem
    }

    /// Not now; soon again.
    pub(super) fn busy(error: impl Into<String>) -> Self {
        let mut problem =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, error).hint("nothing was taken in: send the same request again later");
        problem.header = Some(Header::RetryAfterOneSecond);
        problem
    }

    pub(super) fn too_slow(patience: Duration) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {patience:?}"))
            .hint("nothing was taken in: send the same request again")
    }

    pub(super) fn too_large(error: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, error).hint("keep big data in an object store and send its key")
    }

    pub(super) fn failed(error: &dyn std::error::Error) -> Self {
        tracing::warn!(error = chain(error), "a request failed");
        let hint = "the request may have taken effect; with an Idempotency-Key it can be sent again without harm";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, chain(error)).hint(hint)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let error = refusal.to_string();
        match refusal {
            Refusal::TooBig { .. } => Self::too_large(error),
            Refusal::Unreadable(_) => Self::bad_request(error),
            Refusal::Type { accepted, .. } => {
                Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error).hint(match accepted.is_empty() {
                    true => "it takes any type: say which with `Content-Type: application/vnd.<namespace>/<name>`".to_owned(),
                    false => {
                        let said = |name: &TypeName| match *name == String::TYPE_NAME {
                            true => "text/plain".to_owned(),
                            false => format!("application/vnd.{name}"),
                        };
                        let types: Vec<_> = accepted.iter().map(said).collect();
                        format!("send one of these as Content-Type: {}", types.join(", "))
                    }
                })
            }
        }
    }
}

impl From<UnknownFunction> for Problem {
    fn from(unknown: UnknownFunction) -> Self {
        let names: Vec<_> = unknown.known.iter().map(ToString::to_string).collect();
        let hint = match names.is_empty() {
            true => "this application has no functions".to_owned(),
            false => format!("this application has {}", names.join(", ")),
        };
        Self::not_found(unknown.to_string()).hint(hint)
    }
}

impl From<SendError> for Problem {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Refused(refusal) => refusal.into(),
            SendError::UnknownFunction(unknown) => unknown.into(),
            SendError::KeyReused => Self::new(StatusCode::CONFLICT, "this Idempotency-Key was used before, with another body")
                .hint("nothing was taken in: a new message needs a new key, a repeated one the same content type and body"),
            SendError::Stopping => Self::busy(error.to_string()),
            SendError::Address(_) => Self::bad_request(error.to_string()),
            SendError::Store(_) | SendError::Random(_) => Self::failed(&error),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let form = Form { error: &self.error, hint: self.hint.as_deref() };
        let mut response = json(self.status, &form);
        if let Some(given) = self.header {
            let (name, value) = match given {
                Header::Allow(methods) => (header::ALLOW, methods),
                Header::RetryAfterOneSecond => (header::RETRY_AFTER, "1"),
                Header::Bearer => (header::WWW_AUTHENTICATE, "Bearer"),
            };
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// An answer with a JSON body and a line end, so that it reads well in a terminal.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    // What is answered are strings, numbers and lists of them: serde_json cannot fail on these.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
