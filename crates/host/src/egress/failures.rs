//! What the metrics say of egresses.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use statefun_core::{Answer, TypeName};

/// How often egresses failed since the start, by what that said.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<BTreeMap<(TypeName, &'static str), u64>>);

impl Failures {
    /// Name of the counter, and its labels.
    pub(crate) const NAME: &str = "statefun_egress_failures_total";

    pub(super) fn count(&self, egress: &TypeName, answer: Answer) {
        let kind = if answer == Answer::Refusal { "refusal" } else { "outage" };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((egress.clone(), kind)).or_default() += 1;
    }

    /// Egress, `refusal` or `outage`, and how often.
    pub(crate) fn read(&self) -> Vec<(TypeName, &'static str, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((egress, kind), count)| (egress.clone(), *kind, *count)).collect()
    }
}
