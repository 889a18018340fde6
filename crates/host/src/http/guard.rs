//! Whom a host answers. Pages of a browser reach the loopback, too: what other programs on this machine may do, they may not.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::problem::Problem;
use crate::access::Access;

/// Whom a listener answers.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) access: Access,
    /// Whether only this machine reaches it.
    pub(super) on_loopback: bool,
}

pub(super) async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let page = match guard.page(&head) {
        Ok(page) => page,
        Err(problem) => return problem.into_response(),
    };
    // A browser asks without the token whether its page may ask with it.
    let asks = head.method == Method::OPTIONS && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if let (Some(page), true) = (&page, asks) {
        return preflight(page, &head.headers);
    }
    let mut response = match guard.knows_token(&head.headers) {
        Ok(()) => next.run(Request::from_parts(head, body)).await,
        Err(problem) => problem.into_response(),
    };
    if let Some(page) = page {
        allow(&mut response, page);
    }
    response
}

impl Guard {
    /// The origin of the page that asks, if it is another one than the host's own and allowed.
    fn page(&self, head: &Parts) -> Result<Option<HeaderValue>, Problem> {
        let host = host(head)?;
        if !self.access.serves(&host, self.on_loopback) {
            return Err(Problem::new(StatusCode::FORBIDDEN, format!("requests for `{}` are not served here", host.host()))
                .hint("ask for localhost; `--allow-host NAME` lets another name in"));
        }
        let Some(origin) = head.headers.get(header::ORIGIN) else { return Ok(None) };
        let text = origin.to_str().unwrap_or("");
        let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        if authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str())) {
            return Ok(None);
        }
        match self.access.allows_origin(text) {
            true => Ok(Some(origin.clone())),
            false => Err(Problem::new(StatusCode::FORBIDDEN, format!("pages of `{text}` may not ask this host"))
                .hint("`--allow-origin ORIGIN` lets pages of an origin ask")),
        }
    }

    fn knows_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.access.token else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().split_first_chunk::<7>());
        match given {
            Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"bearer ") && token.is(given) => Ok(()),
            _ => Err(Problem::unauthorized()),
        }
    }
}

/// What the request says it is for: in its line, or else in its one `Host`.
fn host(head: &Parts) -> Result<Authority, Problem> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let named = match (head.uri.authority(), hosts.next(), hosts.next()) {
        (Some(authority), ..) => Some(authority.clone()),
        (None, Some(host), None) => host.to_str().ok().and_then(|host| host.parse().ok()),
        _ => None,
    };
    let named = named.filter(|host| !host.as_str().contains('@'));
    named.ok_or_else(|| Problem::bad_request("a request names its host in one header `Host`"))
}

fn preflight(page: &HeaderValue, asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    allow(&mut response, page.clone());
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
    if let Some(asked) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    response
}

fn allow(response: &mut Response, page: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, page);
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
}
