//! What stands between the functions and the emulator: passes calls on, counts them, and makes some of them fail.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::{
    faults::{Call, Fault, Faults, refusal, with_failed_entry, without_entry},
    http::{Connections, connections, read},
    problem::{Problem, Result},
};

/// The proxy. It serves until the runtime ends.
#[derive(Clone)]
pub(crate) struct Proxy {
    address: SocketAddr,
    upstream: Arc<OnceLock<SocketAddr>>,
    connections: Connections,
    faults: Arc<Faults>,
}

impl Proxy {
    /// Listens on a port of its own.
    pub(crate) async fn start(faults: Arc<Faults>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = Self { address: listener.local_addr()?, upstream: Arc::default(), connections: connections(), faults };
        tokio::spawn(proxy.clone().serve(listener));
        Ok(proxy)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on calls are passed on to this address.
    pub(crate) fn pass_on_to(&self, upstream: SocketAddr) {
        // It is said once.
        let _ = self.upstream.set(upstream);
    }

    async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let proxy = self.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| proxy.handle(request));
                // An error is a lost answer, or a function that was killed: both are meant.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    /// An error closes the connection without an answer.
    async fn handle(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let request = Request::from_parts(head, body);
        let Some(call) = Call::of(&request) else { return self.forward(request).await };
        match self.faults.decide(&call) {
            None => self.forward(request).await,
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                self.forward(request).await
            }
            Some(Fault::LoseAnswer) => {
                self.forward(request).await?;
                Err(io::Error::other("the answer is lost"))
            }
            Some(Fault::FailEntries) => self.forward_part(&call, request).await,
            Some(fault @ (Fault::Throttle | Fault::Fail | Fault::Conflict | Fault::Deny | Fault::Missing)) => {
                let (status, body) = refusal(&call, fault);
                let kind = if call.service == "sns" { "text/xml" } else { "application/x-amz-json-1.0" };
                let reply = Response::builder().status(status).header("content-type", kind);
                reply.body(Full::new(body.into())).map_err(io::Error::other)
            }
        }
    }

    /// Passes a batch on without one of its entries, and says that this one failed.
    async fn forward_part(&self, call: &Call, request: Request<Bytes>) -> io::Result<Response<Full<Bytes>>> {
        let Some((rest, id)) = without_entry(request.body(), |count| self.faults.below(count)) else {
            self.faults.missed(call, Fault::FailEntries);
            return self.forward(request).await;
        };
        let reply = self.forward(request.map(|_| rest)).await?;
        let (mut head, body) = reply.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        head.headers.remove("content-length");
        let body = with_failed_entry(&body, &id).unwrap_or(body);
        Ok(Response::from_parts(head, Full::new(body)))
    }

    async fn forward(&self, request: Request<Bytes>) -> io::Result<Response<Full<Bytes>>> {
        let upstream = self.upstream.get().ok_or_else(|| io::Error::other("there is nothing to pass calls on to yet"))?;
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut passed = Request::builder().method(head.method).uri(format!("http://{upstream}{path}"));
        for (name, value) in &head.headers {
            if !["connection", "content-length", "transfer-encoding", "expect"].contains(&name.as_str()) {
                passed = passed.header(name, value);
            }
        }
        let passed = passed.body(Full::new(body)).map_err(io::Error::other)?;
        let reply = self.connections.request(passed).await.map_err(io::Error::other)?;
        let mut headers = reply.headers().clone();
        for name in ["connection", "content-length", "transfer-encoding"] {
            headers.remove(name);
        }
        let (status, body) = read(reply).await.map_err(|problem: Problem| io::Error::other(problem.to_string()))?;
        let mut reply = Response::new(Full::new(body));
        *reply.status_mut() = status;
        *reply.headers_mut() = headers;
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::{faults::Rule, http::Http};

    /// A service that answers every batch, and counts.
    async fn service(count: Arc<std::sync::atomic::AtomicU64>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let count = count.clone();
                let answer = service_fn(move |_: Request<Incoming>| {
                    count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"good")))) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        address
    }

    #[tokio::test]
    async fn passes_on_fails_before_and_fails_after() {
        let count = Arc::<std::sync::atomic::AtomicU64>::default();
        let faults = Arc::new(Faults::new(1));
        let proxy = Proxy::start(faults.clone()).await.unwrap();
        proxy.pass_on_to(service(count.clone()).await);
        let http = Http::new(&format!("http://{}", proxy.address()), "111111111111");
        let form = [("Action".to_owned(), "Publish".to_owned())];
        let publish = || http.query("sns", &form);
        let passed_on = || count.load(std::sync::atomic::Ordering::Relaxed);

        assert_eq!((publish().await.unwrap().as_str(), passed_on()), ("good", 1));
        for (fault, takes_effect) in [(Fault::Throttle, false), (Fault::Fail, false), (Fault::LoseAnswer, true)] {
            let (account, before) = ("111111111111".to_owned(), passed_on());
            faults.add([Rule { account, service: "sns", actions: &["Publish"], fault, probability: 1.0 }]);
            assert!(publish().await.is_err(), "{fault:?}");
            assert_eq!(passed_on() > before, takes_effect, "{fault:?}");
            faults.clear("111111111111");
        }
        assert_eq!(publish().await.unwrap(), "good");
    }
}
