//! One POST per record, in order, repeated until it is answered with 2xx or refused too often. The body is the record's line.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderValue, Method, Request, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use statefun_core::{EgressRecord, stored::egress_to_json};

use super::{SinkError, Written};
use crate::views;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of an answer that are read, so that the connection can be used again.
const ANSWER_BYTES: usize = 64 << 10;

pub(super) struct HttpSink {
    url: Uri,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl HttpSink {
    pub(super) fn new(url: Uri) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(REQUEST_TIMEOUT));
        Self { url, client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    pub(super) async fn write(&self, records: &[Arc<EgressRecord>]) -> Written {
        for (count, record) in records.iter().enumerate() {
            let sent = tokio::time::timeout(REQUEST_TIMEOUT, self.post(record)).await;
            if let Err(error) = sent.unwrap_or_else(|elapsed| Err(SinkError::Request(elapsed.into()))) {
                return Written { count, cursor: None, error: Some(error) };
            }
        }
        Written { count: records.len(), cursor: None, error: None }
    }

    async fn post(&self, record: &EgressRecord) -> Result<(), SinkError> {
        let mut body = Vec::new();
        egress_to_json(record, &views::time(record.at), &mut body);
        let header = |text: String| HeaderValue::try_from(text).map_err(|error| SinkError::Request(error.into()));
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().insert("idempotency-key", header(record.id.to_string())?);
        let answer = self.client.request(request).await.map_err(|error| SinkError::Request(error.into()))?;
        let status = answer.status();
        // The status alone counts.
        let _ = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
        match status.is_success() {
            true => Ok(()),
            false => Err(SinkError::Status(status)),
        }
    }
}
