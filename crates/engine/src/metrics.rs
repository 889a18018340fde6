//! What the engine counts. The names are constants here; the only label is the function's type, never an id.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use statefun_core::TypeName;

macro_rules! counters {
    ($($field:ident => $name:literal, $help:literal;)*) => {
        /// Counters of one function.
        #[derive(Debug, Default)]
        pub struct FunctionCounters {
            $(#[doc = $help] pub $field: AtomicU64,)*
        }

        impl FunctionCounters {
            /// Name, meaning and value of each counter.
            pub fn read(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$(($name, $help, self.$field.load(Ordering::Relaxed)),)*].into_iter()
            }
        }
    };
}

counters! {
    messages => "statefun_messages_in_total", "Messages whose effects were committed";
    invocations => "statefun_invocations_total", "Calls of handlers, failed ones included";
    commits => "statefun_commits_total", "Commits";
    sent => "statefun_messages_out_total", "Messages sent to functions, delayed ones included";
    egress => "statefun_egress_out_total", "Records sent to egresses";
    refused => "statefun_egress_refused_total", "Egress records that their receiver refused, given up to the dead letters";
    duplicates => "statefun_duplicates_total", "Delivered envelopes that were already applied";
    failures => "statefun_failures_total", "Handler calls that failed";
    unreadable => "statefun_unreadable_state_total", "Handler calls that asked for state that this version cannot read; their addresses wait";
    parked => "statefun_dead_letters_total", "Messages given up to the dead letters";
    dropped => "statefun_dropped_total", "Messages dropped, as the function's policy says";
    busy => "statefun_busy_total", "Batches that found the lease held elsewhere";
    fenced => "statefun_fenced_total", "Writes that were refused since somebody else wrote before";
    port_errors => "statefun_port_errors_total", "Calls to the backend that failed";
    wrong_last_seq => "statefun_wrong_last_seq_total", "Sequence numbers that a queue made anew, or a forged event, had left in a record";
    read => "statefun_reads_total", "Records read: batches whose record was not at hand";
    cached => "statefun_cached_total", "Commits on a record that was at hand";
    stale => "statefun_stale_total", "Commits that were refused since the record at hand was not the stored one";
    proven => "statefun_proven_total", "Outboxes that a later delivery proved to be sent";
    leases => "statefun_leases_total", "Leases taken";
}

impl FunctionCounters {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// The counters of an application.
#[derive(Debug, Clone, Default)]
pub struct Metrics(BTreeMap<TypeName, Arc<FunctionCounters>>);

impl Metrics {
    /// Counters for these functions.
    pub fn new(functions: impl IntoIterator<Item = TypeName>) -> Self {
        Self(functions.into_iter().map(|name| (name, Arc::default())).collect())
    }

    /// The counters of a function.
    #[must_use]
    pub fn of(&self, function: &TypeName) -> Arc<FunctionCounters> {
        self.0.get(function).cloned().unwrap_or_default()
    }

    /// All functions and their counters, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&TypeName, &FunctionCounters)> {
        self.0.iter().map(|(name, counters)| (name, &**counters))
    }

    /// The sum of one counter over all functions.
    pub fn total(&self, counter: impl Fn(&FunctionCounters) -> &AtomicU64) -> u64 {
        self.0.values().map(|counters| counter(counters).load(Ordering::Relaxed)).sum()
    }
}
