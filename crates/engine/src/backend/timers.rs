//! Timers as rows, and the tombstones of those that were cancelled.
//!
//! A row may be written again after its timer was cancelled: an environment that was frozen while it sent an old outbox goes on
//! with that. So a cancelled timer leaves a *tombstone*, and whoever fires a row looks for it first.

use async_trait::async_trait;
use statefun_core::{EnvelopeId, Safeguard, Safeguards, Timer, Timestamp};

use crate::ports::{EnvelopeQueue, PortError};

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

/// The timer of a row that is due: send its envelope, then delete the row. `None` if it was cancelled or is gone: then there is
/// nothing to send, and the row is only to be deleted.
///
/// # Errors
/// What the store fails with. Then leave the row for a later try.
pub async fn read_unless_cancelled<R: TimerRows>(rows: &R, row: R::Row) -> Result<Option<Timer>, PortError> {
    let (timer, _) = R::key(&row);
    if rows.is_buried(timer).await? {
        return Ok(None);
    }
    rows.read(row).await
}

/// Fires the timer of a row, if it is due at `now`: sends its envelope, then deletes the row. A cancelled one is only deleted.
///
/// When it returns, the envelope is in its queue and the deletion is durable.
///
/// # Errors
/// What store or queue fail with. A row that was not deleted fires again, with the same envelope id.
pub async fn fire<R: TimerRows>(
    rows: &R,
    queue: &dyn EnvelopeQueue,
    row: R::Row,
    now: Timestamp,
    safeguards: Safeguards,
) -> Result<(), PortError> {
    let (id, due) = R::key(&row);
    if due > now && safeguards.on(Safeguard::TimerDue) {
        return Ok(());
    }
    let timer = read_unless_cancelled(rows, row).await?;
    let delete_last = safeguards.on(Safeguard::TimerDeleteLast);
    if !delete_last {
        rows.delete(id, due).await?;
    }
    if let Some(timer) = &timer {
        queue.send(&[&timer.envelope]).await.into_iter().collect::<Result<(), _>>()?;
    }
    if delete_last {
        rows.delete(id, due).await?;
    }
    Ok(())
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

        fn fire(&self, safeguards: Safeguards) -> Result<(), PortError> {
            fire(self, self, (ID, DUE), DUE, safeguards).now_or_never().unwrap()
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
        fake.fire(Safeguards::default()).unwrap();
        assert_eq!(fake.calls(), ["is buried", "read", "send", "delete"]);
        fake.fire(Safeguards::default()).unwrap();
        assert_eq!(fake.calls(), ["is buried", "read", "delete"], "its row is gone");
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
