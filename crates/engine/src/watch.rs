//! A run as others of its process see it. A handler that does not yield holds its thread: only somebody else can give it up.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use statefun_core::protocol::{How, Lost};

use crate::engine::Engine;

/// Watches one run; see [`Engine::run_watched`].
#[derive(Debug, Default)]
pub struct Watch(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How often a handler was called or woken.
    polls: u64,
    /// A handler holds the thread.
    holds: Option<Holds>,
    given_up: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Holds {
    pub(crate) lost: Lost,
    /// How the handler passed the gate.
    pub(crate) how: How,
}

impl Watch {
    /// Whether a handler holds its thread at this moment, as a number: while that stays the same the handler has not yielded.
    #[must_use]
    pub fn held(&self) -> Option<u64> {
        let state = self.lock();
        state.holds.map(|_| state.polls)
    }

    /// Whether the run was given up.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.lock().given_up
    }

    /// Polls a handler so that it can be given up in the middle. Then this never returns, and nothing that the handler did is used.
    pub(crate) async fn over<T>(&self, holds: Holds, handler: impl Future<Output = T>) -> T {
        let mut handler = pin!(handler);
        poll_fn(|context| {
            {
                let mut state = self.lock();
                if state.given_up {
                    return Poll::Pending;
                }
                state.polls += 1;
                state.holds = Some(holds);
            }
            let polled = handler.as_mut().poll(context);
            match self.lock().holds.take() {
                Some(_) => polled,
                None => Poll::Pending,
            }
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole between calls, whatever panicked elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Gives a run up while a handler of it holds its thread: it commits nothing any more, others of the process may run as if it had
    /// ended, and its future never completes: drop it once the handler returns. Returns what the next run of the same deliveries is to
    /// be started with, which counts the handler as failed; `None` if the one of [`Watch::held`] does not hold the thread any more.
    pub fn give_up(&self, watch: &Watch, handler: u64) -> Option<Lost> {
        let holds = {
            let mut state = watch.lock();
            if state.polls != handler {
                return None;
            }
            let holds = state.holds.take()?;
            state.given_up = true;
            holds
        };
        self.gate.leave(holds.how);
        Some(holds.lost)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use statefun_core::{EnvelopeId, Owner};

    use super::*;

    fn holds() -> Holds {
        Holds { lost: Lost::new(EnvelopeId([1; 16]), 2, Owner(3)), how: How::Beside }
    }

    #[test]
    fn a_handler_that_returns_is_not_held() {
        let watch = Watch::default();
        let seen = watch.over(holds(), async { (watch.held(), watch.is_given_up()) }).now_or_never();
        assert_eq!((seen, watch.held(), watch.is_given_up()), (Some((Some(1), false)), None, false));
    }

    #[test]
    fn what_a_handler_returns_after_it_was_given_up_is_lost() {
        let watch = Watch::default();
        let polled = watch.over(holds(), async {
            let mut state = watch.lock();
            (state.holds, state.given_up) = (None, true);
        });
        assert_eq!(polled.now_or_never(), None);
        assert!(watch.is_given_up() && watch.held().is_none());
        assert_eq!(watch.over(holds(), async {}).now_or_never(), None, "nor does another begin");
    }
}
