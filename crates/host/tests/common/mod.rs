//! Functions by hand, a host of them, and the smallest HTTP client.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test uses its part of these helpers"
)]

#[cfg(unix)]
pub mod process;

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use statefun_core::{
    Accepted, Address, Context, DeadLetter, Envelope, EnvelopeId, FunctionError, FunctionSpec, Json, OnFailure, Reason, Rules,
    StateSpec, Timestamp, TypeName, TypedValue, Value, ValueSpec,
};
use statefun_embedded::{Embedded, Letter, MalformedRecord};
use statefun_engine::{Functions, Invoke, ports::DeadLetters};
use statefun_host::{Host, HostOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

pub const SEEN: ValueSpec<u64> = ValueSpec::new("seen");
pub const COUNTER: &str = "test/counter";
pub const OUT: &str = "test/out";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub id: String,
    #[serde(default)]
    pub n: Option<i64>,
}

impl Value for Order {
    const TYPE_NAME: TypeName = TypeName::from_static("test/order");
    type Codec = Json;
}

/// A handler from a closure that does not wait.
pub struct Sync<F>(pub F);

#[async_trait]
impl<F> Invoke for Sync<F>
where
    F: Fn(&mut Context, &TypedValue) -> Result<(), FunctionError> + Send + std::marker::Sync,
{
    async fn invoke(&self, context: &mut Context, message: &TypedValue) -> Result<(), FunctionError> {
        (self.0)(context, message)
    }
}

/// A handler that waits for a permit before it counts.
pub struct Gated {
    pub entered: Arc<Notify>,
    pub gate: Arc<tokio::sync::Semaphore>,
}

#[async_trait]
impl Invoke for Gated {
    async fn invoke(&self, context: &mut Context, _: &TypedValue) -> Result<(), FunctionError> {
        self.entered.notify_one();
        self.gate.acquire().await?.forget();
        count(context)
    }
}

pub fn count(context: &mut Context) -> Result<(), FunctionError> {
    let seen = context.get(&SEEN)?.unwrap_or(0) + 1;
    Ok(context.set(&SEEN, seen)?)
}

/// Many attempts: a kill counts as a failure of the message that ran alone, and tests kill a lot.
pub fn spec(name: &str, accepts: Vec<Accepted>) -> FunctionSpec {
    let states = BTreeMap::from([(SEEN.name(), StateSpec::from(&SEEN))]);
    FunctionSpec {
        states,
        accepts,
        on_failure: OnFailure::DeadLetter { max_attempts: 20 },
        ..FunctionSpec::new(TypeName::parse(name).unwrap())
    }
}

/// `test/counter` takes orders and text, counts, and sends every count to the egress `test/out`; `n` = -1 fails for good.
pub fn counter(functions: &mut Functions) {
    let handler = Sync(|context: &mut Context, message: &TypedValue| {
        if message.is::<Order>() && message.get::<Order>()?.is_some_and(|order| order.n == Some(-1)) {
            return Err(FunctionError::terminal("a bad order"));
        }
        count(context)?;
        let text = format!("{} {}", context.address().id(), context.get(&SEEN)?.unwrap_or(0));
        Ok(context.egress(OUT, &text)?)
    });
    functions.add(spec(COUNTER, vec![Accepted::of::<Order>(), Accepted::of::<String>()]), Arc::new(handler));
}

/// `test/silent` counts orders and sends nothing.
pub fn silent(functions: &mut Functions) {
    functions.add(
        spec("test/silent", vec![Accepted::of::<Order>()]),
        Arc::new(Sync(|context: &mut Context, _: &TypedValue| count(context))),
    );
}

pub fn functions() -> Functions {
    let mut functions = Functions::default();
    counter(&mut functions);
    silent(&mut functions);
    functions
}

pub fn options(data: &Path) -> HostOptions {
    let mut options = HostOptions::new(data);
    options.backoff.first = Duration::from_millis(5);
    options.backoff.longest = Duration::from_millis(50);
    options
}

