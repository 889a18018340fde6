//! The one record of an address: everything a commit changes together.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    effects::Effect, id::EnvelopeId, limits::MAX_TRIALS, protocol::ledger::Ledger, time::Timestamp, typed_value::TypedValue,
};

/// The durable record of one address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// When the record was first made: part of the ids of what it sends.
    pub born: Timestamp,
    /// The fencing token: every write raises it, and names the one that it must find. The first one is the milliseconds of the birth, so that a
    /// record that is deleted and made anew never meets a writer of its former life. Zero: it is not stored yet.
    pub version: u64,
    /// The run that asked others to wait, and until when. A courtesy: the version alone guards the record.
    pub lease: Option<Lease>,
    /// The last sequence number taken, and from which queue.
    pub last_seq: Option<LastSeq>,
    /// When `last_seq` was last set, by the latest clock of those who did; zero if it never was, or by a version that did not note it.
    /// Nothing that was enqueued later can have been seen by then.
    pub last_at: Timestamp,
    /// The latest moment at which anything was accepted before `last_seq` came to be of its queue; zero if it always was.
    pub moved_at: Timestamp,
    /// Accepted envelope ids.
    pub ledger: Ledger,
    /// State values by name; a name that is missing is absent.
    pub state: BTreeMap<Arc<str>, StoredValue>,
    /// When the instance was last invoked; zero if never.
    pub invoked_at: Timestamp,
    /// Cancellation tokens whose delayed messages are not yet due.
    pub tokens: BTreeMap<String, LiveToken>,
    /// Envelopes of which the first messages are already applied. One at most, unless the queue's own redrive took one away.
    pub partial: Vec<Partial>,
    /// Envelopes that failed or are suspected, the latest last. An address that moves between queues may have one of each.
    pub trials: Vec<Trial>,
    /// What the last commit sends, until it is known to be sent.
    pub outbox: Outbox,
}

/// What a commit sends. It is written and removed as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outbox {
    /// What is still to be sent, in order.
    pub entries: Vec<Effect>,
    /// When its commit was made; zero if an older version made it, or if there is none.
    pub made_at: Timestamp,
    /// What proves later that all of it was sent. Without a mark it stands until it is cleared.
    pub mark: Option<Mark>,
    /// When something of it first met a missing queue or permission; zero if nothing did.
    pub denied_since: Timestamp,
}

/// What a later delivery has to be, to prove that an outbox was sent: see [`Protocol::proves`](crate::Protocol::proves).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The queue that delivered to the run, and the highest sequence number of any delivery with which it had dealt, those left half done included.
    pub above: LastSeq,
    /// From then on it proves nothing.
    pub until: Timestamp,
}

impl Outbox {
    /// Whether there is nothing to send.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries are to be sent.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }
}

impl From<Vec<Effect>> for Outbox {
    /// Of these entries, without a mark.
    fn from(entries: Vec<Effect>) -> Self {
        Self { entries, ..Self::default() }
    }
}

/// A state value and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// The value.
    pub value: TypedValue,
    /// The writer's clock; expiration counts from it.
    pub written_at: Timestamp,
}

/// The high-water mark of one queue. Sequence numbers of different queues cannot be compared, so a mark counts for its own only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSeq {
    /// Which queue, by the hash of its name.
    pub queue: u64,
    /// The sequence number.
    pub seq: u128,
}

/// A delayed message that can be cancelled by a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveToken {
    /// The timer's id.
    pub timer: EnvelopeId,
    /// When it is due. From then on it counts as delivered and its token may be used again.
    pub due: Timestamp,
}

/// An envelope that one commit could not hold whole: it was left after `done` messages, without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// The envelope.
    pub id: EnvelopeId,
    /// Its messages that are applied.
    pub done: u32,
}

/// What is known of a failing envelope. The queue's receive count alone would blame messages that only waited behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// The envelope.
    pub id: EnvelopeId,
    /// Failures that the runtime saw, deaths of its own included.
    pub failures: u32,
    /// Set before a suspected envelope runs, cleared after.
    pub note: Note,
}

/// What is noted of a suspected envelope while it runs. Found set by the next delivery, a process did not live to clear it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Note {
    /// It does not run, or is not suspected.
    #[default]
    None,
    /// It runs beside others: any of them may be why the process died.
    Watched,
    /// No other handler of its process runs: if that dies, the envelope is to blame.
    Alone,
}

impl Note {
    /// What stays of it when a process that lives takes it back: whoever was to run alone stays suspected, and does so next time.
    pub fn taken_back(self) -> Self {
        match self {
            Self::Alone => Self::Watched,
            Self::Watched | Self::None => Self::None,
        }
    }
}

impl Trial {
    /// What stays of it when a process that lives takes its note back.
    #[must_use]
    pub fn taken_back(self) -> Self {
        Self { note: self.note.taken_back(), ..self }
    }
}

/// A request to leave the record alone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The run that has it.
    pub owner: Owner,
    /// When it ends, if nobody frees it.
    pub until: Timestamp,
}

/// A run, by a number that no other has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(pub u64);

impl Record {
    /// A record that is not stored yet.
    #[must_use]
    pub fn new(born: Timestamp) -> Self {
        Self { born, ..Self::default() }
    }

    /// The version that the next write makes.
    #[must_use]
    pub const fn next_version(&self) -> u64 {
        match (self.version, self.born.0) {
            (0, 0) => 1,
            (0, born) => born,
            (version, _) => version + 1,
        }
    }

    /// Whether somebody else asks to wait, at `now`.
    #[must_use]
    pub fn is_leased_to_another(&self, than: Owner, now: Timestamp) -> bool {
        self.lease.is_some_and(|lease| lease.owner != than && lease.until > now)
    }

    /// What is known of this envelope's failures.
    #[must_use]
    pub fn trial_of(&self, id: EnvelopeId) -> Trial {
        self.trials.iter().find(|trial| trial.id == id).copied().unwrap_or(Trial { id, failures: 0, note: Note::None })
    }

    /// Notes an envelope's failures in place of what was known. Beyond [`MAX_TRIALS`] one is forgotten: the oldest whose note was found by
    /// nobody, or the oldest of all.
    pub fn put_trial(&mut self, trial: Trial) {
        self.trials.retain(|known| known.id != trial.id);
        if self.trials.len() >= MAX_TRIALS {
            let noted = self.trials.iter().position(|known| known.note != Note::None);
            self.trials.remove(noted.unwrap_or(0));
        }
        self.trials.push(trial);
    }

    /// Messages of this envelope that are already applied.
    #[must_use]
    pub fn done_of(&self, id: EnvelopeId) -> u32 {
        self.partial.iter().find(|partial| partial.id == id).map_or(0, |partial| partial.done)
    }
}
