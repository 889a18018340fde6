//! What an answer to an egress record means, and when a record that is refused is given up.
//!
//! An *outage* says nothing of the record: it is waited for, however long. A *refusal* is of this record: it would be refused for ever,
//! and hold up those behind it. So it is tried [`MAX_REFUSALS`] times, and becomes a dead letter. A *fault of the deployment* (no such
//! queue, access denied) says nothing of the record either, but may last for ever: the record waits for [`UNDELIVERABLE_AFTER`], and
//! becomes a dead letter then. The wait begins at the first such answer to anything of its outbox, and is noted in the stored record.

use std::collections::HashMap;

use crate::{
    id::EnvelopeId,
    limits::{MAX_REFUSALS, UNDELIVERABLE_AFTER},
    time::Timestamp,
};

/// Whether an egress record has waited long enough for its deployment to be corrected. `since` is when something of its outbox first met
/// a missing queue or permission; zero if that is not noted yet.
#[must_use]
pub fn is_undeliverable(since: Timestamp, now: Timestamp) -> bool {
    since != Timestamp::ZERO && since.plus(UNDELIVERABLE_AFTER) <= now
}

/// What a receiver says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It has the record.
    Taken,
    /// It cannot take anything now, or did not answer: the record may have been taken. Wait, and send it again.
    Outage,
    /// It does not take this record.
    Refusal,
}

impl Answer {
    /// What an HTTP status means. 4xx is a refusal, but for the three that are about time: 408 (timeout), 425 (too early), 429 (too many).
    /// Everything else that is not 2xx is an outage: a redirection is the deployment's to correct, not the record's.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Taken,
            408 | 425 | 429 => Self::Outage,
            400..=499 => Self::Refusal,
            _ => Self::Outage,
        }
    }
}

/// What to do about a refused record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Send it again after a pause; it was refused so many times.
    TryAgain(u32),
    /// Make it a dead letter, which says that it was refused so many times.
    GiveUp(u32),
}

/// How often records were refused that still wait. It is kept in memory: a process that dies in between counts anew, which costs a few
/// requests and no record.
#[derive(Debug, Default)]
pub struct Refusals(HashMap<EnvelopeId, u32>);

impl Refusals {
    /// Counts a refusal of the record.
    pub fn refused(&mut self, record: EnvelopeId) -> Refused {
        let count = self.0.entry(record).or_default();
        *count += 1;
        match *count {
            count if count < MAX_REFUSALS => Refused::TryAgain(count),
            count => Refused::GiveUp(count),
        }
    }

    /// Forgets a record: it was taken, or is a dead letter now.
    pub fn forget(&mut self, record: EnvelopeId) {
        self.0.remove(&record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_the_record_is_a_refusal_and_the_rest_an_outage() {
        for status in 100..=599 {
            let expected = match status {
                200..=299 => Answer::Taken,
                400..=407 | 409..=424 | 426..=428 | 430..=499 => Answer::Refusal,
                _ => Answer::Outage,
            };
            assert_eq!(Answer::of_status(status), expected, "{status}");
        }
    }

    #[test]
    fn a_deployment_has_an_hour_to_be_corrected() {
        let hour = Timestamp(5).plus(UNDELIVERABLE_AFTER);
        assert!(!is_undeliverable(Timestamp::ZERO, hour), "nothing is noted yet");
        assert!(!is_undeliverable(Timestamp(6), hour));
        assert!(is_undeliverable(Timestamp(5), hour));
        assert!(!is_undeliverable(Timestamp(5), Timestamp(1)), "a clock that is behind");
    }

    #[test]
    fn a_record_is_given_up_when_it_was_refused_five_times() {
        let (mut refusals, [one, other]) = (Refusals::default(), [1, 2].map(|number| EnvelopeId([number; 16])));
        for count in 1..5 {
            assert_eq!(refusals.refused(one), Refused::TryAgain(count));
        }
        assert_eq!(refusals.refused(other), Refused::TryAgain(1), "each record has a count of its own");
        assert_eq!(refusals.refused(one), Refused::GiveUp(5));
        assert_eq!(refusals.refused(one), Refused::GiveUp(6), "until its letter is kept");
        refusals.forget(one);
        assert_eq!(refusals.refused(one), Refused::TryAgain(1));
    }
}
