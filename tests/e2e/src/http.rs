//! Plain HTTP requests to the emulator, for services that have no client here.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::problem::{Problem, Result};

/// Region of everything.
pub(crate) const REGION: &str = "us-east-1";

/// How long one request may take. Invocations last longest.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) type Connections = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn connections() -> Connections {
    Client::builder(TokioExecutor::new()).build_http()
}

/// A way to talk to one account.
#[derive(Clone)]
pub(crate) struct Http {
    connections: Connections,
    endpoint: String,
    account: String,
}

impl Http {
    pub(crate) fn new(endpoint: &str, account: &str) -> Self {
        Self { connections: connections(), endpoint: endpoint.to_owned(), account: account.to_owned() }
    }

    pub(crate) fn account(&self) -> &str {
        &self.account
    }

    /// Sends a request as the account, and returns the body of a good answer.
    pub(crate) async fn call(
        &self,
        method: Method,
        service: &str,
        path: &str,
        kind: &str,
        body: impl Into<Bytes>,
    ) -> Result<Bytes> {
        let credential = format!("AWS4-HMAC-SHA256 Credential={}/20260101/{REGION}/{service}/aws4_request", self.account);
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint))
            .header("authorization", format!("{credential}, SignedHeaders=host, Signature=none"))
            .header("x-amz-date", "20260101T000000Z")
            .header("content-type", kind)
            .body(Full::new(body.into()))?;
        let reply = tokio::time::timeout(TIMEOUT, self.connections.request(request));
        let reply = reply.await.map_err(|_| Problem::new(format!("{service} {path}: no answer within {TIMEOUT:?}")))??;
        let (status, body) = read(reply).await?;
        if status.is_success() {
            return Ok(body);
        }
        Err(Problem::new(format!("{service} {path}: {status} {}", String::from_utf8_lossy(&body))))
    }

    /// A call in the query form that CloudFormation takes.
    pub(crate) async fn query(&self, service: &str, parameters: &[(String, String)]) -> Result<String> {
        let mut body = String::new();
        for (name, value) in parameters {
            body.push_str(if body.is_empty() { "" } else { "&" });
            body.push_str(&format!("{}={}", encode(name), encode(value)));
        }
        let reply = self.call(Method::POST, service, "/", "application/x-www-form-urlencoded", body).await?;
        Ok(String::from_utf8_lossy(&reply).into_owned())
    }

    /// Invokes a Lambda and waits for its answer.
    pub(crate) async fn invoke(&self, function: &str, event: &serde_json::Value) -> Result<serde_json::Value> {
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let reply = self.call(Method::POST, "lambda", &path, "application/json", event.to_string()).await?;
        let answer: serde_json::Value = serde_json::from_slice(&reply)?;
        if answer.get("errorType").is_some() {
            return Err(Problem::new(format!("the Lambda {function} failed: {answer}")));
        }
        Ok(answer)
    }
}

/// Status and whole body of an answer.
pub(crate) async fn read(reply: Response<hyper::body::Incoming>) -> Result<(StatusCode, Bytes)> {
    let (head, body) = reply.into_parts();
    Ok((head.status, body.collect().await?.to_bytes()))
}

/// Percent-encodes what a form or a query may not hold.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte.into()),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// The texts of all elements of this name, of XML without attributes in them.
pub(crate) fn elements<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(open.as_str()).skip(1).filter_map(|rest| rest.split_once(close.as_str())).map(|(text, _)| text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_xml() {
        assert_eq!(encode("a b/c~é"), "a%20b%2Fc~%C3%A9");
        assert_eq!(elements("<a><k>1</k><k>2</k></a>", "k"), ["1", "2"]);
        assert!(elements("<a><k>1", "k").is_empty());
    }
}
