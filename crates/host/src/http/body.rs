//! Bodies: none larger than a message, none slower than a host has patience for. What a refused request still sends is read and
//! dropped: if it were not, the connection would be reset, and many clients would never see the answer.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, Bytes, HttpBody as _},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use statefun_core::limits::MAX_MESSAGE_BYTES;
use tokio::time::{Instant, timeout, timeout_at};

use super::problem::Problem;
use crate::host::Inner;

/// Bytes that are dropped of a body that nobody reads. On a body that says it is longer the connection just ends.
const MAX_DROPPED_BYTES: u64 = 128 * 1_024 * 1_024;
/// How long the next bytes of a dropped body are waited for.
const DROP_PAUSE: Duration = Duration::from_secs(2);

/// Reads the body, never more of it than a message may have, and no longer than the host waits.
pub(super) async fn read(inner: &Inner, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let too_large = || Problem::too_large(format!("a message has {MAX_MESSAGE_BYTES} bytes at most"));
    if declared(headers).is_some_and(|length| length > MAX_MESSAGE_BYTES as u64) {
        return Err(too_large());
    }
    let patience = inner.options.body_timeout;
    match timeout(patience, Limited::new(body, MAX_MESSAGE_BYTES).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Problem::bad_request(format!("the body did not arrive whole: {error}"))),
        Err(_) => Err(Problem::too_slow(patience)),
    }
}

/// Drops what is left of a body once the answer is known.
pub(super) async fn drop_rest(State(inner): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let deadline = Instant::now() + inner.options.body_timeout;
    let (head, body) = request.into_parts();
    let long = declared(&head.headers).is_some_and(|length| length > MAX_DROPPED_BYTES);
    let waits = head.headers.contains_key(header::EXPECT);
    let mut rest = Rest(Arc::new(Mutex::new(Shared { body: body.into_data_stream(), asked: false, ended: false })));
    let mut response = next.run(Request::from_parts(head, Body::from_stream(rest.clone()))).await;
    // Whoever waits for `100 Continue` has sent nothing, unless somebody read.
    let sends = rest.look(|shared| shared.asked || !waits);
    if sends && !long {
        rest.drop_until(deadline).await;
    }
    if !rest.look(|shared| shared.ended) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A body that its handler reads as far as it likes.
#[derive(Clone)]
struct Rest(Arc<Mutex<Shared>>);

struct Shared {
    body: BodyDataStream,
    /// Whether anybody has read of it.
    asked: bool,
    /// Whether all of it has come, or no more will.
    ended: bool,
}

impl Rest {
    fn look<T>(&self, at: impl FnOnce(&mut Shared) -> T) -> T {
        at(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn drop_until(&mut self, deadline: Instant) {
        let mut dropped = 0;
        while dropped <= MAX_DROPPED_BYTES {
            let pause = deadline.min(Instant::now() + DROP_PAUSE);
            match timeout_at(pause, self.next()).await {
                Ok(Some(Ok(bytes))) => dropped += bytes.len() as u64,
                _ => return,
            }
        }
    }
}

impl Stream for Rest {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.look(|shared| {
            shared.asked = true;
            if shared.ended {
                return Poll::Ready(None);
            }
            let next = ready!(shared.body.poll_next_unpin(cx));
            shared.ended = !matches!(next, Some(Ok(_)));
            Poll::Ready(next)
        })
    }
}
