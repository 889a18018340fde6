//! What an author puts together: functions, their state and policies. All mistakes are reported when it is built, together.

use std::{collections::BTreeMap, fmt, sync::Arc};

use statefun_core::{
    Accepted, FromMessage, FunctionSpec, OnFailure, Rules, StateSpec, TypeName, Value, ValueSpec,
    limits::{DEFAULT_MAX_HOPS, MAX_ATTEMPTS, MAX_STATES},
};
use statefun_engine::{Functions, Invoke};
use statefun_ingress::Router;

use crate::handler::{Erased, ErasedWithClients, Handler, HandlerWithClients};

/// A function: a name, a handler, the state it declares, and what to do with messages that keep failing.
pub struct Function {
    name: String,
    handler: Arc<dyn Invoke>,
    accepts: Vec<Accepted>,
    states: Vec<StateSpec>,
    on_failure: OnFailure,
    exclusive: bool,
}

impl Function {
    /// A function without state. `name` is its type, `namespace/name`; it is checked when the application is built.
    pub fn new<M, H>(name: impl Into<String>, handler: H) -> Self
    where
        M: FromMessage + Send + 'static,
        H: for<'a> Handler<'a, M> + Send + Sync + 'static,
        for<'a> <H as Handler<'a, M>>::Future: Send,
    {
        Self::of(name.into(), Arc::new(Erased::<H, M>::new(handler)), M::accepts())
    }

    /// As [`new`](Self::new), of a handler that needs clients: an HTTP client, a database pool, or a struct of several. They are
    /// made once, before the application runs, and the handler takes them by reference as its first argument. All invocations
    /// share them. A client that several functions need is cloned; most are cheap to clone.
    ///
    /// ```
    /// use lambda_statefun::prelude::*;
    ///
    /// # mod weather {
    /// #     #[derive(Clone)]
    /// #     pub struct Client;
    /// #     impl Client {
    /// #         pub fn new(_: &str) -> Self { Self }
    /// #         pub async fn today(&self, _: &str) -> std::io::Result<String> { Ok("sun".to_owned()) }
    /// #     }
    /// # }
    /// struct Clients {
    ///     weather: weather::Client,
    ///     units: String,
    /// }
    ///
    /// async fn report(clients: &Clients, ctx: &mut Context, city: String) -> Result<(), FunctionError> {
    ///     let today = clients.weather.today(&city).await?;
    ///     ctx.egress("example/reports", &format!("{city}: {today}, in {}", clients.units))?;
    ///     Ok(())
    /// }
    ///
    /// let clients = Clients { weather: weather::Client::new("https://weather.example"), units: "°C".to_owned() };
    /// let function = Function::with_clients("example/report", clients, report);
    /// # let effects = TestContext::new(function, "Bern").invoke(&"Bern".to_owned()).unwrap();
    /// # assert_eq!(effects.egress_of::<String>("example/reports"), ["Bern: sun, in °C"]);
    /// ```
    pub fn with_clients<C, M, H>(name: impl Into<String>, clients: C, handler: H) -> Self
    where
        C: Send + Sync + 'static,
        M: FromMessage + Send + 'static,
        H: for<'a> HandlerWithClients<'a, C, M> + Send + Sync + 'static,
        for<'a> <H as HandlerWithClients<'a, C, M>>::Future: Send,
    {
        Self::of(name.into(), Arc::new(ErasedWithClients::<C, H, M>::new(clients, handler)), M::accepts())
    }

    fn of(name: String, handler: Arc<dyn Invoke>, accepts: Vec<Accepted>) -> Self {
        Self { name, handler, accepts, states: Vec::new(), on_failure: OnFailure::default(), exclusive: false }
    }

    /// Declares a state value. A handler may only touch what its function declares.
    #[must_use]
    pub fn state<T: Value>(mut self, spec: &ValueSpec<T>) -> Self {
        self.states.push(spec.erase());
        self
    }