pub fn open(data: &Path) -> Host {
    open_with(functions(), options(data))
}

/// Opens; waits while a former host still lets go of the folder.
pub fn open_with(functions: Functions, options: HostOptions) -> Host {
    for _ in 0..200 {
        match Host::open(functions.clone(), Rules::default(), options.clone()) {
            Ok(host) => return host,
            Err(statefun_host::HostError::Open(statefun_embedded::OpenError::Locked { .. })) => {
                std::thread::sleep(Duration::from_millis(10))
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("the folder stays locked");
}

/// A folder, by the one name that the system has for it.
pub fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    (folder, path)
}

/// Every route that a host serves.
pub const ROUTES: [(&str, &str); 10] = [
    ("GET", "/_/health"),
    ("GET", "/_/metrics"),
    ("GET", "/_/dead-letters"),
    ("POST", "/_/dead-letters/replay"),
    ("POST", "/_/dead-letters/00000000000000000000000000000000/replay"),
    ("DELETE", "/_/dead-letters"),
    ("DELETE", "/_/dead-letters/00000000000000000000000000000000"),
    ("GET", "/_/state/test/counter/a"),
    ("POST", "/_/ingress/a/b"),
    ("POST", "/test/counter/a"),
];

/// A host that runs and serves, in a folder of its own.
pub async fn started(with: impl FnOnce(&mut HostOptions)) -> (tempfile::TempDir, Host, std::net::SocketAddr) {
    let data = tempfile::tempdir().unwrap();
    let mut options = options(data.path());
    with(&mut options);
    let host = open_with(functions(), options);
    host.start();
    let to = serve(&host).await;
    (data, host, to)
}

/// Ends a host as `kill -9` would: what is not durable is lost.
pub fn crash(host: Host) {
    let store = host.store().clone();
    drop(host);
    store.abandon();
}

pub fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub fn seen(host: &Host, of: &str) -> u64 {
    let record = host.store().record(&address(of)).unwrap();
    record.and_then(|record| record.state.get(SEEN.name())?.value.get().unwrap()).unwrap_or(0)
}

pub fn order(id: &str, n: i64) -> Order {
    Order { id: id.into(), n: Some(n) }
}

/// The values of an egress's file.
pub fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        json["value"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned()
    };
    text.lines().map(line).collect()
}

pub fn out_file(data: &Path) -> std::path::PathBuf {
    data.join("egress/test/out.jsonl")
}

/// Serves the host on a free port.
pub async fn serve(host: &Host) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let host = host.clone();
    tokio::spawn(async move { host.serve(listener).await.unwrap() });
    address
}

pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub async fn request(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head += "Host: localhost\r\n";
    }
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    // The host may answer and close before it has read all.
    let _ = stream.write_all(body).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

pub async fn post(to: SocketAddr, path: &str, content_type: &str, body: &str) -> Reply {
    request(to, "POST", path, &[("Content-Type", content_type)], body.as_bytes()).await
}

/// Parks a text for this address as older than the ledger's memory: it may have been applied. Returns the letter's id.
pub async fn park_too_old(store: &Embedded, to: &str) -> String {
    let to = address(to);
    let envelope = Envelope {
        id: EnvelopeId::of_ingress("test", b"old", to.function()),
        to,
        from: None,
        sent_at: Timestamp(1),
        keyed: false,
        hops: 0,
        trace: None,
        messages: vec![TypedValue::of(&"old".to_owned()).unwrap()],
    };
    let (id, at, reason) = (EnvelopeId([7; 16]), Timestamp(2), Reason::TooOld);
    store.park(&DeadLetter { id, at, reason, error: "it is too old".to_owned(), attempts: 0, envelope }).await.unwrap();
    id.to_string()
}

/// What lies among the dead letters, if that is malformed records only.
pub fn malformed(host: &Host) -> Vec<MalformedRecord> {
    let record = |letter| match letter {
        Letter::Malformed(record) => record,
        other => panic!("{other:?}"),
    };
    host.store().letters(None, 100).unwrap().into_iter().map(record).collect()
}
