//! What becomes of a message whose handler failed: whether that was an attempt, how long it waits, when it is given up. Nothing else
//! decides about these.

use std::time::Duration;

use crate::{
    effects::Reason,
    error::FunctionError,
    function_spec::OnFailure,
    safeguard::{Safeguard, Safeguards},
};

/// Pauses between tries: doubling from `first` up to `longest`.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub longest: Duration,
    /// At most, while a state value cannot be read: until somebody deploys what can. A queue of SQS keeps a message for 14 days and
    /// gives it up after 400 to 1,000 receives (template.yaml); with this pause it is received less often than that in its whole time there.
    pub unreadable: Duration,
    /// When another environment holds the lease. It grows by as much again with every tenth receive: a lease that a dead environment
    /// left may last for a quarter of an hour, and must not use up the queue's receives.
    pub busy: Duration,
    /// At most, when the backend failed. Such a failure has no count of its own: what counts is how often the queue delivered the
    /// message, which waiting for a lease raises too.
    pub backend: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            unreadable: Duration::from_secs(3_600),
            busy: Duration::from_secs(2),
            backend: Duration::from_secs(60),
        }
    }
}

/// A handler's failure.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// What it failed with.
    pub error: &'a FunctionError,
    /// A state value that it asked for could not be read, whatever it made of that.
    pub unreadable_state: bool,
    /// The failures of the message that count, this one included if it does.
    pub attempt: u32,
    /// How often the queue delivered its envelope.
    pub receives: u32,
}

/// What becomes of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// That was not an attempt: nothing is counted, and it comes again after this pause. Its address waits with it.
    Wait(Duration),
    /// That was an attempt; it comes again after this pause.
    Again(Duration),
    /// It is given up.
    GiveUp(Reason),
}

impl Backoff {
    /// What becomes of a message of a function with this policy.
    #[must_use]
    pub fn next(&self, policy: OnFailure, safeguards: Safeguards, failure: Failure<'_>) -> Next {
        let Failure { error, unreadable_state, attempt, receives } = failure;
        // The message is not to blame: after a few tries, within seconds, all that come would be given up before anybody looks.
        if unreadable_state && safeguards.on(Safeguard::StateIsNoAttempt) {
            return Next::Wait(self.doubled(receives).min(self.unreadable));
        }
        match policy.max_attempts() {
            Some(_) if error.is_terminal() => Next::GiveUp(Reason::Terminal),
            Some(max) if attempt >= max || !safeguards.on(Safeguard::RetryFirst) => Next::GiveUp(Reason::Exhausted),
            _ => Next::Again(self.after(attempt)),
        }
    }

    /// The pause when another environment holds the lease, of an envelope that was received this often.
    #[must_use]
    pub fn busy(&self, receives: u32) -> Duration {
        self.busy.saturating_mul(1 + receives / 10).min(self.backend)
    }

    /// The pause after this many failures (1 at least).
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        self.doubled(failures).min(self.longest)
    }

    fn doubled(&self, times: u32) -> Duration {
        self.first.saturating_mul(1 << times.saturating_sub(1).min(20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SQS keeps a message for so long, and gives it up after so many receives at least: template.yaml.
    const RETENTION: Duration = Duration::from_secs(14 * 86_400);
    const LEAST_RECEIVES: u32 = 400;

    fn next(error: &FunctionError, unreadable_state: bool, attempt: u32, receives: u32) -> Next {
        let failure = Failure { error, unreadable_state, attempt, receives };
        Backoff::default().next(OnFailure::DeadLetter { max_attempts: 3 }, Safeguards::default(), failure)
    }

    #[test]
    fn state_that_cannot_be_read_is_no_attempt_whatever_the_handler_made_of_it() {
        for error in [FunctionError::terminal("no"), FunctionError::retryable("no")] {
            for attempt in [1, 3, 150] {
                assert!(matches!(next(&error, true, attempt, 7), Next::Wait(_)));
            }
        }
        assert_eq!(next(&FunctionError::terminal("no"), false, 1, 7), Next::GiveUp(Reason::Terminal));
        assert_eq!(next(&FunctionError::retryable("no"), false, 2, 7), Next::Again(Duration::from_secs(2)));
        assert_eq!(next(&FunctionError::retryable("no"), false, 3, 7), Next::GiveUp(Reason::Exhausted));
    }

    #[test]
    fn a_message_that_waits_for_readable_state_outlasts_its_queues_receives() {
        let error = FunctionError::terminal("no");
        let mut waited = Duration::ZERO;
        for receives in 1..=LEAST_RECEIVES {
            let Next::Wait(pause) = next(&error, true, 1, receives) else { panic!("it was given up") };
            waited += pause;
        }
        assert!(waited > RETENTION, "{waited:?}");
        assert_eq!(next(&error, true, 1, 1), Next::Wait(Duration::from_secs(1)));
    }
}
