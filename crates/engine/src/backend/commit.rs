//! Repeating a commit, and finding out from the answers whether it took effect.

use std::time::Duration;

use async_trait::async_trait;
use statefun_core::{Safeguard, Safeguards};

use crate::ports::{Clock, Committed, PortError, PortErrorKind};

/// Tries of one commit before its batch goes back to the queue.
const TRIES: u32 = 3;
/// The pause after the first try. It doubles after each further one.
const PAUSE: Duration = Duration::from_millis(40);

/// A random number that a commit leaves in its record: no other commit has it. What is stored before its commit, or apart from the record,
/// has it in its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub u64);

/// What one try of a commit came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// The commit is written.
    Written,
    /// The version was not as expected, and this try wrote nothing. Holds the tag of the commit that was found instead, if the store said so.
    Conflict(Option<Tag>),
}

/// One commit as a store writes it, for stores that cannot tell a repeated write from the first one.
///
/// The write is prepared once and is the same at each try: a store that knows a repetition by its token refuses another write under
/// that token.
#[async_trait]
pub trait ConditionalWrite: Send + Sync {
    /// Stores the commit's segment if it holds only what earlier commits accepted. It is true even if the commit fails.
    ///
    /// Durable when it returns. It must have no further effect when it is repeated.
    async fn put_first(&self) -> Result<(), PortError>;

    /// Tries once to write everything else, in one atomic step, if the record's version is what the commit expects.
    /// The implementation must not repeat a request that carries no token: the caller would not learn of the first one.
    ///
    /// Durable when it returns [`Tried::Written`]. After [`PortErrorKind::Unavailable`] it may have taken effect; after the other
    /// kinds of error it has not.
    async fn try_commit(&self) -> Result<Tried, PortError>;
}

