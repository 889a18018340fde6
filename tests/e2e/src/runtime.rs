//! Lambda's runtime interface for one process: whatever its binary, it gets an event and answers.

use std::{collections::BTreeMap, path::Path, process::Stdio, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::{Mutex, mpsc},
};

use crate::{
    problem::{Problem, Result},
    world::now,
};

/// How long an invocation may take.
const TIME: Duration = Duration::from_secs(10);

/// An environment: a process that gets its events from here.
pub(crate) struct Environment {
    _process: Child,
    events: mpsc::UnboundedSender<Value>,
    answers: mpsc::UnboundedReceiver<Value>,
}

impl Environment {
    /// Starts a binary with these variables.
    pub(crate) async fn start(binary: &Path, variables: &BTreeMap<String, String>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (events, waiting) = mpsc::unbounded_channel();
        let (told, answers) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(waiting));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (waiting, told) = (waiting.clone(), told.clone());
                tokio::spawn(async move {
                    let answer = |request| async {
                        handle(request, waiting.clone(), told.clone())
                            .await
                            .map_err(|problem| std::io::Error::other(problem.to_string()))
                    };
                    // An error is an environment that is gone.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
                });
            }
        });
        let mut command = Command::new(binary);
        command.env_clear().envs(variables).env("AWS_LAMBDA_RUNTIME_API", address.to_string());
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
        Ok(Self { _process: process, events, answers })
    }

    /// Its answer to an event.
    pub(crate) async fn invoke(&mut self, event: Value) -> Result<Value> {
        self.events.send(event)?;
        let answer = tokio::time::timeout(TIME, self.answers.recv()).await;
        answer.ok().flatten().ok_or_else(|| Problem::new("the environment does not answer"))
    }
}

type Events = Arc<Mutex<mpsc::UnboundedReceiver<Value>>>;

async fn handle(request: Request<Incoming>, events: Events, told: mpsc::UnboundedSender<Value>) -> Result<Response<Full<Bytes>>> {
    if request.uri().path().ends_with("/invocation/next") {
        let Some(event) = events.lock().await.recv().await else { return Err(Problem::new("there are no more events")) };
        let deadline = now().plus(TIME).0;
        let reply = Response::builder()
            .header("lambda-runtime-aws-request-id", "by-hand")
            .header("lambda-runtime-deadline-ms", deadline)
            .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:by-hand")
            .header("content-type", "application/json");
        return Ok(reply.body(Full::new(event.to_string().into()))?);
    }
    let answers = request.uri().path().contains("/invocation/");
    let body = request.into_body().collect().await?.to_bytes();
    if answers {
        // Nobody waits any more: then it was too late.
        let _ = told.send(serde_json::from_slice(&body).unwrap_or(Value::Null));
    }
    Ok(Response::builder().status(202).body(Full::default())?)
}
