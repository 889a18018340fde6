//! Errors by what to do about them.

use std::{any::Any, error::Error, fmt, time::Duration};

use crate::{
    address::InvalidAddress,
    limits::*,
    type_name::{InvalidTypeName, TypeName},
    types::{DecodeError, EncodeError},
};

/// What a handler's call on its context fails with. But for [`UnreadableState`](Self::UnreadableState) these are mistakes that another try
/// would repeat.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The function touched state it did not declare.
    #[error("`{function}` does not declare the state `{state}`: add `.state(&…)` to the function")]
    UndeclaredState {
        /// The function.
        function: TypeName,
        /// The state's name.
        state: String,
    },
    /// The state is declared with another type.
    #[error(
        "the state `{state}` of `{function}` is declared as `{found}`, not `{wanted}`: use the `ValueSpec` that the function declares"
    )]
    StateType {
        /// The function.
        function: TypeName,
        /// The state's name.
        state: String,
        /// The type asked for.
        wanted: TypeName,
        /// The type declared.
        found: TypeName,
    },
    /// A stored state value cannot be read. The message is not to blame: it waits until a version comes that can.
    #[error(transparent)]
    UnreadableState(Box<UnreadableState>),
    /// The message was asked for as a type it is not, or has no value.
    #[error("the message is `{found}`, not `{wanted}`")]
    MessageType {
        /// The type asked for.
        wanted: String,
        /// The message's type.
        found: TypeName,
    },
    /// A value cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Bytes cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A target is not an address.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// An egress's name is not a type name.
    #[error(transparent)]
    TypeName(#[from] InvalidTypeName),
    /// No function of that type takes messages here.
    #[error("no function `{function}` is known here{}", hint(.nearest))]
    UnknownFunction {
        /// The function asked for.
        function: TypeName,
        /// A known one with a similar name.
        nearest: Option<TypeName>,
    },
    /// No egress of that name is declared.
    #[error("no egress `{egress}` is known here{}", hint(.nearest))]
    UnknownEgress {
        /// The egress asked for.
        egress: TypeName,
        /// A known one with a similar name.
        nearest: Option<TypeName>,
    },
    /// A value is too big.
    #[error("{what} has {bytes} bytes, at most {limit} are possible: keep big data in an object store and pass its key")]
    TooBig {
        /// What is too big.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// One message wrote and sent too much.
    #[error(
        "this message writes and sends {bytes} bytes, at most {MAX_EFFECT_BYTES} fit one commit: spread the work over several messages"
    )]
    CommitTooBig {
        /// What it would come to.
        bytes: usize,
    },
    /// One message caused too many effects.
    #[error(
        "a message can cause {MAX_EFFECTS} messages, cancellations and egress records at most: spread the work over several messages"
    )]
    TooManyEffects,
    /// A delay below zero.
    #[error("a delay cannot be negative, this one is {0} ms")]
    NegativeDelay(i64),
    /// A delay beyond the longest.
    #[error("a delay is {} days at most, this one is {} days", MAX_DELAY.as_secs() / 86_400, .0.as_secs() / 86_400)]
    DelayTooLong(Duration),
    /// A token that still stands for a delayed message.
    #[error("the cancellation token `{0}` is in use until its message is due: cancel that one first, or use another token")]
    TokenInUse(String),
    /// A token is empty or too long.
    #[error("a cancellation token has 1 to {MAX_TOKEN_BYTES} bytes, this one has {0}")]
    Token(usize),
    /// Too many delayed messages with tokens.
    #[error(
        "an address can have {MAX_LIVE_TOKENS} cancellable messages waiting, and has: use one token for several, or leave it out"
    )]
    TooManyTokens,
    /// Messages cause messages without end.
    #[error("this message is {hops} hops away from what caused it, {limit} are allowed: functions send to each other in a loop")]
    HopLimit {
        /// Hops the message would have.
        hops: u32,
        /// The limit.
        limit: u32,
    },
}

/// A stored state value that this version of the program cannot read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the state `{state}` of `{function}` is stored as `{stored}` and cannot be read as `{wanted}`: deploy a version that can, such as the \
     one before, or one whose `ValueSpec` reads the older form (docs/evolution.md)"
)]
pub struct UnreadableState {
    /// The function.
    pub function: TypeName,
    /// The state's name.
    pub state: &'static str,
    /// The type under which it is stored.
    pub stored: TypeName,
    /// The type asked for.
    pub wanted: TypeName,
    /// What the codec said.
    pub source: DecodeError,
}

