//! One batch of one address, from lease to acknowledgement: acquire, drain what was left, work, commit, drain, finish.

use std::{collections::HashMap, sync::Arc, time::Duration};

use statefun_core::{Address, Commit, Delivered, EnvelopeId, LeaseAfter, Note, Record, Safeguard, Timestamp, chain};

use crate::{
    alone::Noted,
    engine::{Engine, Outcome, Permit},
    functions::Registered,
    gate::Pass,
    metrics::FunctionCounters,
    ports::{Acquired, Committed, Moment, PortError},
    watch::{Lost, Watch},
};

/// A batch of one address on its way.
pub(crate) struct Run<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) function: &'a Registered,
    pub(crate) counters: Arc<FunctionCounters>,
    pub(crate) address: &'a Address,
    pub(crate) deliveries: &'a [Delivered],
    pub(crate) deadline: Moment,
    /// Until when its leases are: the deadline and a margin, by the wall clock of when the batch began. Others read it.
    lease_until: Timestamp,
    /// When the batch began.
    pub(crate) started: Moment,
    pub(crate) permit: Permit,
    /// Deliveries before this one are dealt with in commits that took effect.
    pub(crate) next: usize,
    /// Deliveries before this one may be acknowledged: what they caused is sent, and no longer stands in the record.
    acknowledged: usize,
    /// Messages applied in the turn at hand.
    pub(crate) applied: usize,
    /// A handler of this invocation ran.
    pub(crate) invoked: bool,
    /// The epoch under which a lease of ours may stand.
    pub(crate) leased: Option<u64>,
    /// Whether envelopes of this turn are in the spilled segments, as far as that was asked. The next commit may spill more.
    pub(crate) looked_up: HashMap<EnvelopeId, bool>,
    /// Duplicates were told by the spilled segments, not by the record in hand.
    pub(crate) hearsay: bool,
    /// The suspected envelope of which a note stands, or is about to, and the note.
    pub(crate) announced: Option<(EnvelopeId, Note)>,
    pub(crate) noted: Option<Noted>,
    /// No other handler of this process runs.
    pub(crate) alone: Option<Pass<'a>>,
    /// Only without [`Safeguard::FailRest`]: failed ones that later ones overtook.
    pub(crate) overtaken: Vec<(usize, Duration)>,
    pub(crate) watch: Option<&'a Watch>,
    /// The handler that held its thread in the run before this one.
    pub(crate) lost: Option<Lost>,
}

/// A record in hand.
pub(crate) struct InHand {
    pub(crate) record: Record,
    /// From the cache: its lease is not held, and epoch and version alone guard the commit.
    warm: bool,
    /// The stored record has an outbox that is already sent, or a lease that is ours.
    pub(crate) unfinished: bool,
}

/// Why a batch ends before all of it is committed.
pub(crate) enum Halt {
    /// Another environment took the address over: nothing of the last commit happened.
    Fenced,
    /// The backend failed.
    Port(PortError),
    /// The lease is held elsewhere.
    Busy,
    /// Time ran out while an outbox was sent; what is left of it is stored.
    Unsent,
}

impl From<PortError> for Halt {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

/// How the work on a turn ended.
pub(crate) enum Ended {
    /// All deliveries are dealt with.
    All,
    /// The turn is to be committed; more work may follow under the same lease.
    More,
    /// The turn is to be committed; the rest comes again after this pause.
    Stop(Duration),
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        function: &'a Registered,
        address: &'a Address,
        deliveries: &'a [Delivered],
        deadline: Moment,
        permit: Permit,
    ) -> Self {
        let counters = engine.metrics.of(address.function());
        let (clock, started) = (&engine.ports.clock, engine.ports.clock.moment());
        Self {
            engine,
            function,
            counters,
            address,
            deliveries,
            deadline,
            lease_until: clock.now().plus(deadline.since(started)).plus(engine.config.lease_margin),
            started,
            permit,
            next: 0,
            acknowledged: 0,
            applied: 0,
            invoked: false,
            leased: None,
            looked_up: HashMap::new(),
            hearsay: false,
            announced: None,
            noted: None,
            alone: None,
            overtaken: Vec::new(),
            watch: None,
            lost: None,
        }
    }

