//! Starting: from the environment to the first poll, without a call to any service.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::future::{Either, select};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::{Value, value::RawValue};
use statefun_aws::{
    Backend, Clients, Options, SystemClock,
    egress::{Outlet, Sink},
    queues::FunctionQueues,
};
use statefun_core::{Egresses, Protocol, Rules, Safeguards, Targets, Timestamp, TypeName, chain};
use statefun_engine::{
    Config, Engine, Functions, Receiver,
    ports::{Clock, Moment},
};
use statefun_ingress::{Dispatcher, ModuleRouter, Router};
use statefun_module::{Destination, Egress, FunctionPattern, Module};

use crate::{
    adapters::Malformed,
    emf::Emf,
    functions::FunctionService,
    log,
    router::{RouterService, json_of},
    settings::{InvalidSettings, Settings},
    shutdown,
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
    let protocol = Protocol { marks: settings.marks, ..rules.protocol };
    let rules = Rules { targets: targets(&settings.module), egresses: egresses(&settings.module), protocol, ..rules };
    let backend = start(settings).await.0;
    let engine = Engine::new(
        functions,
        backend.ports(),
        Config { rules: Arc::new(rules), first_run: fastrand::u64(..), ..Config::default() },
    );
    let receiver = Receiver::new(engine, backend.dead_letters.clone(), Arc::new(backend.visibility.clone()));
    let service = Arc::new(FunctionService::new(receiver, emf(), Arc::new(SystemClock)));
    let ends = match env::var("AWS_LAMBDA_RUNTIME_API") {
        Ok(api) => shutdown::end_of_environment(&api).await,
        Err(_) => Box::pin(std::future::pending()),
    };
    match select(std::pin::pin!(run(service.clone())), ends).await {
        Either::Left((ran, _)) => ran,
        Either::Right(((), _)) => {
            service.report();
            Ok(())
        }
    }
}

/// Serves the events of a router Lambda with your own router. It gets the records of all streams and queues that invoke the
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
    let dispatcher = Dispatcher {
        router: router(&module),
        targets: targets(&module),
        queue: backend.queues.clone(),
        malformed: Arc::new(Malformed(backend.dead_letters.clone())),
        clock: Arc::new(SystemClock),
        safeguards: Safeguards::default(),
    };
    let service = RouterService { dispatcher, operations: Arc::new(backend), module, any_source, timers, emf: emf() };
    run(Arc::new(service)).await
}

fn settings() -> Result<Settings, InvalidSettings> {
    Settings::from_env(&|name| env::var(name).ok())
}

/// Metrics under the name that Lambda gives its functions.
fn emf() -> Emf {
    Emf::new(env::var("AWS_LAMBDA_FUNCTION_NAME").ok(), SystemClock.moment())
}

/// Starts the log, and makes the clients. Nothing is sent.
async fn start(settings: Settings) -> (Backend, Module) {
    let Settings { table, dead_letters, timers, marks, module, log } = settings;
    log::start(log);
    let options = Options { table, dead_letters, timers, queues: queues(&module), egress: outlets(&module), marks };
    (Backend::new(Clients::from_env().await, options), module)
}

/// A service of either Lambda.
#[async_trait]
trait Serve: Send + Sync + 'static {
    /// The answer to an event, or why it has none.
    async fn serve(&self, event: Value, deadline: Moment) -> Result<Box<RawValue>, String>;
}

#[async_trait]
impl Serve for FunctionService {
    async fn serve(&self, event: Value, deadline: Moment) -> Result<Box<RawValue>, String> {
        self.handle(event, deadline).await.map(|answer| json_of(&answer.to_json())).map_err(|error| chain(&error))
    }
}

#[async_trait]
impl Serve for RouterService {
    async fn serve(&self, event: Value, deadline: Moment) -> Result<Box<RawValue>, String> {
        self.handle(event, deadline).await.map_err(|error| chain(&error))
    }
}

