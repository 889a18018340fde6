//! Calling a handler: the gate of the process, panics, the deadline, runs that are given up meanwhile.

use std::{future::pending, panic::AssertUnwindSafe};

use futures_util::{
    FutureExt,
    future::{Either, join, select},
};
use statefun_core::{
    Context, FunctionError, TypedValue,
    protocol::{Event, Handled, How, Leased, Leasing, Lost},
};

use crate::{
    drive::Drive,
    ports::Moment,
    watch::{Holds, Watch},
};

impl Drive<'_> {
    /// Waits until the next handler may run this way.
    pub(crate) async fn enter(&mut self, how: How, last_moment: Moment) -> Event {
        let gate = &self.engine.gate;
        if how == How::Alone {
            // Others may go on meanwhile.
            self.permit = None;
        }
        let at_once = if how == How::Beside { gate.try_pass(how) } else { None };
        let pass = match at_once {
            Some(pass) => Some(pass),
            None => self.within_its_time(last_moment, gate.pass(how)).await,
        };
        let Some(pass) = pass else { return Event::NoTime };
        match how {
            How::Alone => self.alone = Some(pass),
            How::Beside => self.beside = Some(pass),
        }
        Event::Entered
    }

    /// The handler is over. The pass of a run that was given up has been given back already.
    pub(crate) fn leave(&mut self) {
        if let Some(pass) = self.beside.take()
            && self.is_given_up()
        {
            std::mem::forget(pass);
        }
    }

    fn is_given_up(&self) -> bool {
        self.watch.is_some_and(Watch::is_given_up)
    }

    async fn within_its_time<T>(&self, last_moment: Moment, waiting: impl Future<Output = T>) -> Option<T> {
        let waiting = std::pin::pin!(waiting);
        match select(waiting, std::pin::pin!(self.end_of_time(last_moment))).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    /// Returns when handlers have no more time, or are given up.
    async fn end_of_time(&self, last_moment: Moment) {
        select(self.engine.ports.clock.sleep_until(last_moment), self.engine.cut.wait()).await;
    }

    /// Calls the handler; if that takes long, takes a lease meanwhile. A panic is a failure like any other.
    pub(crate) async fn invoke(
        &self,
        context: &mut Context,
        message: &TypedValue,
        lost: Lost,
        lease: Option<(Moment, Leasing)>,
        last_moment: Moment,
    ) -> (Handled, Option<Option<Leased>>) {
        let how = if self.alone.is_some() { How::Alone } else { How::Beside };
        let handler = AssertUnwindSafe(self.function.handler.invoke(context, message)).catch_unwind();
        let handler = async {
            match self.watch {
                Some(watch) => watch.over(Holds { lost, how }, handler).await,
                None => handler.await,
            }
        };
        let mut handler = std::pin::pin!(handler);
        // Most handlers return at once; only the others need an alarm.
        if let std::task::Poll::Ready(result) = futures_util::poll!(&mut handler) {
            return (came_out(result), None);
        }
        let handler = async {
            match select(handler, std::pin::pin!(self.end_of_time(last_moment))).await {
                Either::Left((result, _)) => came_out(result),
                Either::Right(_) if self.is_given_up() => pending().await,
                Either::Right(_) => Handled::CutShort,
            }
        };
        let Some((after, leasing)) = lease else { return (handler.await, None) };
        let handler = std::pin::pin!(handler);
        match select(handler, self.engine.ports.clock.sleep_until(after)).await {
            Either::Left((handled, _)) => (handled, None),
            Either::Right(((), handler)) => {
                let (handled, leased) = join(handler, self.lease(&leasing)).await;
                if let Err(error) = &leased {
                    tracing::debug!(%error, address = %self.address, "a long run has no lease");
                }
                (handled, Some(leased.ok()))
            }
        }
    }
}

fn came_out(result: std::thread::Result<Result<(), FunctionError>>) -> Handled {
    match result {
        Ok(Ok(())) => Handled::Kept,
        Ok(Err(error)) => Handled::Failed(error),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Handled::Panicked(FunctionError::retryable(format!("the handler panicked: {text}")))
        }
    }
}

impl Drop for Drive<'_> {
    fn drop(&mut self) {
        // Whoever gave the run up has given its passes back.
        if self.is_given_up() {
            std::mem::forget((self.alone.take(), self.beside.take()));
        }
    }
}
