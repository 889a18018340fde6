//! Sends what records become, in order, as far as it goes and as long as there is time.

use std::{fmt, iter, pin::pin, sync::Arc};

use futures_util::{
    StreamExt,
    future::{Either, join, select},
    stream,
};
use statefun_core::{Envelope, Safeguards, Targets, chain, limits::MAX_USER_RECORDS};
use statefun_engine::ports::{Clock, EnvelopeQueue, Moment, PortError};

use crate::{
    IngressRecord, MalformedRecord, MalformedSink, Outcome, RouteError, Router, envelopes,
    fold::Fold,
    malformed::malformed,
    work::{Work, Works},
};

/// Malformed records that are parked at the same time: a batch may be full of them.
const MAX_PARKS: usize = 32;

/// Letters of one arrival. If more of what is packed into it is malformed, it is kept as a whole, once: thousands of letters could
/// take longer than there is time, and each try would begin at the first.
pub(crate) const MAX_LETTERS: usize = 1_000;

/// Messages and letters from which on no more of a batch is taken in: it is in memory, and takes time. The rest comes again.
pub(crate) const MAX_TAKEN: usize = 2 * MAX_USER_RECORDS;

/// What arrives in a batch, and comes again as a whole.
#[derive(Debug, Clone)]
pub enum Arrival {
    /// A record.
    Record(IngressRecord),
    /// Records that a producer packed into one.
    Packed {
        /// The record that they are packed into.
        whole: IngressRecord,
        /// In their order, each with a position of its own; ingress, source and time of arrival are the whole's.
        records: Vec<IngressRecord>,
    },
    /// What could not even be read as a record, and why.
    Malformed(IngressRecord, RouteError),
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
    /// All but in builds with the feature `mutations`.
    pub safeguards: Safeguards,
}

/// Letters, each with its record's place in the batch.
type Letters = Vec<(usize, MalformedRecord)>;

/// What is made of a batch.
#[derive(Default)]
struct Taken {
    /// How much of the batch that is.
    arrivals: usize,
    /// Messages and letters.
    size: usize,
    works: Vec<Work>,
    letters: Letters,
}

impl Dispatcher {
    /// Routes and sends a batch; says for each arrival, in their order, what became of it. Whatever is not
    /// [`Failed`](Outcome::Failed) is durable. At the `deadline` it returns, and what is not done by then is failed: so some of a
    /// batch is done however slow the queue is, and need not come again. The same goes for the end of a batch of which the
    /// beginning becomes too much.
    ///
    /// Records of one [`order`](IngressRecord::order), and envelopes to one address, are sent in the order of the batch: a later
    /// one only in the same call or after the earlier one was accepted. After a failure nothing later of the same order or
    /// address is sent; what is given up for its order holds back the rest of its order only: records of different orders that go to one
    /// address have no order then. Of records that arrive packed, the messages to one address share envelopes and are in order; what goes to
    /// different addresses is not. A call to the queue has at most one envelope per address, and otherwise all that may be sent,
    /// up to a few hundred.
    pub async fn dispatch(
        &self,
        batch: impl IntoIterator<Item = Arrival, IntoIter: ExactSizeIterator>,
        deadline: Moment,
    ) -> Vec<Outcome> {
        let batch = batch.into_iter();
        let mut outcomes = vec![Outcome::Done; batch.len()];
        let Taken { arrivals, works, letters, .. } = self.take(batch);
        outcomes.iter_mut().skip(arrivals).for_each(|outcome| *outcome = Outcome::Failed);
        // They have nothing to do with each other: slow letters do not take the time of the rest.
        let (parked, failed) =
            join(self.park_all(letters, deadline), self.send_all(Works::new(works, self.safeguards), deadline)).await;
        let failed = failed.into_iter().map(|arrival| (arrival, Outcome::Failed));
        for (arrival, became) in parked.into_iter().chain(failed) {
            // Of what was packed, one failure counts for all.
            if let Some(outcome) = outcomes.get_mut(arrival).filter(|outcome| !outcome.is_failed()) {
                *outcome = became;
            }
        }
        if self.clock.moment() >= deadline {
            let failed = outcomes.iter().filter(|outcome| outcome.is_failed()).count();
            tracing::warn!(
                failed,
                records = outcomes.len(),
                "the time was too short for the batch; what was not done comes again"
            );
        }
        outcomes
    }

