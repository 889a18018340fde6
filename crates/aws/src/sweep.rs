//! The sweep over outboxes that stand. Every minute it looks at a small part of the table; in a day it gets round.

use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::Serialize;
use statefun_core::Timestamp;
use statefun_engine::{
    backend::{Nudged, Standing, nudge},
    ports::{Clock, Moment, PortError},
};

use crate::{
    Backend, SystemClock,
    store::{DynamoStore, keys::Item},
};

/// Parts of the table: one for each minute of a day.
const PARTS: u64 = 24 * 60;
/// A sweep makes up for so many minutes that were missed, or that this process did not see.
const MISSED: u64 = 10;

/// Parts of the table for an operator who looks at all of it.
const LOOKS: u32 = 24;
/// Addresses that are named.
const NAMED: usize = 100;

/// Outboxes that stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outboxes {
    /// With a mark: they may have been sent.
    pub marked: usize,
    /// Without: somebody is at it, or they wait for a nudge.
    pub unmarked: usize,
    /// Whose they are: the first hundred.
    pub addresses: Vec<String>,
    /// The part of the table to go on with, if not all of it was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u32>,
}

/// Which minutes this process has swept.
#[derive(Debug, Default)]
pub(crate) struct SweptMinutes(AtomicU64);

impl SweptMinutes {
    /// What is to be swept at `now`: since the last time, or the last two minutes, for schedules are not exact.
    fn due(&self, now: Timestamp) -> RangeInclusive<u64> {
        let minute = now.0 / 60_000;
        let last = self.0.fetch_max(minute, Ordering::Relaxed);
        let first = if last == 0 { minute.saturating_sub(1) } else { (last + 1).max(minute.saturating_sub(MISSED)) };
        first..=minute
    }
}

impl Backend {
    /// Sends nudges to those in a part of the table whose outboxes stand, and that nothing else may come to. Call it every minute; it stops at
    /// `deadline`. What it did not get to, or failed with, waits for the next day: marks are good for longer.
    ///
    /// When it returns, the nudges are in their queues.
    pub async fn sweep_outboxes(&self, deadline: Moment) -> Nudged {
        let mut swept = Nudged::default();
        for minute in self.swept.due(SystemClock.now()) {
            if !self.nudge_part((minute % PARTS) as u32, PARTS as u32, deadline, &mut swept).await {
                tracing::warn!("the sweep over outboxes ran out of time: give the router Lambda a longer time-out");
                break;
            }
        }
        swept
    }

    /// The same for all of the table, from a part of it on; returns the part to go on with, if there was no time for all.
    pub async fn sweep_all_outboxes(&self, from: u32, deadline: Moment) -> (Nudged, Option<u32>) {
        let mut swept = Nudged::default();
        for part in from..LOOKS {
            if !self.nudge_part(part, LOOKS, deadline, &mut swept).await {
                return (swept, Some(part));
            }
        }
        (swept, None)
    }

    /// Returns whether there was time for all of the part.
    async fn nudge_part(&self, part: u32, parts: u32, deadline: Moment, swept: &mut Nudged) -> bool {
        let mut look = Look::new(&self.store, part, parts, deadline);
        loop {
            match look.next().await {
                Ok(Some(standing)) => swept.add(nudge(&*self.queues, &standing, &self.protocol, SystemClock.now()).await),
                Ok(None) => return look.whole,
                Err(error) => {
                    swept.add(Nudged { error: Some(error), ..Nudged::default() });
                    return true;
                }
            }
        }
    }

    /// Looks at all outboxes that stand, from a part of the table on, until `deadline`.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn outboxes(&self, from: u32, deadline: Moment) -> Result<Outboxes, PortError> {
        let mut found = Outboxes::default();
        for part in from..LOOKS {
            let (mut look, mut of_part) = (Look::new(&self.store, part, LOOKS, deadline), Vec::new());
            while let Some(standing) = look.next().await? {
                of_part.extend(standing);
            }
            if !look.whole {
                return Ok(Outboxes { from: Some(part), ..found });
            }
            found.add(&of_part);
        }
        Ok(found)
    }
}

/// A look over a part of the table, page by page.
struct Look<'a> {
    store: &'a DynamoStore,
    part: u32,
    parts: u32,
    deadline: Moment,
    from: Option<Item>,
    /// All of it was looked at.
    whole: bool,
}

impl<'a> Look<'a> {
    const fn new(store: &'a DynamoStore, part: u32, parts: u32, deadline: Moment) -> Self {
        Self { store, part, parts, deadline, from: None, whole: false }
    }

    /// What stands, a page of it; `None` at the end of the part or of the time.
    async fn next(&mut self) -> Result<Option<Vec<Standing>>, PortError> {
        if self.whole || SystemClock.moment() >= self.deadline {
            return Ok(None);
        }
        let page = self.store.standing(self.part, self.parts, self.from.take()).await?;
        (self.whole, self.from) = (page.next.is_none(), page.next);
        Ok(Some(page.standing))
    }
}

impl Outboxes {
    fn add(&mut self, standing: &[Standing]) {
        let marked = standing.iter().filter(|standing| standing.outbox.mark.is_some()).count();
        self.marked += marked;
        self.unmarked += standing.len() - marked;
        let names = standing.iter().map(|standing| standing.address.to_string());
        self.addresses.extend(names.take(NAMED - self.addresses.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_minute_is_swept_though_schedules_are_not_exact() {
        let (swept, minutes) =
            (SweptMinutes::default(), |minute: u64, seconds: u64| Timestamp(minute * 60_000 + seconds * 1_000));
        assert_eq!(swept.due(minutes(100, 59)), 99..=100, "a new process does not know of the last minute");
        assert_eq!(swept.due(minutes(102, 1)), 101..=102);
        assert!(swept.due(minutes(102, 59)).is_empty(), "twice in a minute");
        assert_eq!(swept.due(minutes(500, 0)), 490..=500, "it slept for hours: others had its work");
    }
}
