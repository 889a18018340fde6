//! The HTTP side of a host: an ingress for messages, and routes under `/_/` to look at it and to repair it.
//!
//! Every request passes the [`guard`] first.

mod admin;
mod body;
mod connections;
mod content;
mod feed;
mod guard;
mod ingress;
mod metrics;
mod problem;
mod request;

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
    routing::{delete, get, post},
};
use statefun_engine::ports::InstanceStore;
use tokio::net::TcpListener;

use crate::{access::Access, error::HostError, host::Inner};
use guard::Guard;
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

/// Where a host listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) address: SocketAddr,
    /// Whether it answers only those who have its token.
    pub(crate) token: bool,
}

/// The second line of the note, if a token is needed.
const TOKEN: &str = "token";

/// Notes for commands that find the folder in use where to ask instead.
pub(crate) fn note_address(data: &Path, noted: Option<Noted>) {
    let file = data.join(ADDRESS_FILE);
    let noted = match noted {
        Some(Noted { address, token: false }) => fs::write(file, address.to_string()),
        Some(Noted { address, token: true }) => fs::write(file, format!("{address}\n{TOKEN}")),
        None => fs::remove_file(file),
    };
    if let Err(error) = noted
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, "the address is not noted");
    }
}

/// What the host that has the folder noted, if it listens.
pub(crate) fn noted_address(data: &Path) -> Option<Noted> {
    let text = fs::read_to_string(data.join(ADDRESS_FILE)).ok()?;
    let mut lines = text.lines();
    Some(Noted { address: lines.next()?.parse().ok()?, token: lines.next() == Some(TOKEN) })
}

/// Refuses to answer whoever reaches an address that other machines reach, too.
pub(crate) fn check_reach(address: SocketAddr, access: &Access) -> Result<(), String> {
    match is_loopback(address) || access.token.is_some() {
        true => Ok(()),
        false => Err(format!(
            "other machines reach {address}, and could send messages and read state: set STATEFUN_TOKEN or `--token-file FILE` to \
             what requests have to carry, or listen on 127.0.0.1"
        )),
    }
}

pub(crate) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

pub(crate) async fn serve(inner: Arc<Inner>, listener: TcpListener) -> Result<(), HostError> {
    let _busy = inner.busy();
    let failed = |source| HostError::Io { what: "the HTTP ingress failed".to_owned(), source };
    let (address, access) = (listener.local_addr().map_err(failed)?, inner.options.access.clone());
    check_reach(address, &access).map_err(|problem| HostError::Config(vec![problem]))?;
    note_address(&inner.options.data, Some(Noted { address, token: access.token.is_some() }));
    let guard = Arc::new(Guard { access, on_loopback: is_loopback(address) });
    let stop = inner.clone();
    let stopped = async move { stop.stopped().await };
    connections::serve(listener, router(inner.clone(), guard), inner.options.header_timeout, stopped).await;
    Ok(())
}

fn router(inner: Arc<Inner>, guarded: Arc<Guard>) -> Router {
    // What shows or changes the store; whatever is added to these cannot forget to wait.
    let views = Router::new()
        .route("/health", get(admin::health))
        .route("/metrics", get(metrics::get))
        .route("/dead-letters", get(admin::dead_letters).delete(admin::delete_malformed))
        .route("/dead-letters/replay", post(admin::replay_all))
        .route("/dead-letters/{id}", delete(admin::delete))
        .route("/dead-letters/{id}/replay", post(admin::replay))
        .route("/state/{*address}", get(admin::state))
        .route_layer(middleware::from_fn_with_state(inner.clone(), once_durable));
    // The ingresses wait for what they take in, and for nothing later.
    let admin = views
        .route("/ingress/{namespace}/{name}", post(feed::post))
        .fallback(admin::unknown)
        .method_not_allowed_fallback(admin::wrong_method);
    // The last is the first that a request comes to.
    Router::new()
        .nest("/_", admin)
        .fallback(ingress::post)
        .layer(middleware::from_fn(request::checked))
        .layer(middleware::from_fn_with_state(guarded, guard::guard))
        .layer(middleware::from_fn_with_state(inner.clone(), body::drop_rest))
        .with_state(inner)
}

/// Answers once everything is durable that the answer may rest on: a crash must not undo what somebody was shown.
async fn once_durable(State(inner): State<Arc<Inner>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    match inner.store.barrier().await {
        Ok(()) => response,
        Err(error) => Problem::failed(&error).into_response(),
    }
}
