//! Sends of addresses that work at the same time share requests: ten messages cost what one does.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_channel::oneshot;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Either, Shared, WeakShared, join_all, select},
};
use statefun_core::{Safeguard, Safeguards, protocol::InOrder};

use crate::ports::{Clock, Outgoing, PortError, PortErrorKind, Requests};

/// Entries of a request, and the bytes of all their bodies. Source: SQS quotas.
const MAX_ENTRIES: usize = 10;
const MAX_BYTES: usize = 1_024 * 1_024;
/// A message waits for others in steps, while commits of other addresses are on their way, which may send too.
const STEP: Duration = Duration::from_millis(1);
const MAX_STEPS: u32 = 10;
/// Requests at the same time, per queue.
const MAX_REQUESTS: usize = 8;

struct Waiting {
    message: Outgoing,
    reply: oneshot::Sender<Result<(), PortError>>,
}

/// Collects and sends what waits for a queue. All who wait drive it; it is gone with the last of them.
type Driver = Shared<BoxFuture<'static, ()>>;

#[derive(Default)]
struct Lane {
    /// By their places in the order of their groups.
    waiting: HashMap<usize, Waiting>,
    order: InOrder<String>,
    driver: Option<WeakShared<BoxFuture<'static, ()>>>,
}

/// Writes of this process that are on their way.
#[derive(Debug, Clone, Default)]
pub struct InFlight(Arc<AtomicUsize>);

/// One write on its way, until it is dropped.
#[derive(Debug)]
pub struct Write<'a>(&'a InFlight);

impl Lane {
    /// Whoever drives what waits here, if anybody does.
    fn driver(&self) -> Option<Driver> {
        self.driver.as_ref().and_then(WeakShared::upgrade)
    }

    fn push(&mut self, waiting: Waiting) {
        let group = waiting.message.fifo.as_ref().map(|(group, _)| group.clone());
        self.waiting.insert(self.order.push(group, Vec::new()), waiting);
    }

    /// What goes into one request, by place: in order, none of a group that is in a request already, within the limits.
    fn next_request(&mut self) -> Option<Vec<(usize, Waiting)>> {
        let mut bytes = 0;
        let chosen = self.order.choose_if(MAX_ENTRIES, |place| {
            let more = self.waiting.get(&place).map_or(0, |waiting| waiting.message.body.len());
            let fits = bytes == 0 || bytes + more <= MAX_BYTES;
            bytes += if fits { more } else { 0 };
            fits
        });
        let request: Vec<_> = chosen.into_iter().filter_map(|place| Some((place, self.waiting.remove(&place)?))).collect();
        (!request.is_empty()).then_some(request)
    }

    /// A request ended. Whoever sends to a group decides what a failure means for the rest of it.
    fn requested(&mut self, places: impl IntoIterator<Item = usize>) {
        self.order.called(places.into_iter().map(|place| (place, true)));
    }
}

