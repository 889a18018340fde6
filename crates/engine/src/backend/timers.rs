//! Timers as rows, and the tombstones of those that were cancelled.
//!
//! A row may be written again after its timer was cancelled: an environment that was frozen while it sent an old outbox goes on
//! with that. So a cancelled timer leaves a *tombstone*, and whoever fires a row looks for it first.

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use statefun_core::{EnvelopeId, Safeguard, Safeguards, Timer, Timestamp, protocol::InOrder};

use crate::ports::{EnvelopeQueue, PortError};

/// Calls to the store at a time.
const CALLS_AT_ONCE: usize = 32;

/// The timer's id, and when it is due.
type Key = (EnvelopeId, Timestamp);

/// Rows of timers, and tombstones, of a store. Writing and finding rows is left to the adapter.
#[async_trait]
pub trait TimerRows: Send + Sync {
    /// A row as the store found it.
    type Row: Send;

    /// The timer's id, and when it is due.
    fn key(row: &Self::Row) -> (EnvelopeId, Timestamp);

    /// The timer of a row. `None` if it was deleted meanwhile.
    async fn read(&self, row: Self::Row) -> Result<Option<Timer>, PortError>;

    /// Writes the timer's tombstone. It outlives the timer by more than any environment stays frozen. Durable when it returns.
    async fn bury(&self, timer: EnvelopeId, due: Timestamp) -> Result<(), PortError>;

    /// Whether the timer has a tombstone. Strongly consistent with every [`bury`](Self::bury) before it.
    async fn is_buried(&self, timer: EnvelopeId) -> Result<bool, PortError>;

    /// Deletes the row, if it is there. Durable when it returns.
    async fn delete(&self, timer: EnvelopeId, due: Timestamp) -> Result<(), PortError>;
}

/// Cancels a timer: writes its tombstone, then deletes its row. Durable when it returns.
///
/// # Errors
/// What the store fails with. The timer may be cancelled or not, and may be cancelled again.
pub async fn cancel<R: TimerRows>(rows: &R, timer: EnvelopeId, due: Timestamp, safeguards: Safeguards) -> Result<(), PortError> {
    if safeguards.on(Safeguard::Tombstone) {
        rows.bury(timer, due).await?;
    }
    rows.delete(timer, due).await
}

/// What firing timers came to.
#[derive(Debug, Default)]
pub struct Fired {
    /// Timers whose envelopes are in their queues.
    pub fired: usize,
    /// What failed first. The rows that it concerns are left for a later try.
    pub error: Option<PortError>,
}

impl Fired {
    fn note<T>(&mut self, result: Result<T, PortError>) -> Option<T> {
        result.map_err(|error| self.error = self.error.take().or(Some(error))).ok()
    }
}

/// Fires the timers of rows, those that are due at `now`, with calls that they share: reads each unless it is cancelled, sends the envelopes,
/// each address's in the order of the rows, then deletes the rows. A cancelled one is only deleted. What fails holds up only what is behind
/// it for the same address.
///
/// When it returns, the envelopes of the timers that fired are in their queues. A row that was not deleted fires again, with the same envelope
/// id.
pub async fn fire<R: TimerRows>(
    rows: &R,
    queue: &dyn EnvelopeQueue,
    due: Vec<R::Row>,
    now: Timestamp,
    safeguards: Safeguards,
) -> Fired {
    let mut fired = Fired::default();
    let is_due = |row: &R::Row| R::key(row).1 <= now || !safeguards.on(Safeguard::TimerDue);
    let reads = due.into_iter().filter(is_due).map(|row| async move { (R::key(&row), read_unless_cancelled(rows, row).await) });
    let (mut gone, mut timers) = (Vec::new(), Vec::new());
    for (key, timer) in stream::iter(reads).buffered(CALLS_AT_ONCE).collect::<Vec<_>>().await {
        match fired.note(timer) {
            Some(Some(timer)) => timers.push((key, timer)),
            Some(None) => gone.push(key),
            None => {}
        }
    }
    if !safeguards.on(Safeguard::TimerDeleteLast) {
        delete(rows, timers.iter().map(|(key, _)| *key), &mut fired).await;
    }
    let sent = send(queue, &timers, &mut fired).await;
    fired.fired = sent.len();
    delete(rows, gone.into_iter().chain(sent), &mut fired).await;
    fired
}

/// The timer of a row that is due. `None` if it was cancelled or is gone: then there is nothing to send.
async fn read_unless_cancelled<R: TimerRows>(rows: &R, row: R::Row) -> Result<Option<Timer>, PortError> {
    let (timer, _) = R::key(&row);
    if rows.is_buried(timer).await? {
        return Ok(None);
    }
    rows.read(row).await
}

/// Sends the envelopes, one of an address at a time; returns the keys of those that were accepted.
async fn send(queue: &dyn EnvelopeQueue, timers: &[(Key, Timer)], fired: &mut Fired) -> Vec<Key> {
    let mut sent = Vec::new();
    let mut order = InOrder::of_groups(timers.iter().map(|(_, timer)| Some(&timer.envelope.to)));
    loop {
        let now = order.choose(timers.len());
        if now.is_empty() {
            return sent;
        }
        let call: Vec<_> = now.iter().map(|place| &timers[*place].1.envelope).collect();
        let results = queue.send(&call).await;
        order.called(now.iter().zip(&results).map(|(place, result)| (*place, result.is_ok())));
        sent.extend(now.into_iter().zip(results).filter_map(|(place, result)| fired.note(result).map(|()| timers[place].0)));
    }
}