    /// Takes in as much of a batch as is sensible, at least one arrival.
    fn take(&self, batch: impl Iterator<Item = Arrival>) -> Taken {
        let mut taken = Taken::default();
        for arrival in batch {
            let letters = match arrival {
                Arrival::Record(record) => self.take_records(&mut taken, vec![record]),
                Arrival::Packed { whole, records } => {
                    let of = records.len();
                    let letters = self.take_records(&mut taken, records);
                    match letters.first() {
                        Some(first) if letters.len() > MAX_LETTERS => {
                            let (malformed, first) = (letters.len(), &first.reason);
                            let reason = format!("{malformed} of {of} records packed into it are malformed, the first: {first}");
                            vec![self.letter(&whole, &RouteError::new(reason))]
                        }
                        _ => letters,
                    }
                }
                Arrival::Malformed(record, error) => vec![self.letter(&record, &error)],
            };
            taken.size += letters.len();
            taken.letters.extend(letters.into_iter().map(|letter| (taken.arrivals, letter)));
            taken.arrivals += 1;
            if taken.size >= MAX_TAKEN {
                break;
            }
        }
        taken
    }

    /// Routes the records of one arrival; returns letters of those that are malformed.
    fn take_records(&self, taken: &mut Taken, records: Vec<IngressRecord>) -> Vec<MalformedRecord> {
        let (mut fold, mut letters) = (Fold::new(taken.arrivals), Vec::new());
        for record in records {
            match self.envelopes(&record) {
                Ok(made) => {
                    taken.size += made.iter().map(|envelope| envelope.messages.len()).sum::<usize>();
                    fold.add(record.order.as_ref(), made);
                }
                Err(error) => letters.push(self.letter(&record, &error)),
            }
        }
        taken.works.extend(fold.into_works());
        letters
    }

    fn letter(&self, record: &IngressRecord, error: &RouteError) -> MalformedRecord {
        malformed(record, error, self.clock.now())
    }

    /// What the record becomes. An address without a queue would hold up its record's shard for ever.
    fn envelopes(&self, record: &IngressRecord) -> Result<Vec<Envelope>, RouteError> {
        let made = envelopes(&*self.router, record)?;
        made.iter().try_for_each(|envelope| self.targets.check(envelope.to.function()))?;
        Ok(made)
    }

    /// What comes of `work`, unless the deadline comes first.
    async fn in_time<T>(&self, deadline: Moment, work: impl Future<Output = T> + Send) -> Option<T> {
        if self.clock.moment() >= deadline {
            return None;
        }
        match select(pin!(work), self.clock.sleep_until(deadline)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    /// Parks malformed records, several at a time.
    async fn park_all(&self, letters: Letters, deadline: Moment) -> Vec<(usize, Outcome)> {
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

    /// Sends what records became; says which arrivals were not sent whole.
    async fn send_all(&self, mut works: Works, deadline: Moment) -> Vec<usize> {
        loop {
            let chosen = works.choose();
            let call: Vec<&Envelope> = chosen.iter().map(|place| works.envelope(*place)).collect();
            if call.is_empty() {
                return works.failed();
            }
            let Some(results) = self.in_time(deadline, self.queue.send(&call)).await else {
                // Some of the call may arrive all the same; under the same ids they have no second effect.
                return works.failed();
            };
            warn_of(&results);
            // An envelope without a result counts as not sent.
            let accepted = results.iter().map(Result::is_ok).chain(iter::repeat(false));
            works.called(chosen.into_iter().zip(accepted));
        }
    }
}

fn warn_of(results: &[Result<(), PortError>]) {
    let errors: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    if let Some(first) = errors.first() {
        tracing::warn!(failed = errors.len(), error = chain(first), "envelopes could not be sent; their records come again");
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}