    pub(crate) async fn go(mut self) -> Vec<Outcome> {
        // A lease of the run that was given up: that will not free it.
        self.leased = self.lost.and_then(|lost| lost.leased);
        self.free_lease().await;
        loop {
            let cached = self.engine.take_cached(self.address);
            let warm = cached.is_some();
            let result = match cached {
                Some(record) => self.commits(InHand { record, warm, unfinished: false }).await,
                None => match self.acquire().await {
                    Ok(record) => self.commits(InHand { record, warm, unfinished: true }).await,
                    Err(halt) => Err(halt),
                },
            };
            match result {
                Ok(pause) => return self.outcomes(pause),
                // The cached record was stale: load it and try again.
                Err(Halt::Fenced) if warm => {
                    // A commit of this run may have taken the lease.
                    self.free_lease().await;
                    self.forget_note();
                }
                Err(halt) => {
                    let pause = self.report(&halt);
                    if matches!(halt, Halt::Port(_)) {
                        self.take_back_note().await;
                        self.free_lease().await;
                    }
                    if !self.on(Safeguard::AckLast) && matches!(halt, Halt::Port(_)) {
                        self.acknowledged = self.deliveries.len();
                    }
                    return self.outcomes(pause);
                }
            }
        }
    }

    /// After a failure: lets the next try in, here or elsewhere, before the lease runs out.
    async fn free_lease(&mut self) {
        let Some(epoch) = self.leased.take().filter(|_| self.on(Safeguard::FreeLease)) else { return };
        if let Err(error) = self.engine.ports.store.release(self.address, epoch).await {
            tracing::debug!(%error, address = %self.address, "a lease stays until it runs out");
        }
    }

    async fn acquire(&mut self) -> Result<Record, Halt> {
        match self.engine.ports.store.acquire(self.address, self.now(), self.lease_until).await? {
            Acquired::Held(record) => {
                FunctionCounters::add(&self.counters.cold, 1);
                self.leased = Some(record.epoch);
                Ok(*record)
            }
            Acquired::Busy => Err(Halt::Busy),
        }
    }

    /// Works through the deliveries, one commit after the other; returns the pause before what is left comes again.
    async fn commits(&mut self, mut hand: InHand) -> Result<Duration, Halt> {
        let leftover = std::mem::take(&mut hand.record.outbox);
        if !leftover.is_empty() && self.on(Safeguard::DrainLeftover) {
            hand = self.drain(hand, leftover).await?;
        }
        // What a finished outbox waited for is not what the next one waits for.
        hand.record.denied_since = Timestamp::ZERO;
        loop {
            let (turn, upto, ended) = self.work(std::mem::take(&mut hand.record)).await?;
            if !turn.is_dirty() {
                if hand.warm && self.hearsay && self.on(Safeguard::Hearsay) {
                    // Someone else took these, and may have died before it sent what they caused: only a load can tell.
                    return Err(Halt::Fenced);
                }
                hand.record = turn.into_record();
                self.release(hand).await?;
                self.acknowledge(upto);
                return Ok(pause(&ended));
            }
            let more = matches!(ended, Ended::More);
            let lease = match more {
                true => LeaseAfter::Held(self.lease_until),
                false => LeaseAfter::UntilSent(self.lease_until),
            };
            let commit = turn.commit(self.now(), lease);
            if commit.record.lease_until != Timestamp::ZERO {
                self.leased = Some(commit.record.epoch);
            }
            hand = self.commit(hand, commit).await?;
            FunctionCounters::add(&self.counters.messages, std::mem::take(&mut self.applied));
            self.next = upto;
            if more {
                continue;
            }
            self.release(hand).await?;
            self.acknowledge(upto);
            return Ok(pause(&ended));
        }
    }

    /// What comes before this delivery may be acknowledged.
    fn acknowledge(&mut self, upto: usize) {
        (self.next, self.acknowledged) = (upto, upto);
    }

