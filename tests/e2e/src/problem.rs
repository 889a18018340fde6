//! What went wrong, in words; and waiting for what has to come.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// How often something that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What went wrong. Every error becomes one: the run can only print it.
#[derive(Debug)]
pub(crate) struct Problem(String);

pub(crate) type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Puts what was being done before it.
    pub(crate) fn during(self, what: impl fmt::Display) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(statefun_core::chain(&error))
    }
}

/// Looks again and again until it is there, and says what is missing if it does not come in time.
pub(crate) async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let problem = match look().await {
            Ok(found) => return Ok(found),
            Err(problem) => problem,
        };
        if Instant::now() > deadline {
            return Err(problem.during(format!("{what}, after {} s", limit.as_secs())));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// An error with what is there and what should be, unless they are the same.
pub(crate) fn same<T: PartialEq + fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<()> {
    if found == expected { Ok(()) } else { Err(Problem::new(format!("{what}: {found:?} instead of {expected:?}"))) }
}