    /// What becomes of a message that keeps failing; without this it goes to the dead letters after 5 tries.
    #[must_use]
    pub fn on_failure(mut self, policy: OnFailure) -> Self {
        self.on_failure = policy;
        self
    }

    /// Each run takes a lease of its instance before it calls the handler, and
    /// [`Context::fencing_token`](crate::Context::fencing_token) numbers the runs: for handlers with effects of their own on systems that
    /// refuse an older number. It costs a write more per run.
    ///
    /// State and messages need none of this: only one of two runs at a time can commit. A run that meets another's lease comes again later. A
    /// lease is a courtesy: an environment that was frozen may go on after its end, and only the number shows it.
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// The engine's form, with everything that is wrong with it.
    fn build(self) -> Result<(FunctionSpec, Arc<dyn Invoke>), Vec<String>> {
        let mut problems = Vec::new();
        let mut states = BTreeMap::new();
        let function = self.name;
        for state in self.states {
            if !state.has_valid_name() {
                let rule = "a state name is a letter or `_`, then letters, digits and `_`";
                problems.push(format!("`{function}`: `{}` is not a state name: {rule}", state.name));
            }
            if let Some(other) = states.insert(state.name, state) {
                problems.push(format!("`{function}` declares the state `{}` twice", other.name));
            }
        }
        if states.len() > MAX_STATES {
            problems.push(format!(
                "`{function}` declares {} state values, {MAX_STATES} at most: put what belongs together into one",
                states.len()
            ));
        }
        if self.on_failure.max_attempts().is_some_and(|max| !(1..=MAX_ATTEMPTS).contains(&max)) {
            problems.push(format!("`{function}`: `max_attempts` is 1 to {MAX_ATTEMPTS}; `OnFailure::RetryForever` has no end"));
        }
        match TypeName::parse(&function) {
            Ok(name) if problems.is_empty() => {
                let (accepts, on_failure, exclusive) = (self.accepts, self.on_failure, self.exclusive);
                let spec = FunctionSpec { name, states, accepts, on_failure, exclusive };
                Ok((spec, self.handler))
            }
            Ok(_) => Err(problems),
            Err(error) => {
                problems.insert(0, error.to_string());
                Err(problems)
            }
        }
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("name", &self.name).field("states", &self.states).finish_non_exhaustive()
    }
}

/// The functions that are deployed together.
pub struct Application {
    functions: Vec<Function>,
    router: Option<Arc<dyn Router>>,
    max_hops: u32,
    version: Option<String>,
}

impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application")
            .field("functions", &self.functions)
            .field("max_hops", &self.max_hops)
            .finish_non_exhaustive()
    }
}

impl Default for Application {
    fn default() -> Self {
        Self { functions: Vec::new(), router: None, max_hops: DEFAULT_MAX_HOPS, version: None }
    }
}

impl Application {
    /// An application without functions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a function.
    #[must_use]
    pub fn function(mut self, function: Function) -> Self {
        self.functions.push(function);
        self
    }

    /// What a record becomes that comes in from outside: on this machine each row of `--input`, as JSON, unless `--to` or `--ingress` says
    /// something else. A router Lambda is a binary of its own that runs the same router with `run_router` (feature `lambda`).
    ///
    /// ```
    /// use lambda_statefun::{IngressRecord, Routed, RouteError, prelude::*};
    ///
    /// async fn count(ctx: &mut Context, name: String) -> Result<(), FunctionError> {
    ///     Ok(ctx.egress("example/seen", &name)?)
    /// }
    ///
    /// fn route(record: &IngressRecord) -> Result<Vec<Routed>, RouteError> {
    ///     let name = record.pointer("/name")?.as_str().unwrap_or("nobody").to_owned();
    ///     Ok(vec![Routed::new(("example/counter", &name), &name)?])
    /// }
    ///
    /// let application = Application::new().function(Function::new("example/counter", count)).router(route);
    /// # application.build().unwrap();
    /// ```
    #[must_use]
    pub fn router(mut self, router: impl Router + 'static) -> Self {
        self.router = Some(Arc::new(router));
        self
    }

