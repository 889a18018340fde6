//! Services that give their answers by a script, for tests of what the adapters make of them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_dynamodb::config::{AsyncSleep, Credentials, Region, SharedCredentialsProvider, Sleep, retry::RetryConfig};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;

use crate::clients::Clients;

/// An answer: status and body, where `$TAG` stands for the tag in what was asked; `None` is a connection that broke.
pub(crate) type Answer = Option<(u16, String)>;

/// Gives its answers in turn and keeps what was asked: operations and bodies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<(String, serde_json::Value)>>>,
}

impl Script {
    /// Clients of services that give these answers.
    pub(crate) fn clients(answers: impl IntoIterator<Item = Answer>) -> (Clients, Self) {
        let script = Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() };
        let connector = script.clone();
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("a", "b", None, None, "test")))
            .http_client(http_client_fn(move |_, _| SharedHttpConnector::new(connector.clone())))
            .sleep_impl(NoSleep)
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .build();
        (Clients::new(&config), script)
    }

    /// All that was asked so far.
    pub(crate) fn asked(&self) -> Vec<(String, serde_json::Value)> {
        self.asked.lock().unwrap().clone()
    }

    /// The operations that were asked for so far.
    pub(crate) fn operations(&self) -> Vec<String> {
        self.asked().into_iter().map(|(operation, _)| operation).collect()
    }

    /// Whether every answer was asked for.
    pub(crate) fn is_over(&self) -> bool {
        self.answers.lock().unwrap().is_empty()
    }
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default().rsplit('.').next().unwrap_or_default().to_owned();
        let body = serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
        let tag = tag_of(&body).unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push((target, body));
        HttpConnectorFuture::ready(match self.answers.lock().unwrap().pop_front().flatten() {
            Some((status, body)) => {
                Ok(HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from(body.replace("$TAG", &tag))))
            }
            None => Err(ConnectorError::io("the connection broke".into())),
        })
    }
}

/// The tag that a commit writes.
fn tag_of(body: &serde_json::Value) -> Option<&str> {
    let values = body["ExpressionAttributeValues"].as_object()?.values();
    values.filter_map(|value| value["B"].as_str()).find(|text| text.len() == 12)
}

/// Retries without pauses.
#[derive(Debug)]
struct NoSleep;

impl AsyncSleep for NoSleep {
    fn sleep(&self, _: Duration) -> Sleep {
        Sleep::new(std::future::ready(()))
    }
}

/// An error answer of DynamoDB.
pub(crate) fn error(code: &str, more: &str) -> Answer {
    let status = if code.starts_with("Internal") { 500 } else { 400 };
    Some((status, format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"m"{more}}}"#)))
}

/// An answer that says nothing but that it was done.
pub(crate) fn fine() -> Answer {
    Some((200, "{}".to_owned()))
}