async fn delete<R: TimerRows>(rows: &R, keys: impl Iterator<Item = Key>, fired: &mut Fired) {
    let deletes = stream::iter(keys.collect::<Vec<_>>()).map(|(timer, due)| rows.delete(timer, due));
    for deleted in deletes.buffer_unordered(CALLS_AT_ONCE).collect::<Vec<_>>().await {
        fired.note(deleted);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt;
    use statefun_core::{Address, Envelope};

    use super::*;
    use crate::ports::PortErrorKind;

    const ID: EnvelopeId = EnvelopeId([7; 16]);
    const DUE: Timestamp = Timestamp(5);

    /// A store with room for one timer, and its queue. Notes the calls.
    #[derive(Default)]
    struct Fake {
        row: Mutex<bool>,
        buried: Mutex<bool>,
        calls: Mutex<Vec<&'static str>>,
        /// The call that fails.
        failing: Option<&'static str>,
    }

    impl Fake {
        fn with_row() -> Self {
            Self { row: Mutex::new(true), ..Self::default() }
        }

        fn call(&self, name: &'static str) -> Result<(), PortError> {
            self.calls.lock().unwrap().push(name);
            match self.failing == Some(name) {
                true => Err(PortError::new(name, PortErrorKind::Unavailable, "fake")),
                false => Ok(()),
            }
        }

        fn calls(&self) -> Vec<&'static str> {
            std::mem::take(&mut self.calls.lock().unwrap())
        }

        fn cancel(&self, safeguards: Safeguards) -> Result<(), PortError> {
            cancel(self, ID, DUE, safeguards).now_or_never().unwrap()
        }

        fn fire(&self, safeguards: Safeguards) -> Result<usize, PortError> {
            let Fired { fired, error } = fire(self, self, vec![(ID, DUE)], DUE, safeguards).now_or_never().unwrap();
            error.map_or(Ok(fired), Err)
        }
    }

    fn timer() -> Timer {
        let to = Address::parse("a/b/c").unwrap();
        let envelope =
            Envelope { id: ID, to, from: None, sent_at: DUE, keyed: false, hops: 0, trace: None, messages: Vec::new() };
        Timer { due: DUE, envelope }
    }

    #[async_trait]
    impl TimerRows for Fake {
        type Row = (EnvelopeId, Timestamp);

        fn key(row: &Self::Row) -> (EnvelopeId, Timestamp) {
            *row
        }

        async fn read(&self, _: Self::Row) -> Result<Option<Timer>, PortError> {
            self.call("read")?;
            Ok(self.row.lock().unwrap().then(timer))
        }

        async fn bury(&self, _: EnvelopeId, _: Timestamp) -> Result<(), PortError> {
            self.call("bury")?;
            *self.buried.lock().unwrap() = true;
            Ok(())
        }

        async fn is_buried(&self, _: EnvelopeId) -> Result<bool, PortError> {
            self.call("is buried")?;
            Ok(*self.buried.lock().unwrap())
        }

        async fn delete(&self, _: EnvelopeId, _: Timestamp) -> Result<(), PortError> {
            self.call("delete")?;
            *self.row.lock().unwrap() = false;
            Ok(())
        }
    }

    #[async_trait]
    impl EnvelopeQueue for Fake {
        async fn send(&self, envelopes: &[&Envelope]) -> Vec<Result<(), PortError>> {
            envelopes.iter().map(|_| self.call("send")).collect()
        }
    }

    #[test]
    fn a_timer_is_sent_before_its_row_is_deleted() {
        let fake = Fake::with_row();
        assert_eq!(fake.fire(Safeguards::default()).unwrap(), 1);
        assert_eq!(fake.calls(), ["is buried", "read", "send", "delete"]);
        assert_eq!(fake.fire(Safeguards::default()).unwrap(), 0);
        assert_eq!(fake.calls(), ["is buried", "read", "delete"], "its row is gone");
        let early = fire(&fake, &fake, vec![(ID, DUE)], Timestamp(DUE.0 - 1), Safeguards::default()).now_or_never().unwrap();
        assert_eq!((early.fired, fake.calls().len()), (0, 0), "it is not due");
    }

    #[test]
    fn a_row_that_is_written_after_its_cancellation_does_not_fire() {
        let fake = Fake::with_row();
        fake.cancel(Safeguards::default()).unwrap();
        assert_eq!(fake.calls(), ["bury", "delete"], "the tombstone comes first");
        *fake.row.lock().unwrap() = true;
        fake.fire(Safeguards::default()).unwrap();
        assert_eq!(fake.calls(), ["is buried", "delete"]);
    }

    #[test]
    fn what_fails_leaves_the_row() {
        for (failing, calls) in [
            ("is buried", &["is buried"][..]),
            ("read", &["is buried", "read"]),
            ("send", &["is buried", "read", "send"]),
            ("delete", &["is buried", "read", "send", "delete"]),
        ] {
            let fake = Fake { failing: Some(failing), ..Fake::with_row() };
            assert_eq!(fake.fire(Safeguards::default()).unwrap_err().call, failing);
            assert_eq!(fake.calls(), calls);
            assert!(*fake.row.lock().unwrap());
        }
        let fake = Fake { failing: Some("bury"), ..Fake::with_row() };
        assert_eq!(fake.cancel(Safeguards::default()).unwrap_err().call, "bury");
        assert!(*fake.row.lock().unwrap(), "a row without a tombstone still fires");
    }

    #[cfg(feature = "mutations")]
    #[test]
    fn each_safeguard_can_be_switched_off() {
        let fake = Fake::with_row();
        fake.fire(Safeguards::without(Safeguard::TimerDeleteLast)).unwrap();
        assert_eq!(fake.calls(), ["is buried", "read", "delete", "send"]);
        fake.cancel(Safeguards::without(Safeguard::Tombstone)).unwrap();
        assert_eq!(fake.calls(), ["delete"]);
    }
}
