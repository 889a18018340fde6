//! Starting: from the environment to the first poll, without a call to any service.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    sync::Arc,
};

use async_trait::async_trait;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;
use statefun_aws::{Backend, Clients, Options, egress::Sink, queues::FunctionQueues};
use statefun_core::{Egresses, Rules, Targets, Timestamp, TypeName};
use statefun_engine::{Config, Engine, Functions};
use statefun_module::{Destination, FunctionPattern, Module};
use statefun_router::{Dispatcher, ModuleRouter, Router};

use crate::{
    adapters::Malformed,
    functions::FunctionService,
    log,
    router::RouterService,
    settings::{InvalidSettings, Settings},
};

/// Why a Lambda does not start, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The environment, the module file or the application has to change: all mistakes.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// The Lambda runtime API failed. Lambda starts another environment.
    #[error("the Lambda runtime API failed")]
    Runtime(#[source] lambda_runtime::Error),
}

/// Serves the events of a function Lambda with these functions until the environment ends.
///
/// `rules` are the application's; where messages and egress records may go is what the module file declares.
///
/// # Errors
/// [`ServeError`].
pub async fn serve_functions(functions: Functions, rules: Rules) -> Result<(), ServeError> {
    let settings = settings()?;
    check_queues(&functions, &settings.module)?;
    let rules = Rules { targets: targets(&settings.module), egresses: egresses(&settings.module), ..rules };
    let backend = start(settings).await.0;
    let engine = Engine::new(functions, backend.ports(), Config { rules: Arc::new(rules), ..Config::default() });
    let service = FunctionService::new(engine, backend.dead_letters.clone(), Arc::new(backend.visibility.clone()));
    run(service).await
}

/// Serves the events of a router Lambda with a router of one's own. It gets the records of all streams and queues that invoke the
/// Lambda, whether the module file declares them or not; the record says which one it is of.
///
/// # Errors
/// [`ServeError`].
pub async fn serve_router(router: impl Router + 'static) -> Result<(), ServeError> {
    serve_any_router(|_| Arc::new(router), true).await
}

/// Serves the events of a router Lambda as the module file says.
///
/// # Errors
/// [`ServeError`].
pub async fn serve_module_router() -> Result<(), ServeError> {
    serve_any_router(|module| Arc::new(ModuleRouter::new(module)), false).await
}

async fn serve_any_router(router: impl FnOnce(&Module) -> Arc<dyn Router>, any_source: bool) -> Result<(), ServeError> {
    let settings = settings()?;
    let timers = settings.timers.clone();
    let (backend, module) = start(settings).await;
    let malformed = Arc::new(Malformed(backend.dead_letters.clone()));
    let dispatcher = Dispatcher::new(router(&module), backend.queues.clone(), malformed);
    let service = RouterService { dispatcher, operations: Arc::new(backend), module, any_source, timers };
    run(service).await
}

fn settings() -> Result<Settings, InvalidSettings> {
    Settings::from_env(&|name| env::var(name).ok())
}

/// Starts the log, and makes the clients. Nothing is sent.
async fn start(settings: Settings) -> (Backend, Module) {
    let Settings { table, dead_letters, timers, module, log } = settings;
    log::start(log);
    let options = Options { table, dead_letters, timers, queues: queues(&module), egress: sinks(&module) };
    (Backend::new(Clients::from_env().await, options), module)
}

/// A service of either Lambda.
#[async_trait]
trait Serve: Send + Sync + 'static {
    /// The answer to an event, or why it has none.
    async fn serve(&self, event: Value, deadline: Timestamp) -> Result<Value, String>;
}

#[async_trait]
impl Serve for FunctionService {
    async fn serve(&self, event: Value, deadline: Timestamp) -> Result<Value, String> {
        self.handle(event, deadline).await.map(|answer| answer.to_json()).map_err(|error| chain(&error))
    }
}

#[async_trait]
impl Serve for RouterService {
    async fn serve(&self, event: Value, deadline: Timestamp) -> Result<Value, String> {
        self.handle(event, deadline).await.map_err(|error| chain(&error))
    }
}

/// Polls for events. One process may get several at a time (Lambda Managed Instances).
async fn run(service: impl Serve) -> Result<(), ServeError> {
    let service = Arc::new(service);
    let handler = service_fn(move |event: LambdaEvent<Value>| {
        let service = service.clone();
        async move {
            let answer = service.serve(event.payload, Timestamp(event.context.deadline)).await;
            answer.map_err(|error_message| {
                tracing::error!(error = error_message, "the event is not served");
                Diagnostic { error_type: "StateFun.Event".to_owned(), error_message }
            })
        }
    });
    lambda_runtime::run_concurrent(handler).await.map_err(ServeError::Runtime)
}

/// An error and its causes on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Every function needs a queue, or it would never get a message.
fn check_queues(functions: &Functions, module: &Module) -> Result<(), InvalidSettings> {
    let without = functions.iter().map(|function| &function.spec.name).filter(|name| module.queues_of(name).is_none());
    let mut problems: Vec<_> = without
        .map(|name| format!("the function `{name}` has no queue: add it to a `functions` document of the module file"))
        .collect();
    problems.sort();
    if problems.is_empty() { Ok(()) } else { Err(InvalidSettings { problems }) }
}

fn queues(module: &Module) -> FunctionQueues {
    let mut queues = FunctionQueues::default();
    for functions in &module.functions {
        for pattern in &functions.patterns {
            match pattern {
                FunctionPattern::Exact(name) => queues.function(name.clone(), functions.queues.clone()),
                FunctionPattern::Namespace(namespace) => queues.namespace(namespace.clone(), functions.queues.clone()),
            }
        }
    }
    queues
}

fn targets(module: &Module) -> Targets {
    let (mut functions, mut namespaces) = (BTreeSet::new(), BTreeSet::new());
    for pattern in module.functions.iter().flat_map(|functions| &functions.patterns) {
        match pattern {
            FunctionPattern::Exact(name) => functions.insert(name.clone()),
            FunctionPattern::Namespace(namespace) => namespaces.insert(namespace.clone()),
        };
    }
    Targets::Declared { functions, namespaces }
}

fn sinks(module: &Module) -> BTreeMap<TypeName, Sink> {
    let sink = |destination: &Destination| match destination.clone() {
        Destination::Queue(queue_url) => Sink::Sqs { queue_url },
        Destination::Topic(topic_arn) => Sink::Sns { topic_arn },
        Destination::Stream(stream) => Sink::Kinesis { stream },
    };
    module.egresses.iter().map(|egress| (egress.id.clone(), sink(&egress.destination))).collect()
}

fn egresses(module: &Module) -> Egresses {
    Egresses::Declared(sinks(module).into_iter().map(|(name, sink)| (name, sink.max_value_bytes())).collect())
}
