//! Sends of addresses that work at the same time share requests: ten messages cost what one does.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_sdk_sqs::{Client, types::SendMessageBatchRequestEntry};
use statefun_core::protocol::InOrder;
use statefun_engine::ports::{PortError, PortErrorKind};
use tokio::sync::{Notify, oneshot};

use crate::{
    entries::{FailedEntry, outcomes, repeated},
    error::port_error,
};

/// Entries of a request, and the bytes of all their bodies. Source: SQS quotas.
const MAX_ENTRIES: usize = 10;
const MAX_BYTES: usize = 1_024 * 1_024;
/// A message waits for others in steps: at least one, then while commits of other addresses are on their way, which may send too.
const STEP: Duration = Duration::from_millis(1);
const MAX_STEPS: u32 = 10;
/// Requests at the same time, per queue.
const MAX_REQUESTS: usize = 8;

/// A message for a queue.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) body: String,
    /// FIFO queues: group and deduplication id.
    pub(crate) fifo: Option<(String, String)>,
    /// Standard queues: seconds before it is delivered.
    pub(crate) delay_seconds: i32,
}

struct Waiting {
    message: Outgoing,
    reply: oneshot::Sender<Result<(), PortError>>,
}

#[derive(Default)]
struct Lane {
    /// By their places in the order of their groups.
    waiting: HashMap<usize, Waiting>,
    order: InOrder<String>,
    /// A task collects and sends.
    running: bool,
    full: Arc<Notify>,
}

/// Writes of this process that are on their way.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight(Arc<AtomicUsize>);

/// One write on its way, until it is dropped.
pub(crate) struct Write<'a>(&'a InFlight);

impl Lane {
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
    pub(crate) fn begin(&self) -> Write<'_> {
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
pub(crate) struct Batcher {
    client: Client,
    in_flight: InFlight,
    lanes: Arc<Mutex<HashMap<Arc<str>, Lane>>>,
}

impl Batcher {
    pub(crate) fn new(client: Client, in_flight: InFlight) -> Self {
        Self { client, in_flight, lanes: Arc::default() }
    }

    /// Sends a message; durable when it returns `Ok`.
    pub(crate) async fn send(&self, queue: &Arc<str>, message: Outgoing) -> Result<(), PortError> {
        self.send_all(vec![(queue.clone(), message)]).await.pop().unwrap_or_else(|| Err(lost()))
    }

    /// Sends messages, each to its queue; one result per message, in order. Durable where it is `Ok`. Messages of one group that
    /// are sent at the same time have no order: who needs one waits for the first.
    pub(crate) async fn send_all(&self, messages: Vec<(Arc<str>, Outgoing)>) -> Vec<Result<(), PortError>> {
        let answers: Vec<_> = {
            let mut lanes = self.lock();
            let push = |(queue, message): (Arc<str>, Outgoing)| {
                let (reply, answer) = oneshot::channel();
                let lane = lanes.entry(queue.clone()).or_default();
                lane.push(Waiting { message, reply });
                if lane.waiting.len() >= MAX_ENTRIES {
                    lane.full.notify_one();
                }
                if !std::mem::replace(&mut lane.running, true) {
                    tokio::spawn(self.clone().run(queue));
                }
                answer
            };
            messages.into_iter().map(push).collect()
        };
        let answers = futures_util::future::join_all(answers).await;
        answers.into_iter().map(|answer| answer.unwrap_or_else(|_| Err(lost()))).collect()
    }

    /// Sends until nothing waits.
    async fn run(self, queue: Arc<str>) {
        let full = self.lock().entry(queue.clone()).or_default().full.clone();
        for _ in 0..MAX_STEPS {
            // Ten fill a request: nobody need wait longer.
            if tokio::time::timeout(STEP, full.notified()).await.is_ok() || self.in_flight.is_idle() {
                break;
            }
        }
        loop {
            let batches = {
                let mut lanes = self.lock();
                let Some(lane) = lanes.get_mut(&queue) else { return };
                let batches: Vec<_> = std::iter::from_fn(|| lane.next_request()).take(MAX_REQUESTS).collect();
                if batches.is_empty() {
                    lane.running = false;
                    return;
                }
                batches
            };
            futures_util::future::join_all(batches.into_iter().map(|batch| self.request(&queue, batch))).await;
        }
    }

