//! What the answer to a batch request says of its entries. An entry's id is its place in the request.

use statefun_engine::ports::{PortError, PortErrorKind};

use crate::error::{kind_of_code, rejects_entry};

/// An entry that failed, in the service's words.
pub(crate) struct FailedEntry<'a> {
    pub(crate) id: &'a str,
    pub(crate) code: &'a str,
    pub(crate) text: Option<&'a str>,
    pub(crate) sender_fault: bool,
}

impl FailedEntry<'_> {
    pub(crate) fn error(&self, call: &'static str) -> PortError {
        let text = self.text.unwrap_or("no reason given");
        PortError::new(call, kind_of_code(self.code, self.sender_fault), format!("{}: {text}", self.code))
    }

    /// As [`error`](Self::error), of a record for an egress.
    pub(crate) fn egress_error(&self, call: &'static str) -> PortError {
        let mut error = self.error(call);
        if rejects_entry(self.code) {
            error.kind = PortErrorKind::Rejected;
        }
        error
    }
}

/// One result per entry of a request of `count`; what the answer does not name may have taken effect or not.
pub(crate) fn outcomes<'a>(
    call: &'static str,
    count: usize,
    done: impl IntoIterator<Item = &'a str>,
    failed: impl IntoIterator<Item = FailedEntry<'a>>,
) -> Vec<Result<(), PortError>> {
    outcomes_by(call, count, done, failed, FailedEntry::error)
}

/// As [`outcomes`], of records for an egress.
pub(crate) fn egress_outcomes<'a>(
    call: &'static str,
    count: usize,
    done: impl IntoIterator<Item = &'a str>,
    failed: impl IntoIterator<Item = FailedEntry<'a>>,
) -> Vec<Result<(), PortError>> {
    outcomes_by(call, count, done, failed, FailedEntry::egress_error)
}

fn outcomes_by<'a>(
    call: &'static str,
    count: usize,
    done: impl IntoIterator<Item = &'a str>,
    failed: impl IntoIterator<Item = FailedEntry<'a>>,
    error_of: impl Fn(&FailedEntry<'a>, &'static str) -> PortError,
) -> Vec<Result<(), PortError>> {
    let mut results: Vec<_> = (0..count).map(|_| Err(unanswered(call))).collect();
    let place = |id: &str| id.parse::<usize>().ok().filter(|place| *place < count);
    for place in done.into_iter().filter_map(place) {
        results[place] = Ok(());
    }
    for entry in failed {
        if let Some(place) = place(entry.id) {
            results[place] = Err(error_of(&entry, call));
        }
    }
    results
}

/// The same error for each of several entries.
pub(crate) fn repeated(error: &PortError, count: usize) -> Vec<Result<(), PortError>> {
    (0..count).map(|_| Err(PortError::new(error.call, error.kind, error.source.to_string()))).collect()
}

/// An entry that an answer does not name.
pub(crate) fn unanswered(call: &'static str) -> PortError {
    PortError::new(call, PortErrorKind::Unavailable, "the service's answer does not name the entry")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_has_its_own_outcome() {
        let failed = [("1", "InternalError", false), ("7", "x", true), ("3", "AccessDenied", true)];
        let failed = failed.map(|(id, code, sender_fault)| FailedEntry { id, code, text: None, sender_fault });
        let kinds: Vec<_> =
            outcomes("send", 4, ["0", "9", "x"], failed).into_iter().map(|result| result.map_err(|error| error.kind)).collect();
        let (unavailable, refused) = (Err(PortErrorKind::Unavailable), Err(PortErrorKind::Refused));
        assert_eq!(kinds, [Ok(()), unavailable, unavailable, refused]);
    }
}
