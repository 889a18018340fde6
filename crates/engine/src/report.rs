//! What happened to a batch, as counters and log lines. At `warn` nothing that a message or a handler says; at `debug`, and for the
//! handler's own target, what ties it to a dead letter.

use statefun_core::{
    Address, Unreadable, chain,
    protocol::{Halt, Notice},
};

use crate::{metrics::FunctionCounters, ports::PortError};

/// Counts and logs a notice.
pub(crate) fn notice(counters: &FunctionCounters, address: &Address, notice: Notice) {
    let (function, add) = (address.function(), FunctionCounters::add);
    match notice {
        Notice::Duplicate => add(&counters.duplicates, 1),
        Notice::WrongLastSeq => {
            add(&counters.wrong_last_seq, 1);
            tracing::warn!(
                %function,
                "a queue counts from lower numbers than before: was it deleted and made anew, or was the function invoked by hand? \
                 The ledger decides what is new"
            );
        }
        Notice::Invoked => add(&counters.invocations, 1),
        Notice::Failed { envelope, index, attempt, kind, error } => {
            add(&counters.failures, 1);
            tracing::warn!(%function, attempt, kind, "a handler failed");
            let error = error.chain();
            tracing::debug!(target: "statefun::handler", %function, %envelope, index, attempt, kind, error, "a handler failed");
        }
        Notice::Unreadable(Unreadable { state, stored, wanted }) => {
            add(&counters.unreadable, 1);
            tracing::error!(
                %function, state, %stored, %wanted,
                "stored state cannot be read, and its instance waits: deploy a version that reads it, such as the one before, or give its \
                 `ValueSpec` a reader for the older form"
            );
        }
        Notice::GaveUp { envelope, letter, reason, attempts } => {
            tracing::warn!(%function, %reason, attempts, "messages given up to the dead letters");
            tracing::debug!(%function, %envelope, %letter, "messages given up to the dead letters");
        }
        Notice::Dropped(messages) => add(&counters.dropped, messages),
        Notice::Committed { cached } => {
            add(&counters.commits, 1);
            add(&counters.cached, cached.into());
        }
        Notice::Refused { cached } => {
            add(&counters.fenced, 1);
            add(&counters.stale, cached.into());
            tracing::debug!(%address, cached, "somebody else wrote the record: it is worked on anew");
        }
        Notice::Applied(messages) => add(&counters.messages, messages),
        Notice::Sent { messages, records, parked } => {
            add(&counters.sent, messages);
            add(&counters.egress, records);
            add(&counters.parked, parked);
        }
        Notice::Proven => add(&counters.proven, 1),
        Notice::NotTaken(records) => add(&counters.refused, records),
        Notice::Halted(halt) => halted(counters, address, halt),
        Notice::NoteStays => {}
    }
}

fn halted(counters: &FunctionCounters, address: &Address, halt: Halt) {
    match halt {
        Halt::Fenced => tracing::debug!(%address, "others write the record again and again"),
        Halt::Busy => {
            FunctionCounters::add(&counters.busy, 1);
            tracing::debug!(%address, "the lease is held elsewhere");
        }
        Halt::Unsent => tracing::debug!(%address, "an outbox takes another invocation"),
        Halt::Port => FunctionCounters::add(&counters.port_errors, 1),
    }
}

/// Logs what the backend failed with.
pub(crate) fn failure(address: &Address, notice: &Notice, error: Option<&PortError>) {
    let (function, error) = (address.function(), error.map(|error| chain(error)));
    match notice {
        Notice::NoteStays => {
            tracing::warn!(%function, error, "a run that came to its end may count as a death of its process");
        }
        _ => tracing::warn!(%function, error, "the backend failed; the batch comes again"),
    }
}