    /// Writes the commit and sends what it causes; the record in hand is then the one committed.
    async fn commit(&mut self, mut hand: InHand, mut commit: Commit) -> Result<InHand, Halt> {
        let letters = self.letters_outside_of(&mut commit);
        self.before_noting(&commit);
        let committed = self.engine.ports.store.commit(&commit).await?;
        FunctionCounters::add(&self.counters.commits, usize::from(committed != Committed::Fenced));
        if committed != Committed::Fenced {
            // What the commit before this one sent stands in the record no more.
            self.acknowledged = self.next;
            self.after_commit(&commit.record).await?;
        }
        hand.record = commit.record;
        match committed {
            Committed::Fenced => {
                if !self.on(Safeguard::DropStaleCache) {
                    hand.record.version -= 1;
                    self.engine.cache(self.address, hand.record);
                    return Err(Halt::Busy);
                }
                return Err(Halt::Fenced);
            }
            Committed::Settled => {
                self.count_sent(hand.record.outbox.iter());
                hand.record.outbox.clear();
                hand.record.lease_until = Timestamp::ZERO;
                hand.unfinished = false;
            }
            Committed::Stored => {
                hand.unfinished = hand.record.lease_until != Timestamp::ZERO || !hand.record.outbox.is_empty();
                let outbox = std::mem::take(&mut hand.record.outbox);
                if !outbox.is_empty() {
                    if !self.on(Safeguard::FinishAfterDrain) {
                        self.engine.ports.store.finish(self.address, hand.record.held()).await?;
                    }
                    hand = self.drain(hand, outbox).await?;
                }
            }
        }
        match self.engine.drain(&letters, Timestamp::ZERO, self.deadline).await.error {
            Some(error) => Err(error.into()),
            None => Ok(hand),
        }
    }

    /// Clears the outbox, which is sent, and frees the lease.
    async fn release(&self, mut hand: InHand) -> Result<(), Halt> {
        if hand.unfinished {
            match self.engine.ports.store.finish(self.address, hand.record.held()).await {
                Ok(true) => {}
                // Overtaken after everything was committed and sent: nothing is left to do here.
                Ok(false) => return Ok(()),
                Err(_) if !self.on(Safeguard::AckCleared) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        hand.record.lease_until = Timestamp::ZERO;
        self.engine.cache(self.address, hand.record);
        Ok(())
    }

    fn outcomes(&self, pause: Duration) -> Vec<Outcome> {
        let outcome = |index| match self.overtaken.iter().find(|(overtaken, _)| *overtaken == index) {
            Some((_, pause)) => Outcome::Retry(*pause),
            None if index < self.acknowledged => Outcome::Done,
            None => Outcome::Retry(pause),
        };
        (0..self.deliveries.len()).map(outcome).collect()
    }

    /// Counts and logs a halt; returns the pause before the next try.
    fn report(&self, halt: &Halt) -> Duration {
        let backoff = &self.engine.config.backoff;
        match halt {
            Halt::Fenced => {
                FunctionCounters::add(&self.counters.fenced, 1);
                tracing::debug!(address = %self.address, "overtaken by another environment");
                Duration::ZERO
            }
            Halt::Busy => {
                FunctionCounters::add(&self.counters.busy, 1);
                tracing::debug!(address = %self.address, "the lease is held elsewhere");
                backoff.busy(self.receives())
            }
            Halt::Unsent => {
                tracing::debug!(address = %self.address, "an outbox takes another invocation");
                Duration::ZERO
            }
            Halt::Port(error) => {
                FunctionCounters::add(&self.counters.port_errors, 1);
                tracing::warn!(function = %self.address.function(), error = chain(error), "the backend failed; the batch comes again");
                backoff.after(self.receives()).min(backoff.backend)
            }
        }
    }

    fn receives(&self) -> u32 {
        self.deliveries.first().map_or(1, |first| first.receive_count)
    }

    /// By the wall clock, for what is stored.
    pub(crate) fn now(&self) -> Timestamp {
        self.engine.ports.clock.now()
    }

    /// For what is about this run's own time.
    pub(crate) fn moment(&self) -> Moment {
        self.engine.ports.clock.moment()
    }

    pub(crate) fn on(&self, safeguard: Safeguard) -> bool {
        self.engine.rules().protocol.safeguards.on(safeguard)
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        // Whoever gave the run up has given its pass back.
        if self.watch.is_some_and(Watch::is_given_up) {
            std::mem::forget(self.alone.take());
        }
    }
}

fn pause(ended: &Ended) -> Duration {
    match ended {
        Ended::All | Ended::More => Duration::ZERO,
        Ended::Stop(pause) => *pause,
    }
}
