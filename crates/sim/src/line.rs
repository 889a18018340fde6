//! What the batcher of an environment needs of the world: a clock, and requests that its senders share.

use std::time::Duration;

use async_trait::async_trait;
use statefun_core::Timestamp;
use statefun_engine::ports::{Clock, Moment, Outgoing, PortError, PortErrorKind, Requests};

use crate::{
    executor::EnvId,
    faults::Struck,
    fifo::Posted,
    trial::QUEUES,
    world::{World, WorldState},
};

/// An environment's line to the queues.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) world: World,
    pub(crate) env: EnvId,
    /// By how much its clock is ahead, in milliseconds.
    pub(crate) skew: i64,
}

#[async_trait]
impl Clock for Line {
    fn now(&self) -> Timestamp {
        Timestamp(self.world.executor.now().saturating_add_signed(self.skew))
    }

    fn moment(&self) -> Moment {
        Moment::after_start(Duration::from_millis(self.world.executor.now()))
    }

    async fn sleep_until(&self, moment: Moment) {
        let elapsed = moment.since(Moment::default());
        self.world.executor.sleep_until(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)).await;
    }
}

#[async_trait]
impl Requests for Line {
    async fn send(&self, queue: &str, messages: Vec<Outgoing>) -> Vec<Result<(), PortError>> {
        let (count, name) = (messages.len(), queue.to_owned());
        let groups: Vec<_> = messages.iter().filter_map(|message| message.fifo.as_ref()).map(|(group, _)| &**group).collect();
        let subject = groups.join(" ");
        let operation = move |world: &mut WorldState, now| {
            if count > 1 {
                world.struck(Struck::SharedRequest);
            }
            messages.into_iter().map(|message| world.take(&name, message, now)).collect::<Vec<_>>()
        };
        let failed = |kind| PortError::new("send", kind, "simulated");
        match self.world.call(self.env, "send", &subject, operation).await {
            Ok(taken) => taken.into_iter().map(|taken| taken.map_err(failed)).collect(),
            Err(error) => (0..count).map(|_| Err(failed(error.kind))).collect(),
        }
    }
}

impl WorldState {
    /// A queue takes a message of a request, or not; or it does, and the answer does not say so. Each meets its own fate.
    fn take(&mut self, queue: &str, message: Outgoing, now: u64) -> Result<(), PortErrorKind> {
        let roll = self.rng.u32(0..1_000);
        let refused = roll < self.faults.throttle;
        let unnamed = !refused && roll < self.faults.throttle + self.faults.lost_reply;
        if refused || unnamed {
            self.struck(Struck::EntryFailed);
        }
        if !refused {
            let posted = Posted::outgoing(message);
            if posted.is_nudge() {
                self.struck(Struck::Nudged);
            }
            if queue == QUEUES[1] {
                self.struck(Struck::MovedSend);
            }
            if let Some(id) = posted.envelope_id() {
                self.stored.unsent.remove(&id);
            }
            if let Some(to) = self.stored.queues.iter_mut().find(|to| **to.name() == *queue) {
                to.post(posted, now);
            }
        }
        if refused || unnamed { Err(PortErrorKind::Unavailable) } else { Ok(()) }
    }
}
