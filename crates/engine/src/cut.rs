//! The moment when a host stops: handlers still at work are given up, and what is noted of them is taken back.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

#[derive(Debug, Default)]
struct State {
    cut: bool,
    count: u64,
    waiting: HashMap<u64, Waker>,
}

/// Whether handlers are to be given up.
#[derive(Debug, Default)]
pub(crate) struct Cut(Mutex<State>);

impl Cut {
    pub(crate) fn cut(&self) {
        let mut state = self.lock();
        state.cut = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().for_each(Waker::wake);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.lock().cut
    }

    /// Returns once handlers are to be given up.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        let mut state = self.lock();
        state.count += 1;
        Waiting { cut: self, number: state.count }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Waiting<'a> {
    cut: &'a Cut,
    number: u64,
}

impl Future for Waiting<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.cut.lock();
        if state.cut {
            return Poll::Ready(());
        }
        state.waiting.insert(self.number, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.cut.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn whoever_waits_learns_of_it_and_leaves_nothing_behind() {
        let cut = Cut::default();
        let (mut one, mut two) = (cut.wait(), cut.wait());
        assert!((&mut one).now_or_never().is_none() && (&mut two).now_or_never().is_none());
        drop(two);
        assert_eq!(cut.lock().waiting.len(), 1);
        assert!(!cut.is_cut());
        cut.cut();
        assert!(cut.is_cut() && one.now_or_never().is_some() && cut.wait().now_or_never().is_some());
        assert!(cut.lock().waiting.is_empty());
    }
}
