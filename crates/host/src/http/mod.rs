//! The HTTP side of a host: an ingress for messages, and routes under `/_/` to look at it and to mend it.
//!
//! There is no authentication: it listens on this machine only, unless told otherwise.

mod admin;
mod feed;
mod ingress;
mod metrics;
mod problem;

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::ListenerExt,
};
use statefun_engine::ports::InstanceStore;
use tokio::net::TcpListener;

use crate::{error::HostError, host::Inner};
use problem::Problem;

/// Requests to the ingress by status.
#[derive(Debug, Default)]
pub(crate) struct Requests(Mutex<BTreeMap<u16, u64>>);

impl Requests {
    fn count(&self, status: StatusCode) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(status.as_u16()).or_default() += 1;
    }

    fn read(&self) -> BTreeMap<u16, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes the address to listen on.
///
/// # Errors
/// [`HostError::Listen`], which says what to do.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, HostError> {
    TcpListener::bind(address).await.map_err(|source| HostError::Listen {
        address,
        advice: match source.kind() {
            io::ErrorKind::AddrInUse => {
                "another program has this port; choose one with `--listen 127.0.0.1:PORT` (port 0 takes a free one), or STATEFUN_LISTEN"
            }
            io::ErrorKind::PermissionDenied => "ports below 1024 need permission; choose one with `--listen 127.0.0.1:PORT`",
            io::ErrorKind::AddrNotAvailable => "this machine has no such address; choose one with `--listen ADDRESS:PORT`",
            _ => "choose another with `--listen ADDRESS:PORT`",
        },
        source,
    })
}

/// Where the data folder says how its host is reached. Of use only while a host has the folder: it may be left by a crash.
pub(crate) const ADDRESS_FILE: &str = "address";

/// Notes for commands that find the folder in use where to ask instead.
pub(crate) fn note_address(data: &Path, address: Option<SocketAddr>) {
    let file = data.join(ADDRESS_FILE);
    let noted = match address {
        Some(address) => fs::write(file, address.to_string()),
        None => fs::remove_file(file),
    };
    if let Err(error) = noted
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, "the address is not noted");
    }
}

/// The address noted by the host that has the folder, if it listens.
pub(crate) fn noted_address(data: &Path) -> Option<SocketAddr> {
    fs::read_to_string(data.join(ADDRESS_FILE)).ok()?.parse().ok()
}

pub(crate) async fn serve(inner: Arc<Inner>, listener: TcpListener) -> Result<(), HostError> {
    let _busy = inner.busy();
    note_address(&inner.options.data, listener.local_addr().ok());
    // Replies are small and awaited: they must not wait for more to send.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let stop = inner.clone();
    let stopped = async move { stop.stopped().await };
    let served = axum::serve(listener, router(inner.clone())).with_graceful_shutdown(stopped);
    served.await.map_err(|source| HostError::Io { what: "the HTTP ingress failed".to_owned(), source })
}

fn router(inner: Arc<Inner>) -> Router {
    // What shows or changes the store; whatever is added to these cannot forget to wait.
    let views = Router::new()
        .route("/health", get(admin::health))
        .route("/metrics", get(metrics::get))
        .route("/dead-letters", get(admin::dead_letters))
        .route("/dead-letters/replay", post(admin::replay_all))
        .route("/dead-letters/{id}/replay", post(admin::replay))
        .route("/state/{*address}", get(admin::state))
        .route_layer(middleware::from_fn_with_state(inner.clone(), once_durable));
    // The ingresses wait for what they take in, and for nothing later.
    let admin = views
        .route("/ingress/{namespace}/{name}", post(feed::post))
        .fallback(admin::unknown)
        .method_not_allowed_fallback(admin::wrong_method);
    Router::new().nest("/_", admin).fallback(ingress::post).with_state(inner)
}

/// Answers once everything is durable that the answer may rest on: a crash must not undo what somebody was shown.
async fn once_durable(State(inner): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    match inner.store.barrier().await {
        Ok(()) => response,
        Err(error) => Problem::failed(&error).into_response(),
    }
}