impl InFlight {
    /// A write begins; it is on its way until what is returned is dropped.
    pub fn begin(&self) -> Write<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Write(self)
    }

    fn is_idle(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Collects messages per queue and sends them in batches. Cheap to clone.
#[derive(Clone)]
pub struct Batcher {
    requests: Arc<dyn Requests>,
    clock: Arc<dyn Clock>,
    in_flight: InFlight,
    safeguards: Safeguards,
    lanes: Arc<Mutex<HashMap<Arc<str>, Lane>>>,
}

impl Batcher {
    /// A batcher that makes these requests. While writes are `in_flight`, messages wait for those that may follow them: up to 10 ms.
    pub fn new(requests: Arc<dyn Requests>, clock: Arc<dyn Clock>, in_flight: InFlight) -> Self {
        Self { requests, clock, in_flight, safeguards: Safeguards::default(), lanes: Arc::default() }
    }

    /// With these safeguards.
    #[must_use]
    pub fn with(self, safeguards: Safeguards) -> Self {
        Self { safeguards, ..self }
    }

    /// Sends a message; durable when it returns `Ok`.
    ///
    /// # Errors
    /// What its request failed with. It may have been accepted all the same, unless the error says otherwise.
    pub async fn send(&self, queue: &Arc<str>, message: Outgoing) -> Result<(), PortError> {
        self.send_all(vec![(queue.clone(), message)]).await.pop().unwrap_or_else(|| Err(lost()))
    }

    /// Sends messages, each to its queue; one result per message, in order. Durable where it is `Ok`. Messages of one group that
    /// are sent at the same time have no order: who needs one waits for the first.
    ///
    /// Dropped before it returns, it may have sent some, and may still send others along with somebody else's.
    pub async fn send_all(&self, messages: Vec<(Arc<str>, Outgoing)>) -> Vec<Result<(), PortError>> {
        let (answers, drivers) = self.push_all(messages);
        others_first().await;
        let answers = join_all(answers);
        let answers = match select(answers, join_all(drivers)).await {
            Either::Left((answers, _)) => answers,
            Either::Right((_, answers)) => answers.await,
        };
        answers.into_iter().map(|answer| answer.unwrap_or_else(|_| Err(lost()))).collect()
    }

    fn push_all(&self, messages: Vec<(Arc<str>, Outgoing)>) -> (Vec<oneshot::Receiver<Result<(), PortError>>>, Vec<Driver>) {
        let (mut answers, mut drivers) = (Vec::with_capacity(messages.len()), HashMap::new());
        let mut lanes = self.lock();
        for (queue, message) in messages {
            let lane = lanes.entry(queue.clone()).or_default();
            drivers.entry(queue.clone()).or_insert_with(|| {
                lane.driver().unwrap_or_else(|| {
                    let driver = self.clone().run(queue).boxed().shared();
                    // What was left here is of those who gave up.
                    *lane = Lane { driver: driver.downgrade(), ..Lane::default() };
                    driver
                })
            });
            let (reply, answer) = oneshot::channel();
            lane.push(Waiting { message, reply });
            answers.push(answer);
        }
        (answers, drivers.into_values().collect())
    }

    /// Sends until nothing waits.
    async fn run(self, queue: Arc<str>) {
        for _ in 0..MAX_STEPS {
            // Ten fill a request: nobody need wait longer.
            if self.in_flight.is_idle() || self.fills(&queue).await {
                break;
            }
        }
        loop {
            let batches = {
                let mut lanes = self.lock();
                let Some(lane) = lanes.get_mut(&queue) else { return };
                let batches: Vec<_> = std::iter::from_fn(|| lane.next_request()).take(MAX_REQUESTS).collect();
                if batches.is_empty() {
                    lane.driver = None;
                    return;
                }
                batches
            };
            join_all(batches.into_iter().map(|batch| self.request(&queue, batch))).await;
        }
    }

    /// Whether a request is full within one step.
    async fn fills(&self, queue: &str) -> bool {
        let is_full = || self.lock().get(queue).is_some_and(|lane| lane.waiting.len() >= MAX_ENTRIES);
        // Whoever adds a message drives, and so looks here.
        let full = poll_fn(|_| if is_full() { Poll::Ready(()) } else { Poll::Pending });
        let step = self.clock.sleep_until(self.clock.moment().plus(STEP));
        matches!(select(full, step).await, Either::Left(_))
    }

    async fn request(&self, queue: &str, batch: Vec<(usize, Waiting)>) {
        let places: Vec<_> = batch.iter().map(|(place, _)| *place).collect();
        let (messages, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|(_, waiting)| (waiting.message, waiting.reply)).unzip();
        let results = self.requests.send(queue, messages).await;
        if let Some(lane) = self.lock().get_mut(queue) {
            lane.requested(places);
        }
        let any = results.iter().any(Result::is_ok);
        for (reply, result) in replies.into_iter().zip(results) {
            let result = if any && !self.safeguards.on(Safeguard::OwnAnswer) { Ok(()) } else { result };
            // Whoever no longer waits for the answer has given up.
            let _ = reply.send(result);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Batcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batcher").finish_non_exhaustive()
    }
}

/// Lets all who can send without waiting do so.
fn others_first() -> impl Future<Output = ()> {
    let mut polled = false;
    poll_fn(move |context| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

fn lost() -> PortError {
    PortError::new("send", PortErrorKind::Unavailable, "the request ended without an answer")
}