/// Polls for events. One process may get several at a time (Lambda Managed Instances).
async fn run(service: Arc<impl Serve>) -> Result<(), ServeError> {
    let handler = service_fn(move |event: LambdaEvent<Value>| {
        let service = service.clone();
        async move {
            let answer = service.serve(event.payload, SystemClock.moment_of(Timestamp(event.context.deadline))).await;
            // The runtime logs it.
            answer.map_err(|error_message| Diagnostic { error_type: "StateFun.Event".to_owned(), error_message })
        }
    });
    lambda_runtime::run_concurrent(handler).await.map_err(ServeError::Runtime)
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

fn outlets(module: &Module) -> BTreeMap<TypeName, Outlet> {
    let sink = |destination: &Destination| match destination.clone() {
        Destination::Queue(queue_url) => Sink::Sqs { queue_url },
        Destination::Topic(topic_arn) => Sink::Sns { topic_arn },
        Destination::Stream(stream) => Sink::Kinesis { stream },
    };
    let outlet = |egress: &Egress| Outlet { sink: sink(&egress.destination), built_in: egress.built_in };
    module.egresses.iter().map(|egress| (egress.id.clone(), outlet(egress))).collect()
}

fn egresses(module: &Module) -> Egresses {
    let limit = |egress: &Egress| (egress.id.clone(), egress.destination.max_value_bytes());
    Egresses::Declared(module.egresses.iter().map(limit).collect())
}

#[cfg(test)]
mod tests {
    use statefun_core::{
        Address, BuiltInForm, Context, FunctionError, FunctionSpec, OnFailure, TypedValue, limits::MAX_MESSAGE_BYTES,
    };
    use statefun_engine::Invoke;

    use super::*;

    const MODULE: &str = "kind: io.statefun.lambda.v1/functions
spec: {functions: [shop/cart, flights/*], queues: [\"https://sqs.example/1/a.fifo\", \"https://sqs.example/1/b.fifo\"]}
---
kind: io.statefun.lambda.v1/functions
spec: {functions: [flights/airport], queues: [\"https://sqs.example/1/airports.fifo\"]}
---
kind: io.statefun.sqs.v1/egress
spec: {id: shop/receipts, queue: \"https://sqs.example/1/receipts.fifo\", builtInTypes: protobuf}
---
kind: io.statefun.sns.v1/egress
spec: {id: flights/alerts, topic: \"arn:aws:sns:eu-west-1:123456789012:alerts\"}
---
kind: io.statefun.kinesis.v1/egress
spec: {id: example/out, stream: out}
";

    struct Nothing;

    #[async_trait]
    impl Invoke for Nothing {
        async fn invoke(&self, _: &mut Context, _: &TypedValue) -> Result<(), FunctionError> {
            Ok(())
        }
    }

    fn module() -> Module {
        Module::parse("module.yaml", MODULE).unwrap().resolve(&|_| None).unwrap()
    }

    fn functions(names: &[&'static str]) -> Functions {
        let mut functions = Functions::default();
        for name in names {
            let (name, on_failure) = (TypeName::from_static(name), OnFailure::default());
            functions.add(FunctionSpec { on_failure, ..FunctionSpec::new(name) }, Arc::new(Nothing));
        }
        functions
    }

    #[test]
    fn every_function_has_a_queue() {
        assert!(check_queues(&functions(&["shop/cart", "flights/route"]), &module()).is_ok());
        let InvalidSettings { problems } = check_queues(&functions(&["shop/stock", "a/b"]), &module()).unwrap_err();
        assert!(problems.len() == 2 && problems[0].contains("`a/b` has no queue"), "{problems:?}");
    }

    #[test]
    fn messages_go_where_the_module_says() {
        let queues = queues(&module());
        let queue = |address: &str| queues.queue_of(&Address::parse(address).unwrap()).map(ToString::to_string);
        assert_eq!(queue("flights/airport/EWR").unwrap(), "https://sqs.example/1/airports.fifo");
        assert!(queue("flights/route/EWR-IAH").unwrap().starts_with("https://sqs.example/1/"));
        assert_eq!(queue("shop/stock/pen"), None);
        let targets = targets(&module());
        assert!(targets.check(&TypeName::from_static("flights/route")).is_ok());
        assert!(targets.check(&TypeName::from_static("shop/stock")).is_err());
    }

    #[test]
    fn egress_records_go_where_the_module_says() {
        let Egresses::Declared(limits) = egresses(&module()) else { panic!() };
        let limits: Vec<_> = limits.iter().map(|(name, limit)| (name.as_str(), *limit)).collect();
        let of_sns = 189 * 1_024;
        assert_eq!(
            limits,
            [("example/out", MAX_MESSAGE_BYTES), ("flights/alerts", of_sns), ("shop/receipts", MAX_MESSAGE_BYTES)]
        );
        for (name, Outlet { sink, .. }) in outlets(&module()) {
            let declared = module().egress(&name).map(|egress| egress.destination.max_value_bytes());
            assert_eq!(declared, Some(sink.max_value_bytes()), "{name}: what is declared is what the sink takes");
        }
        let receipts = &outlets(&module())["shop/receipts"];
        assert!(matches!(&receipts.sink, Sink::Sqs { queue_url } if queue_url.ends_with("receipts.fifo")));
        assert_eq!(receipts.built_in, BuiltInForm::Protobuf);
    }
}
