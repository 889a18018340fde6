//! Carries out what the machine of a batch asks for: each step becomes a call of a port or of a handler, each answer an event.

use std::sync::Arc;

use futures_util::future::{Either, select};
use statefun_core::{
    Address,
    protocol::{At, Batch, Event, Halt, Illegal, Leased, Leasing, Loaded, Notice, Outcome, Progress, Step},
};

use crate::{
    drain,
    engine::{Engine, Permit},
    functions::Registered,
    gate::Pass,
    metrics::FunctionCounters,
    ports::{Found, Moment, PortError, PortErrorKind},
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
    /// What a read that was shared with other addresses found.
    pub(crate) found: Option<Found>,
    /// Addresses in the same batch, this one included.
    pub(crate) among: usize,
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
            if let Notice::Committed { cached: true } | Notice::Refused { cached: true } = notice {
                self.engine.cache().judge(self.address, matches!(notice, Notice::Committed { .. }), self.among);
            }
            report::notice(&self.counters, self.address, notice);
        }
        if let Some(record) = batch.take_kept() {
            self.engine.keep(self.address, record);
        }
        if !batch.is_alone() {
            self.alone = None;
        }
    }

    async fn carry_out(&mut self, step: Step<'_>, last_moment: Moment) -> Event {
        let (engine, address) = (self.engine, self.address);
        let (store, clock) = (&engine.ports.store, &engine.ports.clock);
        match step {
            Step::Load { fresh, within } => self.load(fresh, within).await,
            Step::Lease(leasing) => {
                let leased = self.lease(&leasing).await;
                self.event(leased, Event::Leased)
            }
            Step::LookUp { ids, since } => {
                let found = store.spilled(address, ids, since).await;
                self.event(found, Event::Found)
            }
            Step::Enter(how) => self.enter(how, last_moment).await,
            Step::Invoke { context, message, lost, lease } => {
                let (handled, leased) = self.invoke(context, message, lost, lease, last_moment).await;
                self.leave();
                Event::Handled(handled, leased)
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
            Step::Free(owner) => {
                if let Err(error) = store.free(address, owner).await {
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

    async fn load(&mut self, fresh: bool, within: Option<Moment>) -> Event {
        let shared = self.found.take();
        if !fresh
            && shared.is_none()
            && let Some(record) = self.engine.cache().take(self.address)
        {
            return Event::Loaded(Loaded::Cached(record));
        }
        let found = match shared {
            Some(found) => found,
            None => self.within(within, "load", self.engine.read(self.address)).await,
        };
        if let Ok(record) = &found {
            FunctionCounters::add(&self.counters.read, 1);
            self.engine.cache().compare(self.address, record.as_ref().map(|record| record.version), self.among);
        }
        self.event(found, |record| Event::Loaded(Loaded::Read(record)))
    }

    pub(crate) async fn lease(&self, leasing: &Leasing) -> Result<Leased, PortError> {
        let leased = self.engine.ports.store.lease(self.address, leasing).await;
        if let Ok(Leased::Taken) = leased {
            FunctionCounters::add(&self.counters.leases, 1);
        }
        leased
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