    /// After how many hops from an ingress record (or from a delayed message) a loop is assumed and `send` fails; 10,000
    /// without this.
    #[must_use]
    pub fn max_hops(mut self, hops: u32) -> Self {
        self.max_hops = hops;
        self
    }

    /// What `--version` says, such as `env!("CARGO_PKG_VERSION")`; without this, the version of lambda-statefun alone.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Checks everything and makes it ready to run.
    ///
    /// # Errors
    /// [`InvalidApplication`] lists every mistake.
    pub fn build(self) -> Result<BuiltApplication, InvalidApplication> {
        let mut problems = Vec::new();
        let mut functions = Functions::default();
        if self.functions.is_empty() {
            problems.push("there is no function: add one with `.function(Function::new(…))`".to_owned());
        }
        for function in self.functions {
            match function.build() {
                Ok((spec, handler)) => {
                    let name = spec.name.clone();
                    if !functions.add(spec, handler) {
                        problems.push(format!("the function `{name}` is there twice"));
                    }
                }
                Err(more) => problems.extend(more),
            }
        }
        if !problems.is_empty() {
            return Err(InvalidApplication { problems });
        }
        let rules = Rules { max_hops: self.max_hops, ..Rules::default() };
        Ok(BuiltApplication { functions, rules, router: self.router, version: self.version })
    }
}

/// An application that was checked.
#[derive(Clone)]
pub struct BuiltApplication {
    /// Its functions.
    pub functions: Functions,
    /// What holds for all of them.
    pub rules: Rules,
    /// What records from outside become, if it says so.
    pub router: Option<Arc<dyn Router>>,
    /// What `--version` says.
    pub version: Option<String>,
}

impl fmt::Debug for BuiltApplication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuiltApplication").field("functions", &self.functions).field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// Everything that is wrong with an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidApplication {
    /// One line per mistake.
    pub problems: Vec<String>,
}

impl fmt::Display for InvalidApplication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the application cannot be built:")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for InvalidApplication {}

#[cfg(test)]
mod tests {
    use statefun_core::{Context, FunctionError, TypedValue};

    use super::*;

    async fn ignore(_: &mut Context, _: TypedValue) -> Result<(), FunctionError> {
        Ok(())
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        const SEEN: ValueSpec<u64> = ValueSpec::new("seen");
        const BAD: ValueSpec<u64> = ValueSpec::new("not a name");
        let app = Application::new()
            .function(Function::new("greeter", ignore))
            .function(Function::new("a/b", ignore).state(&SEEN).state(&SEEN).state(&BAD))
            .function(Function::new("a/c", ignore))
            .function(Function::new("a/c", ignore))
            .function(Function::new("a/d", ignore).on_failure(OnFailure::Drop { max_attempts: 0 }));
        let problems = app.build().unwrap_err().problems;
        let expected =
            ["`greeter` is not a type name", "`seen` twice", "`not a name` is not a state name", "`a/c` is there twice"];
        for text in expected.iter().chain(&["1 to 150"]) {
            assert!(problems.iter().any(|problem| problem.contains(text)), "{text} in {problems:?}");
        }
        assert_eq!(problems.len(), 5);
        assert!(Application::new().build().unwrap_err().to_string().contains("no function"));
    }

    #[test]
    fn a_function_is_exclusive_only_where_that_is_declared() {
        let app = Application::new().function(Function::new("a/b", ignore).exclusive()).function(Function::new("a/c", ignore));
        let built = app.build().unwrap();
        let mut declared: Vec<_> =
            built.functions.iter().map(|function| (function.spec.name.to_string(), function.spec.exclusive)).collect();
        declared.sort();
        assert_eq!(declared, [("a/b".to_owned(), true), ("a/c".to_owned(), false)]);
    }
}