/// Writes a commit, with its tag. Tries three times at most, with short pauses.
///
/// A lost reply makes the next try's condition fail *because* the commit took effect. So a failed condition is a success if an
/// earlier try may have taken effect and the tag that was found is this commit's own.
///
/// Durable when it returns [`Committed::Stored`]. After [`Committed::Fenced`] nothing but the segment of earlier entries is stored.
///
/// # Errors
/// What [`ConditionalWrite::put_first`] fails with, and then the commit was not tried; a refusal, at once; else what the last try
/// failed with. After an error the commit may have taken effect.
pub async fn commit_with_retries(
    write: &dyn ConditionalWrite,
    tag: Tag,
    clock: &dyn Clock,
    safeguards: Safeguards,
) -> Result<Committed, PortError> {
    write.put_first().await?;
    let committed = |tried, unsure| match tried {
        Tried::Written => Committed::Stored,
        Tried::Conflict(found) if unsure && (found == Some(tag) || !safeguards.on(Safeguard::OwnCommit)) => Committed::Stored,
        Tried::Conflict(_) => Committed::Fenced,
    };
    let (mut unsure, mut pause) = (false, PAUSE);
    for _ in 1..TRIES {
        match write.try_commit().await {
            Ok(tried) => return Ok(committed(tried, unsure)),
            Err(error) if error.kind == PortErrorKind::Refused => return Err(error),
            Err(error) => unsure |= error.kind == PortErrorKind::Unavailable,
        }
        clock.sleep_until(clock.moment().plus(pause)).await;
        pause *= 2;
    }
    write.try_commit().await.map(|tried| committed(tried, unsure))
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use futures_util::FutureExt;
    use statefun_core::Timestamp;

    use super::*;
    use crate::ports::Moment;

    use PortErrorKind::{Refused, Throttled, Unavailable};

    const OURS: Tag = Tag(3);
    const OTHER: Tag = Tag(4);

    type Answer = Result<Tried, PortErrorKind>;

    const WRITTEN: Answer = Ok(Tried::Written);

    fn found(tag: Tag) -> Answer {
        Ok(Tried::Conflict(Some(tag)))
    }

    /// Gives its answers in turn, and counts the tries.
    struct Scripted {
        first: Result<(), PortErrorKind>,
        answers: Mutex<VecDeque<Answer>>,
        tries: Mutex<u32>,
    }

    impl Scripted {
        fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
            let answers = Mutex::new(answers.into_iter().collect());
            Self { first: Ok(()), answers, tries: Mutex::default() }
        }
    }

    fn failure(kind: PortErrorKind) -> PortError {
        PortError::new("commit", kind, format!("{kind:?}"))
    }

    #[async_trait]
    impl ConditionalWrite for Scripted {
        async fn put_first(&self) -> Result<(), PortError> {
            self.first.map_err(failure)
        }

        async fn try_commit(&self) -> Result<Tried, PortError> {
            *self.tries.lock().unwrap() += 1;
            self.answers.lock().unwrap().pop_front().unwrap().map_err(failure)
        }
    }

    /// Moves on when somebody sleeps.
    #[derive(Default)]
    struct Virtual(Mutex<Moment>);

    #[async_trait]
    impl Clock for Virtual {
        fn now(&self) -> Timestamp {
            Timestamp::ZERO
        }

        fn moment(&self) -> Moment {
            *self.0.lock().unwrap()
        }

        async fn sleep_until(&self, moment: Moment) {
            *self.0.lock().unwrap() = moment;
        }
    }

    /// How the commit ends, and how many milliseconds it paused.
    fn run(write: &Scripted, safeguards: Safeguards) -> (Result<Committed, PortErrorKind>, u64) {
        let clock = Virtual::default();
        let result = commit_with_retries(write, OURS, &clock, safeguards).now_or_never().unwrap();
        (result.map_err(|error| error.kind), clock.moment().since(Moment::default()).as_millis() as u64)
    }

    fn committed(answers: impl IntoIterator<Item = Answer>) -> Result<Committed, PortErrorKind> {
        let write = Scripted::new(answers);
        let (result, _) = run(&write, Safeguards::default());
        assert!(write.answers.lock().unwrap().is_empty(), "a try was left out");
        result
    }

    #[test]
    fn a_conflict_after_a_lost_reply_is_a_success_if_the_commit_itself_is_found() {
        assert_eq!(committed([WRITTEN]), Ok(Committed::Stored));
        assert_eq!(committed([Err(Unavailable), WRITTEN]), Ok(Committed::Stored));
        assert_eq!(committed([Err(Unavailable), found(OURS)]), Ok(Committed::Stored));
        assert_eq!(committed([Err(Unavailable), Err(Throttled), found(OURS)]), Ok(Committed::Stored), "the first took effect");
    }

    #[test]
    fn a_conflict_with_another_record_is_a_fence() {
        for other in [found(OTHER), Ok(Tried::Conflict(None))] {
            assert_eq!(committed([other]), Ok(Committed::Fenced));
            assert_eq!(committed([Err(Unavailable), other]), Ok(Committed::Fenced), "{other:?}");
        }
    }

    #[test]
    fn a_conflict_is_a_fence_if_no_try_can_have_taken_effect() {
        assert_eq!(committed([found(OURS)]), Ok(Committed::Fenced));
        assert_eq!(committed([Err(Throttled), found(OURS)]), Ok(Committed::Fenced));
        assert_eq!(committed([Err(Throttled), Err(Throttled), found(OURS)]), Ok(Committed::Fenced));
    }

    #[test]
    fn a_refusal_ends_it_at_once() {
        assert_eq!(committed([Err(Refused)]), Err(Refused));
        assert_eq!(committed([Err(Unavailable), Err(Refused)]), Err(Refused));
    }

    #[test]
    fn after_three_tries_the_last_error_counts() {
        assert_eq!(committed([Err(Throttled), Err(Throttled), Err(Unavailable)]), Err(Unavailable));
        assert_eq!(committed([Err(Unavailable), Err(Unavailable), Err(Throttled)]), Err(Throttled));
        assert_eq!(committed([Err(Unavailable), Err(Throttled), WRITTEN]), Ok(Committed::Stored));
    }

    #[test]
    fn pauses_grow() {
        let write = Scripted::new([Err(Unavailable), Err(Throttled), Err(Unavailable)]);
        assert_eq!(run(&write, Safeguards::default()), (Err(Unavailable), 40 + 80), "nobody waits after the last");
        assert_eq!(*write.tries.lock().unwrap(), 3);
        assert_eq!(run(&Scripted::new([WRITTEN]), Safeguards::default()).1, 0);
    }

    #[test]
    fn without_its_segment_a_commit_is_not_tried() {
        for kind in [Unavailable, Throttled, Refused] {
            let write = Scripted { first: Err(kind), ..Scripted::new([WRITTEN]) };
            assert_eq!(run(&write, Safeguards::default()), (Err(kind), 0));
            assert_eq!(*write.tries.lock().unwrap(), 0);
        }
    }

    #[cfg(feature = "mutations")]
    #[test]
    fn without_its_safeguard_another_commit_passes_for_its_own() {
        let off = Safeguards::without(Safeguard::OwnCommit);
        assert_eq!(run(&Scripted::new([Err(Unavailable), found(OTHER)]), off).0, Ok(Committed::Stored));
        assert_eq!(run(&Scripted::new([Err(Throttled), found(OTHER)]), off).0, Ok(Committed::Fenced));
    }
}