fn hint(nearest: &Option<TypeName>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// A delay given as a signed number of milliseconds, as other languages' SDKs give it.
///
/// # Errors
/// [`ContextError::NegativeDelay`].
pub fn delay_from_millis(millis: i64) -> Result<Duration, ContextError> {
    u64::try_from(millis).map(Duration::from_millis).map_err(|_| ContextError::NegativeDelay(millis))
}

/// Why a handler failed, and whether another try makes sense.
///
/// `?` turns any error into a *retryable* one: every type that implements [`Error`], `anyhow::Error`, `Box<dyn Error + Send + Sync>`
/// and texts. A [`ContextError`], also as the cause of another error, makes a *terminal* one: trying again would fail again.
pub struct FunctionError {
    terminal: bool,
    source: Box<dyn Error + Send + Sync>,
}

impl FunctionError {
    /// Another try cannot help: the message is given up at once, as the function's policy says.
    pub fn terminal(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { terminal: true, source: error.into() }
    }

    /// Another try may help: the message is delivered again after a growing pause.
    pub fn retryable(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { terminal: false, source: error.into() }
    }

    /// Whether another try cannot help.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// The error and its causes on one line, cut to [`MAX_REASON_BYTES`].
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = chain(&*self.source);
        truncate(&mut text, MAX_REASON_BYTES);
        text
    }
}

/// An error and its causes on one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some errors show their cause themselves, at their end or amid advice.
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Mistakes as they are reported together, each behind `prefix`: one of several lines has an empty line before and after it.
#[must_use]
pub fn paragraphs(prefix: &str, problems: &[String]) -> String {
    let mut text = String::new();
    for (index, problem) in problems.iter().enumerate() {
        let apart = index > 0 && (problem.contains('\n') || problems[index - 1].contains('\n'));
        text += if apart {
            "\n\n"
        } else if index > 0 {
            "\n"
        } else {
            ""
        };
        text += prefix;
        text += problem;
    }
    text
}

/// Cuts a text to `limit` bytes at a character's edge.
pub(crate) fn truncate(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate((0..=limit).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0));
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>> + 'static> From<E> for FunctionError {
    fn from(error: E) -> Self {
        let anyhow = (&error as &dyn Any).downcast_ref::<anyhow::Error>();
        let within = anyhow.is_some_and(|error| error.chain().any(is_mistake));
        let source = error.into();
        let first: &(dyn Error + 'static) = &*source;
        let terminal = within || std::iter::successors(Some(first), |&error| error.source()).any(is_mistake);
        Self { terminal, source }
    }
}

/// Whether the error is a [`ContextError`] that another try would repeat.
fn is_mistake(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref().is_some_and(|error| !matches!(error, ContextError::UnreadableState(_)))
}

impl fmt::Debug for FunctionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", if self.terminal { "terminal" } else { "retryable" }, self.chain())
    }
}

impl fmt::Display for FunctionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.source, f)
    }
}

/// The known name that is nearest to `wanted`, if one is near enough to be meant.
pub fn nearest<'a, T: AsRef<str> + ?Sized + 'a>(wanted: &str, known: impl IntoIterator<Item = &'a T>) -> Option<&'a T> {
    let distance = |known: &&T| strsim::damerau_levenshtein(wanted, (*known).as_ref());
    known.into_iter().min_by_key(distance).filter(|best| distance(best) <= 1 + wanted.len() / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows its cause itself, amid advice.
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Nested(std::io::Error, #[source] std::io::Error);

    #[test]
    fn context_errors_are_terminal_and_others_retryable() {
        assert!(FunctionError::from(ContextError::TooManyEffects).is_terminal());
        assert!(!FunctionError::from(std::fmt::Error).is_terminal());
        assert!(FunctionError::terminal("no").is_terminal());
    }

    #[test]
    fn the_chain_is_one_line_and_does_not_repeat_itself() {
        let decode = DecodeError { type_name: TypeName::from_static("a/b"), source: "bad digit".into() };
        let error = FunctionError::from(ContextError::from(decode));
        assert_eq!(error.chain(), "these bytes cannot be read as `a/b`: bad digit");
        let full = || std::io::Error::from_raw_os_error(28);
        let shown = std::io::Error::other(format!("{}: make room", full()));
        let nested = crate::EncodeError { type_name: TypeName::from_static("a/b"), source: Box::new(Nested(shown, full())) };
        assert_eq!(chain(&nested).matches("os error 28").count(), 1, "{}", chain(&nested));
        let mut text = "aä".to_owned();
        truncate(&mut text, 2);
        assert_eq!(text, "a");
    }

    #[test]
    fn nearest_is_near() {
        let known = ["flights/aircraft", "flights/airport"];
        assert_eq!(nearest("flights/airprot", known), Some("flights/airport"));
        assert_eq!(nearest("shop/cart", known), None);
    }

    #[test]
    fn problems_of_several_lines_stand_apart() {
        let problems = ["a", "b", "c\n  c", "d\n  d", "e"].map(str::to_owned);
        assert_eq!(paragraphs("! ", &problems), "! a\n! b\n\n! c\n  c\n\n! d\n  d\n\n! e");
        assert_eq!(paragraphs("! ", &[]), "");
    }

    #[test]
    fn a_negative_delay_is_refused() {
        assert_eq!(delay_from_millis(5).unwrap(), Duration::from_millis(5));
        assert_eq!(delay_from_millis(-1).unwrap_err().to_string(), "a delay cannot be negative, this one is -1 ms");
    }
}
