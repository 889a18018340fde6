//! Carries out what the machine of a batch asks for: each step becomes a call of a port or of a handler, each answer an event.

use std::sync::Arc;

use futures_util::future::{Either, select};
use statefun_core::{
    Address,
    protocol::{At, Batch, Event, Halt, Illegal, Loaded, Notice, Outcome, Progress, Step},
};

use crate::{
    drain,
    engine::{Engine, Permit},
    functions::Registered,
    gate::Pass,
    metrics::FunctionCounters,
    ports::{Acquired, Moment, PortError, PortErrorKind},
    report,
    watch::Watch,
};

/// Whoever drives a batch, and what it holds meanwhile.
pub(crate) struct Drive<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) function: &'a Registered,
    pub(crate) counters: Arc<FunctionCounters>,
    pub(crate) address: &'a Address,
    pub(crate) permit: Permit,
    pub(crate) watch: Option<&'a Watch>,
    /// No other handler of this process runs.
    pub(crate) alone: Option<Pass<'a>>,
    /// A handler runs beside others.
    pub(crate) beside: Option<Pass<'a>>,
    /// What the backend failed with last.
    pub(crate) error: Option<PortError>,
}

impl Drive<'_> {
    /// Drives the batch to its end; one outcome per delivery.
    pub(crate) async fn run(mut self, mut batch: Batch) -> Vec<Outcome> {
        let mut event = Event::Begin;
        loop {
            if let Err(illegal) = batch.on(event, self.engine.at()) {
                return self.broken(&batch, &illegal);
            }
            self.take_notes(&mut batch);
            let last_moment = batch.last_moment();
            event = match batch.step() {
                Step::Done(outcomes) => return outcomes.to_vec(),
                step => self.carry_out(step, last_moment).await,
            };
        }
    }

    fn broken(&self, batch: &Batch, illegal: &Illegal) -> Vec<Outcome> {
        tracing::error!(function = %self.address.function(), %illegal, "the engine is broken: please report this");
        vec![Outcome::Retry(self.engine.config.backoff.longest); batch.len()]
    }

    /// Counts and logs what happened, and does what costs no call.
    fn take_notes(&mut self, batch: &mut Batch) {
        for notice in batch.take_notices() {
            if let Notice::Halted(Halt::Port) | Notice::NoteStays = notice {
                report::failure(self.address, &notice, self.error.as_ref());
            }
            report::notice(&self.counters, self.address, notice);
        }
        if let Some(record) = batch.take_kept() {
            self.engine.cache(self.address, record);
        }
        if !batch.is_alone() {
            self.alone = None;
        }
    }

    async fn carry_out(&mut self, step: Step<'_>, last_moment: Moment) -> Event {
        let (engine, address) = (self.engine, self.address);
        let (store, clock) = (&engine.ports.store, &engine.ports.clock);
        match step {
            Step::Load { until } => self.load(until).await,
            Step::LookUp { ids, since } => {
                let found = store.spilled(address, ids, since).await;
                self.event(found, Event::Found)
            }
            Step::Enter(how) => self.enter(how, last_moment).await,
            Step::Invoke { context, message, lost } => {
                let handled = self.invoke(context, message, lost, last_moment).await;
                self.leave();
                Event::Handled(handled)
            }
            Step::Commit { commit, within } => {
                let committed = self.within(within, "commit", store.commit(commit)).await;
                self.event(committed, Event::Committed)
            }
            Step::Barrier { within } => {
                let durable = self.within(within, "barrier", store.barrier()).await;
                self.event(durable, |()| Event::Durable)
            }
            Step::Send { outbox, denied_since, until } => {
                let drain::Progress { sent, refused, denied, error } = engine.drain(outbox, denied_since, until).await;
                let kind = error.as_ref().map(|error| error.kind);
                self.error = error.or(self.error.take());
                Event::Sent(Progress { sent, refused, denied, error: kind })
            }
            Step::Finish { expect } => {
                let finished = store.finish(address, expect).await;
                self.event(finished, Event::Finished)
            }
            Step::Free { epoch } => {
                if let Err(error) = store.release(address, epoch).await {
                    tracing::debug!(%error, %address, "a lease stays until it runs out");
                }
                Event::Freed
            }
            Step::Pause { until } => {
                clock.sleep_until(until).await;
                Event::Woken
            }
            // Whoever asks returns before.
            Step::Done(_) => Event::Woken,
        }
    }

    async fn load(&mut self, until: statefun_core::Timestamp) -> Event {
        let engine = self.engine;
        if let Some(record) = engine.take_cached(self.address) {
            return Event::Loaded(Loaded::Cached(record));
        }
        let acquired = engine.ports.store.acquire(self.address, engine.ports.clock.now(), until).await;
        if let Ok(Acquired::Held(_)) = acquired {
            FunctionCounters::add(&self.counters.cold, 1);
        }
        self.event(acquired, |acquired| {
            Event::Loaded(match acquired {
                Acquired::Held(record) => Loaded::Held(record),
                Acquired::Busy => Loaded::Busy,
            })
        })
    }

    /// The event of an answer. What failed is kept for the log.
    fn event<T>(&mut self, result: Result<T, PortError>, event: impl FnOnce(T) -> Event) -> Event {
        match result {
            Ok(answer) => event(answer),
            Err(error) => {
                let kind = error.kind;
                self.error = Some(error);
                Event::Failed(kind)
            }
        }
    }

    /// Whoever answers after its time is ended by Lambda, and answers nothing at all.
    async fn within<T>(
        &self,
        within: Option<Moment>,
        call: &'static str,
        answer: impl Future<Output = Result<T, PortError>>,
    ) -> Result<T, PortError> {
        let Some(within) = within else { return answer.await };
        match select(std::pin::pin!(answer), self.engine.ports.clock.sleep_until(within)).await {
            Either::Left((answered, _)) => answered,
            Either::Right(_) => Err(PortError::new(call, PortErrorKind::Unavailable, "the time ran out")),
        }
    }
}

impl Engine {
    pub(crate) fn at(&self) -> At {
        let clock = &self.ports.clock;
        At { now: clock.now(), moment: clock.moment(), cut: self.cut.is_cut() }
    }
}
