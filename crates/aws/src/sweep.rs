//! The sweep over outboxes that stand. Every minute it looks at a small part of the table; in a day it gets round.

use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::Serialize;
use statefun_core::Timestamp;
use statefun_engine::{
    backend::{Nudged, nudge},
    ports::{Clock, Moment, PortError},
};

use crate::{Backend, SystemClock};

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
    /// Looks at all outboxes that stand, from a part of the table on, until `deadline`.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn outboxes(&self, from: u32, deadline: Moment) -> Result<Outboxes, PortError> {
        let mut found = Outboxes::default();
        for part in from..LOOKS {
            let (mut of_part, mut next) = (Vec::new(), None);
            loop {
                if SystemClock.moment() >= deadline {
                    return Ok(Outboxes { from: Some(part), ..found });
                }
                let page = self.store.standing(part, LOOKS, next).await?;
                of_part.extend(page.standing);
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
            found.marked += of_part.iter().filter(|standing| standing.outbox.mark.is_some()).count();
            found.unmarked += of_part.iter().filter(|standing| standing.outbox.mark.is_none()).count();
            let names = of_part.iter().map(|standing| standing.address.to_string());
            found.addresses.extend(names.take(NAMED - found.addresses.len()));
        }
        Ok(found)
    }

    /// Sends nudges to those in a part of the table whose outboxes stand, and that nothing else may come to. Call it every minute; it stops at
    /// `deadline`. What it did not get to, or failed with, waits for the next day: marks are good for longer.
    ///
    /// When it returns, the nudges are in their queues.
    pub async fn sweep_outboxes(&self, deadline: Moment) -> Nudged {
        let mut swept = Nudged::default();
        for minute in self.swept.due(SystemClock.now()) {
            let mut from = None;
            loop {
                if SystemClock.moment() >= deadline {
                    tracing::warn!("the sweep over outboxes ran out of time: give the router Lambda a longer time-out");
                    return swept;
                }
                let page = match self.store.standing((minute % PARTS) as u32, PARTS as u32, from).await {
                    Ok(page) => page,
                    Err(error) => {
                        swept.error = swept.error.or(Some(error));
                        break;
                    }
                };
                swept = swept.and(nudge(&*self.queues, &page.standing, &self.protocol, SystemClock.now()).await);
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
        }
        swept
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
