//! Requests to a local host: their first line and headers, as they come over a socket.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use percent_encoding::percent_decode;
use statefun_core::{Context, FunctionError, FunctionSpec, Rules, TypeName, TypedValue};
use statefun_engine::{Functions, Invoke};
use statefun_host::{Host, HostOptions};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};

use super::{ensure, shape};
use crate::{Check, Target};

pub(crate) const HTTP: Target = Target {
    name: "http",
    words: &[
        "POST ",
        "GET ",
        "/a/b/",
        "/_/state/a/b/",
        "/_/dead-letters",
        "?limit=1",
        "?after=",
        "/_/ingress/a/b",
        "/_/health",
        "%20",
        "%C3%BC",
        "%2F",
        "%00",
        "%ff",
        "?",
        "#",
        "//",
        "/../",
        " HTTP/1.1",
        "Host: localhost",
        "Idempotency-Key: k",
        "Content-Type: text/plain",
        "Origin: null",
        "?a=b",
        ";",
    ],
    start,
};

/// Takes messages to `a/b` and notes for whom they are.
struct Notes(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Invoke for Notes {
    async fn invoke(&self, context: &mut Context, _: &TypedValue) -> Result<(), FunctionError> {
        if let Ok(mut ids) = self.0.lock() {
            ids.push(context.address().id().to_owned());
        }
        Ok(())
    }
}

struct Server {
    runtime: Runtime,
    host: Host,
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    _data: TempDir,
}

impl Server {
    fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let (runtime, data, seen) = (Runtime::new()?, tempfile::tempdir()?, Arc::<Mutex<Vec<String>>>::default());
        let mut functions = Functions::default();
        functions.add(FunctionSpec::new(TypeName::from_static("a/b")), Arc::new(Notes(seen.clone())));
        let (host, address) = runtime.block_on(async {
            let mut options = HostOptions::new(data.path());
            (options.header_timeout, options.body_timeout) = (Duration::from_secs(2), Duration::from_secs(2));
            let host = Host::open(functions, Rules::default(), options)?;
            host.start();
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let (address, server) = (listener.local_addr()?, host.clone());
            tokio::spawn(async move { server.serve(listener).await });
            Ok::<_, Box<dyn std::error::Error>>((host, address))
        })?;
        Ok(Self { runtime, host, address, seen, _data: data })
    }

    fn ask(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(request)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }

    /// The receivers of the messages that were taken.
    fn receivers(&self) -> Result<Vec<String>, String> {
        self.runtime.block_on(self.host.idle()).map_err(|error| error.to_string())?;
        Ok(self.seen.lock().map(|mut seen| std::mem::take(&mut *seen)).unwrap_or_default())
    }
}

fn start() -> Check {
    let server = Server::start().map_err(|error| format!("the host does not start: {error}"));
    Box::new(move |input| check(server.as_ref().map_err(String::clone)?, input))
}

/// The input is the request's line after the method, and headers. No end of them stands in it.
fn check(server: &Server, input: &[u8]) -> Result<String, String> {
    let head: Vec<u8> = input.iter().copied().filter(|byte| *byte != b'\r').collect();
    let head = head.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect::<Vec<_>>().join(&b"\r\n"[..]);
    let target = head
        .split(|byte| *byte == b'\r')
        .next()
        .and_then(|line| line.split(|byte| *byte == b' ').nth(1))
        .unwrap_or_default()
        .to_vec();
    let request = [&head[..], b"\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"].concat();
    let answer = server.ask(&request).map_err(|error| format!("no answer: {error}"))?;
    let text = String::from_utf8(answer).map_err(|error| format!("the answer is not UTF-8: {error}"))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("the answer has no end of its head: {text:?}"))?;
    let status: u16 =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| format!("no status: {head:?}"))?;
    ensure((200..500).contains(&status) || status == 505, || format!("{status}: {body}"))?;
    // What is not HTTP at all is answered by the library, without a body; so is HEAD.
    let json = body.is_empty() || head.contains("text/plain") || serde_json::from_str::<serde_json::Value>(body).is_ok();
    ensure(json, || format!("{status} and no JSON: {body}"))?;
    let receivers = server.receivers()?;
    match &receivers[..] {
        // A key that was used before means a message that was taken.
        [] => ensure(status != 202 || body.contains("\"duplicate\":true"), || format!("{status}, and nobody gets it: {body}"))?,
        [id] => {
            ensure(status == 202, || format!("{status}, and {id:?} gets the message"))?;
            let said = receiver(&target);
            ensure(said.as_ref() == Some(id), || format!("{said:?} is asked for, {id:?} gets the message"))?;
        }
        more => return Err(format!("one request, and {more:?} get the message")),
    }
    // An answer holds ids, which are all different.
    Ok(format!("{status} {}", if status < 300 { String::new() } else { shape(body) }))
}

/// The id in a request's target: all that is behind the function's name. A fragment is for the client alone; HTTP's library drops one.
fn receiver(target: &[u8]) -> Option<String> {
    let path = target.split(|byte| matches!(byte, b'?' | b'#')).next()?;
    let scheme = path.windows(3).position(|part| part == b"://").filter(|_| !path.starts_with(b"/"));
    let path = match scheme {
        Some(scheme) => {
            let authority = &path[scheme + 3..];
            &authority[authority.iter().position(|byte| *byte == b'/')?..]
        }
        None => path,
    };
    Some(percent_decode(path.strip_prefix(b"/a/b/")?).decode_utf8_lossy().into_owned())
}