    async fn request(&self, queue: &str, batch: Vec<(usize, Waiting)>) {
        let places: Vec<_> = batch.iter().map(|(place, _)| *place).collect();
        let (messages, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|(_, waiting)| (waiting.message, waiting.reply)).unzip();
        let results = self.send_batch(queue, messages).await;
        if let Some(lane) = self.lock().get_mut(queue) {
            lane.requested(places);
        }
        for (reply, result) in replies.into_iter().zip(results) {
            // Who no longer waits for the answer has given up.
            let _ = reply.send(result);
        }
    }

    async fn send_batch(&self, queue: &str, messages: Vec<Outgoing>) -> Vec<Result<(), PortError>> {
        let count = messages.len();
        let entries =
            messages.into_iter().enumerate().map(|(index, message)| entry(index, message)).collect::<Result<Vec<_>, _>>();
        let answer = match entries {
            Ok(entries) => self.client.send_message_batch().queue_url(queue).set_entries(Some(entries)).send().await,
            Err(error) => return repeated(&PortError::new("send", PortErrorKind::Refused, error), count),
        };
        let output = match answer {
            Ok(output) => output,
            Err(error) => return repeated(&port_error("send", error), count),
        };
        let failed = output.failed.iter().map(|entry| FailedEntry {
            id: &entry.id,
            code: &entry.code,
            text: entry.message.as_deref(),
            sender_fault: entry.sender_fault,
        });
        outcomes("send", count, output.successful.iter().map(|entry| &*entry.id), failed)
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

fn entry(index: usize, message: Outgoing) -> Result<SendMessageBatchRequestEntry, aws_sdk_sqs::error::BuildError> {
    let entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(message.body);
    match message.fifo {
        Some((group, id)) => entry.message_group_id(group).message_deduplication_id(id),
        None => entry.delay_seconds(message.delay_seconds),
    }
    .build()
}

fn lost() -> PortError {
    PortError::new("send", PortErrorKind::Unavailable, "the sending task ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(group: &str, bytes: usize) -> Waiting {
        let message = Outgoing { body: "x".repeat(bytes), fifo: Some((group.to_owned(), "id".to_owned())), delay_seconds: 0 };
        Waiting { message, reply: oneshot::channel().0 }
    }

    /// The groups of each request, if one is made after the other.
    fn batches(waiting: Vec<Waiting>) -> Vec<Vec<String>> {
        let mut lane = Lane::default();
        waiting.into_iter().for_each(|one| lane.push(one));
        let next = || {
            let (places, groups): (Vec<_>, Vec<_>) =
                lane.next_request()?.into_iter().map(|(place, one)| (place, one.message.fifo)).unzip();
            lane.requested(places);
            Some(groups.into_iter().flatten().map(|(group, _)| group).collect())
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_group_is_once_in_a_request_and_in_order() {
        let of = |groups: &str| groups.chars().map(|group| waiting(&group.to_string(), 1)).collect();
        assert_eq!(batches(of("aabca")), [vec!["a", "b", "c"], vec!["a"], vec!["a"]]);
        assert_eq!(batches(of("abcdefghijkl")).iter().map(Vec::len).collect::<Vec<_>>(), [10, 2]);
        assert!(batches(Vec::new()).is_empty());
    }

    #[test]
    fn of_a_group_one_message_is_on_its_way() {
        let mut lane = Lane::default();
        [waiting("a", 1), waiting("a", 1), waiting("b", 1)].into_iter().for_each(|one| lane.push(one));
        let places = |request: Option<Vec<(usize, Waiting)>>| {
            request.unwrap_or_default().iter().map(|(place, _)| *place).collect::<Vec<_>>()
        };
        assert_eq!((places(lane.next_request()), places(lane.next_request())), (vec![0, 2], vec![]));
        lane.requested([2]);
        assert!(places(lane.next_request()).is_empty());
        lane.requested([0]);
        assert_eq!(places(lane.next_request()), [1]);
    }

    #[test]
    fn a_request_holds_a_mebibyte() {
        let half = MAX_BYTES / 2;
        assert_eq!(batches(vec![waiting("a", half), waiting("b", half), waiting("c", 1)]), [vec!["a", "b"], vec!["c"]]);
        assert_eq!(batches(vec![waiting("a", MAX_BYTES), waiting("b", MAX_BYTES)]), [["a"], ["b"]]);
    }
}
