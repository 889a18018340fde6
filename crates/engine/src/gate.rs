//! Which runs may call handlers: many beside each other, or one alone. First come, first served, so that neither waits for ever. (No lock of a
//! library: those that are fair look at the clock, which a simulation cannot repeat.)

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use statefun_core::protocol::How;

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
        // Those that passed and were not polled since are not in the way.
        let free = state.waiting.iter().all(|waiter| waiter.passed) && state.admits(how);
        free.then(|| {
            state.admit(how);
            Pass { gate: self, how }
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole between calls, whatever panicked elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn leave(&self, how: How) {
        let mut state = self.lock();
        match how {
            How::Beside => state.beside -= 1,
            How::Alone => state.alone = false,
        }
        let admitted = state.admit_waiting();
        drop(state);
        admitted.into_iter().for_each(Waker::wake);
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
        // One lock for all of it: whoever leaves in between would find nobody to admit.
        let mut state = gate.lock();
        let number = *self.number.get_or_insert_with(|| {
            state.count += 1;
            let number = state.count;
            state.waiting.push_back(Waiter { number, how, passed: false, waker: None });
            number
        });
        let others = state.admit_waiting();
        let Some(place) = state.waiting.iter().position(|waiter| waiter.number == number) else { return Poll::Pending };
        let passed = state.waiting[place].passed;
        if passed {
            state.waiting.remove(place);
        } else {
            state.waiting[place].waker = Some(context.waker().clone());
        }
        drop(state);
        others.into_iter().for_each(Waker::wake);
        if !passed {
            return Poll::Pending;
        }
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
            let admitted = state.admit_waiting();
            drop(state);
            admitted.into_iter().for_each(Waker::wake);
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

    /// Whoever was let in and does not know yet is not in the way of others.
    #[test]
    fn late_comers_run_beside_those_that_were_just_let_in() {
        let gate = Gate::default();
        let alone = gate.try_pass(How::Alone).unwrap();
        let mut first = gate.pass(How::Beside);
        assert!((&mut first).now_or_never().is_none());
        drop(alone);
        let late = gate.pass(How::Beside).now_or_never().unwrap();
        drop((first.now_or_never().unwrap(), late));
        assert!(gate.try_pass(How::Alone).is_some());
    }

    /// On several threads nobody waits before an open gate.
    #[test]
    fn nobody_is_forgotten() {
        let (gate, passes) = (Gate::default(), std::sync::atomic::AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (gate, passes) = (&gate, &passes);
                scope.spawn(move || {
                    for round in 0..20_000 {
                        let how = if (thread + round) % 16 == 0 { How::Alone } else { How::Beside };
                        // Blocks for ever if a wake-up is lost.
                        drop(block_on(gate.pass(how)));
                        passes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(passes.into_inner(), 80_000);
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        struct Thread(std::thread::Thread);
        impl std::task::Wake for Thread {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(std::sync::Arc::new(Thread(std::thread::current())));
        let mut future = std::pin::pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(value) => return value,
                Poll::Pending => std::thread::park(),
            }
        }
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
