//! Who may run handlers: many beside each other, or one alone. First come, first served, so that neither waits for ever. (No lock of a
//! library: those that are fair look at the clock, which a simulation cannot repeat.)

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// How somebody wants to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Beside,
    Alone,
}

#[derive(Debug, Default)]
struct State {
    beside: usize,
    alone: bool,
    waiting: VecDeque<Waiter>,
    count: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    how: How,
    /// It has passed, and does not know yet.
    passed: bool,
    waker: Option<Waker>,
}

/// The gate of one process.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<State>);

/// Held by whoever has passed.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    gate: &'a Gate,
    how: How,
}

/// Waits at the gate. Dropped, it has never been there.
pub(crate) struct Passing<'a> {
    gate: &'a Gate,
    how: How,
    number: Option<u64>,
}

impl Gate {
    /// Waits until handlers may run this way.
    pub(crate) fn pass(&self, how: How) -> Passing<'_> {
        Passing { gate: self, how, number: None }
    }

    /// The same without waiting.
    pub(crate) fn try_pass(&self, how: How) -> Option<Pass<'_>> {
        let mut state = self.lock();
        let free = state.waiting.is_empty() && state.admits(how);
        free.then(|| {
            state.admit(how);
            Pass { gate: self, how }
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole between calls, whatever panicked elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, how: How) {
        let mut state = self.lock();
        match how {
            How::Beside => state.beside -= 1,
            How::Alone => state.alone = false,
        }
        state.admit_waiting().into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn admits(&self, how: How) -> bool {
        !self.alone && (how == How::Beside || self.beside == 0)
    }

    fn admit(&mut self, how: How) {
        match how {
            How::Beside => self.beside += 1,
            How::Alone => self.alone = true,
        }
    }

    /// Lets those pass whose turn it is; returns whom to wake.
    fn admit_waiting(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(place) = self.waiting.iter().position(|waiter| !waiter.passed)
            && self.admits(self.waiting[place].how)
        {
            self.admit(self.waiting[place].how);
            self.waiting[place].passed = true;
            wakers.extend(self.waiting[place].waker.take());
        }
        wakers
    }
}

impl<'a> Future for Passing<'a> {
    type Output = Pass<'a>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Pass<'a>> {
        let (gate, how) = (self.gate, self.how);
        let Some(number) = self.number else {
            if let Some(pass) = gate.try_pass(how) {
                return Poll::Ready(pass);
            }
            let mut state = gate.lock();
            state.count += 1;
            let number = state.count;
            state.waiting.push_back(Waiter { number, how, passed: false, waker: Some(context.waker().clone()) });
            self.number = Some(number);
            return Poll::Pending;
        };
        let mut state = gate.lock();
        let Some(place) = state.waiting.iter().position(|waiter| waiter.number == number) else { return Poll::Pending };
        if !state.waiting[place].passed {
            state.waiting[place].waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        state.waiting.remove(place);
        self.number = None;
        Poll::Ready(Pass { gate, how })
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut state = self.gate.lock();
        let place = state.waiting.iter().position(|waiter| waiter.number == number);
        let passed = place.and_then(|place| state.waiting.remove(place)).is_some_and(|waiter| waiter.passed);
        if passed {
            drop(state);
            self.gate.leave(self.how);
        } else {
            // Others may have waited only behind it.
            state.admit_waiting().into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.leave(self.how);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn many_beside_each_other_or_one_alone() {
        let gate = Gate::default();
        let (one, two) = (gate.try_pass(How::Beside).unwrap(), gate.try_pass(How::Beside).unwrap());
        assert!(gate.try_pass(How::Alone).is_none());
        drop(one);
        assert!(gate.try_pass(How::Alone).is_none());
        drop(two);
        let alone = gate.try_pass(How::Alone).unwrap();
        assert!(gate.try_pass(How::Beside).is_none() && gate.try_pass(How::Alone).is_none());
        drop(alone);
        assert!(gate.try_pass(How::Beside).is_some());
    }

    #[test]
    fn first_come_first_served() {
        let gate = Gate::default();
        let running = gate.try_pass(How::Beside).unwrap();
        let (mut alone, mut beside) = (gate.pass(How::Alone), gate.pass(How::Beside));
        assert!((&mut alone).now_or_never().is_none() && (&mut beside).now_or_never().is_none());
        assert!(gate.try_pass(How::Beside).is_none(), "nobody passes one that waits");
        drop(running);
        assert!((&mut beside).now_or_never().is_none());
        let pass = (&mut alone).now_or_never().unwrap();
        drop(pass);
        assert!(beside.now_or_never().is_some());
    }

    #[test]
    fn whoever_gives_up_holds_up_nobody() {
        let gate = Gate::default();
        let running = gate.try_pass(How::Beside).unwrap();
        let (mut alone, mut beside) = (gate.pass(How::Alone), gate.pass(How::Beside));
        assert!((&mut alone).now_or_never().is_none() && (&mut beside).now_or_never().is_none());
        drop(alone);
        assert!(beside.now_or_never().is_some());
        let mut alone = gate.pass(How::Alone);
        assert!((&mut alone).now_or_never().is_none());
        drop(running);
        // It has passed by now, and never learns of it.
        drop(alone);
        assert!(gate.try_pass(How::Alone).is_some());
    }
}
