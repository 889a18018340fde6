//! One POST per record, in order, repeated until it is answered with 2xx.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderValue, Method, Request, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use statefun_core::EgressRecord;

use super::{SinkError, Written};

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
        let body = record.value.value.clone().unwrap_or_default();
        let header = |text: String| HeaderValue::try_from(text).map_err(|error| SinkError::Request(error.into()));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        request.headers_mut().insert(header::CONTENT_TYPE, header(format!("application/vnd.{}", record.value.type_name))?);
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
