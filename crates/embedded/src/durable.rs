//! Waiting for an operation to be on stable storage. Each waiter is woken once, for its own operation, when the state is unlocked again:
//! a flush makes hundreds durable, while a thousand others wait for the next.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use statefun_engine::ports::PortError;

use crate::{
    log::{Log, Sleep},
    shared::Shared,
};

/// The waiters, by operation.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: BTreeMap<(u64, u64), Waker>,
    count: u64,
}

/// Whom to wake once the state is unlocked.
#[must_use]
pub(crate) struct Woken(Vec<Waker>);

/// Returns once its operation is durable, or never will be.
pub(crate) struct Durable<'a> {
    shared: &'a Shared,
    op: u64,
    /// Its place among the waiters.
    number: Option<u64>,
}

impl Waiters {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Those whose wait is over.
    pub(crate) fn take(&mut self, log: &Log) -> Woken {
        let later = match log.down {
            None => self.waiting.split_off(&(log.durable + 1, 0)),
            Some(_) => BTreeMap::new(),
        };
        Woken(std::mem::replace(&mut self.waiting, later).into_values().collect())
    }
}

impl Woken {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}

impl<'a> Durable<'a> {
    pub(crate) fn new(shared: &'a Shared, op: u64) -> Self {
        Self { shared, op, number: None }
    }
}

impl Future for Durable<'_> {
    type Output = Result<(), PortError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (shared, op) = (self.shared, self.op);
        let mut guard = shared.lock_always();
        let state = &mut *guard;
        if state.log.durable >= op || state.log.down.is_some() {
            self.number = None;
            let durable = state.log.durable >= op;
            drop(guard);
            return Poll::Ready(if durable { Ok(()) } else { shared.lock("durable").map(drop) });
        }
        let number = *self.number.get_or_insert_with(|| {
            state.waiters.count += 1;
            state.waiters.count
        });
        state.waiters.waiting.insert((op, number), context.waker().clone());
        state.log.wanted = state.log.wanted.max(op);
        let asleep = std::mem::replace(&mut state.log.sleep, Sleep::Awake) != Sleep::Awake;
        drop(guard);
        if asleep {
            shared.work.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Durable<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shared.lock_always().waiters.waiting.remove(&(self.op, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_those_whose_operation_is_durable_are_woken_or_all_if_none_will_be() {
        let (count, mut log, mut waiters) = (Arc::<Count>::default(), Log::new(), Waiters::default());
        for (number, op) in [3, 5, 5, 6, 9].into_iter().enumerate() {
            waiters.waiting.insert((op, number as u64), count.clone().into());
        }
        let mut woken = |log: &Log| {
            waiters.take(log).wake();
            count.0.swap(0, Ordering::Relaxed)
        };
        assert_eq!(woken(&log), 0);
        log.durable = 5;
        assert_eq!((woken(&log), woken(&log)), (3, 0));
        log.down = Some("the disk failed".into());
        assert_eq!(woken(&log), 2);
    }
}
