//! One POST per record, in order, repeated until it is answered with 2xx or refused too often. The body is the record's line.

use std::{io, sync::Arc, time::Duration};

use axum::http::{HeaderValue, Method, Request, Uri, header, uri::Scheme};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use statefun_core::{EgressRecord, stored::egress_to_json};

use super::{SinkError, Written};
use crate::{
    options::{NotText, basic_authorization},
    views,
};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of an answer that are read, so that the connection can be used again.
const ANSWER_BYTES: usize = 64 << 10;

pub(super) struct HttpSink {
    url: Uri,
    authorization: Option<HeaderValue>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpSink {
    /// # Errors
    /// If there are no certificates by which a receiver over https can be trusted, or the URL's user cannot be sent.
    pub(super) fn new(url: &Uri) -> io::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(REQUEST_TIMEOUT));
        connector.enforce_http(false);
        let tls = tls(url.scheme() == Some(&Scheme::HTTPS))?;
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { url: without_user(url)?, authorization: authorization(url)?, client })
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
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
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

/// Whom to trust: the certificate authorities of this machine, if they are needed.
fn tls(needed: bool) -> io::Result<ClientConfig> {
    // The provider is named: a program may have two, and then none is the default.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let config = match needed {
        true => config.with_native_roots()?,
        false => config.with_root_certificates(RootCertStore::empty()),
    };
    Ok(config.with_no_client_auth())
}

fn authorization(url: &Uri) -> io::Result<Option<HeaderValue>> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "user and password of the URL cannot be sent");
    let Some(value) = basic_authorization(url).map_err(|NotText| invalid())? else { return Ok(None) };
    let mut value = HeaderValue::try_from(value).map_err(|_| invalid())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// What requests name: the URL without `user:password@`.
fn without_user(url: &Uri) -> io::Result<Uri> {
    let mut parts = url.clone().into_parts();
    if let Some((_, host)) = url.authority().and_then(|authority| authority.as_str().rsplit_once('@')) {
        parts.authority = Some(host.parse().map_err(io::Error::other)?);
    }
    Uri::from_parts(parts).map_err(io::Error::other)
}
