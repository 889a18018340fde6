//! Sends what records become, in order, as far as it goes and as long as there is time.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    pin::pin,
    sync::Arc,
};

use futures_util::{
    StreamExt,
    future::{Either, join, select},
    stream,
};
use statefun_core::{Address, Envelope, Targets, Timestamp, chain};
use statefun_engine::ports::{Clock, EnvelopeQueue, PortError};

use crate::{
    IngressRecord, MalformedRecord, MalformedSink, Outcome, RouteError, Router, envelopes,
    malformed::malformed,
    work::{Blocked, Work, choose},
};

/// Malformed records that are parked at the same time: a batch may be full of them.
const MAX_PARKS: usize = 32;

/// What arrives in a batch.
#[derive(Debug, Clone)]
pub enum Arrival {
    /// A record.
    Record(IngressRecord),
    /// What could not even be read as one.
    Malformed(MalformedRecord),
}

/// Takes batches of records, routes them and sends what they become.
#[derive(Clone)]
pub struct Dispatcher {
    /// Says what records become.
    pub router: Arc<dyn Router>,
    /// The functions that have queues: a record for any other is malformed.
    pub targets: Targets,
    /// Takes what they become.
    pub queue: Arc<dyn EnvelopeQueue>,
    /// Takes those that become nothing.
    pub malformed: Arc<dyn MalformedSink>,
    /// Says when the time is over.
    pub clock: Arc<dyn Clock>,
}

/// Letters, each with its record's place in the batch.
type Letters = Vec<(usize, MalformedRecord)>;

impl Dispatcher {
    /// Routes and sends a batch; says for each record, in their order, what became of it. Whatever is not
    /// [`Failed`](Outcome::Failed) is durable. At the `deadline` it returns, and what is not done by then is failed: so some of a
    /// batch is done however slow the queue is, and need not come again.
    ///
    /// Records of one [`order`](IngressRecord::order), and envelopes to one address, are sent in the order of the batch: a later
    /// one only in the same call or after the earlier one was accepted. After a failure nothing later of the same order or
    /// address is sent. A call to the queue has at most one envelope per address, and otherwise all that may be sent, up to a
    /// few hundred.
    pub async fn dispatch(&self, batch: Vec<Arrival>, deadline: Timestamp) -> Vec<Outcome> {
        let mut outcomes = vec![Outcome::Done; batch.len()];
        let (works, letters) = self.read(batch);
        // They have nothing to do with each other: slow letters do not take the time of the rest.
        let (parked, failed) = join(self.park_all(letters, deadline), self.send_all(works, deadline)).await;
        for (record, outcome) in parked {
            outcomes[record] = outcome;
        }
        for record in failed {
            outcomes[record] = Outcome::Failed;
        }
        if self.clock.now() >= deadline {
            let failed = outcomes.iter().filter(|outcome| outcome.is_failed()).count();
            tracing::warn!(
                failed,
                records = outcomes.len(),
                "the time was too short for the batch; what was not done comes again"
            );
        }
        outcomes
    }

    fn read(&self, batch: Vec<Arrival>) -> (Vec<Work>, Letters) {
        let (mut works, mut letters) = (Vec::new(), Vec::new());
        let now = self.clock.now();
        for (index, arrival) in batch.into_iter().enumerate() {
            match arrival {
                Arrival::Malformed(letter) => letters.push((index, letter)),
                Arrival::Record(record) => match self.envelopes(&record) {
                    Ok(waiting) => works.push(Work { record: index, order: record.order, waiting }),
                    Err(error) => letters.push((index, malformed(&record, &error, now))),
                },
            }
        }
        (works, letters)
    }

    /// What the record becomes. An address without a queue would hold up its record's shard for ever.
    fn envelopes(&self, record: &IngressRecord) -> Result<Vec<Envelope>, RouteError> {
        let made = envelopes(&*self.router, record)?;
        made.iter().try_for_each(|envelope| self.targets.check(envelope.to.function()))?;
        Ok(made)
    }

    /// What comes of `work`, unless the deadline comes first.
    async fn in_time<T>(&self, deadline: Timestamp, work: impl Future<Output = T> + Send) -> Option<T> {
        if self.clock.now() >= deadline {
            return None;
        }
        match select(pin!(work), self.clock.sleep_until(deadline)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    /// Parks malformed records, several at a time.
    async fn park_all(&self, letters: Letters, deadline: Timestamp) -> Vec<(usize, Outcome)> {
        let park = |(record, letter): (usize, MalformedRecord)| async move {
            let parked = self.in_time(deadline, self.park(&letter)).await;
            (record, parked.unwrap_or(Outcome::Failed))
        };
        stream::iter(letters).map(park).buffer_unordered(MAX_PARKS).collect().await
    }

    async fn park(&self, letter: &MalformedRecord) -> Outcome {
        match self.malformed.park(letter).await {
            Ok(()) => {
                tracing::warn!(source = letter.source, "a malformed record went to the dead letters");
                Outcome::Parked
            }
            Err(error) => {
                tracing::warn!(
                    source = letter.source,
                    error = chain(&error),
                    "a malformed record could not be kept; it comes again"
                );
                Outcome::Failed
            }
        }
    }

    /// Sends what records became; says which were not sent whole.
    async fn send_all(&self, mut works: Vec<Work>, deadline: Timestamp) -> Vec<usize> {
        let (mut blocked, mut failed) = (Blocked::default(), Vec::new());
        loop {
            works.retain(|work| {
                if work.waiting.is_empty() {
                    return false;
                }
                let stop = blocked.concerns(work);
                if stop {
                    failed.push(work.record);
                    blocked.block(work, None);
                }
                !stop
            });
            let chosen = choose(&works);
            if chosen.is_empty() {
                return failed;
            }
            let call: Vec<&Envelope> = chosen.iter().map(|(work, envelope)| &works[*work].waiting[*envelope]).collect();
            let Some(results) = self.in_time(deadline, self.queue.send(&call)).await else {
                // Some of the call may arrive all the same; under the same ids they have no second effect.
                failed.extend(works.iter().map(|work| work.record));
                return failed;
            };
            take(&mut works, &chosen, results, &mut blocked);
        }
    }
}

/// Takes what was sent out of the works, and notes what is blocked by what was not.
fn take(works: &mut [Work], chosen: &[(usize, usize)], results: Vec<Result<(), PortError>>, blocked: &mut Blocked) {
    let mut results = results.into_iter();
    let mut errors: Vec<PortError> = Vec::new();
    let mut sent: HashMap<usize, HashSet<Address>> = HashMap::new();
    for (work, envelope) in chosen {
        let address = works[*work].waiting[*envelope].to.clone();
        match results.next() {
            Some(Ok(())) => drop(sent.entry(*work).or_default().insert(address)),
            failed => {
                errors.extend(failed.and_then(Result::err));
                blocked.block(&works[*work], Some(address));
            }
        }
    }
    for (work, addresses) in sent {
        works[work].waiting.retain(|envelope| !addresses.contains(&envelope.to));
    }
    if let Some(first) = errors.first() {
        tracing::warn!(failed = errors.len(), error = chain(first), "envelopes could not be sent; their records come again");
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}
