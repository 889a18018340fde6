//! What operators do with dead letters: look at them, send them again, delete them.

use std::collections::BTreeSet;

use statefun_core::{
    Address, DeadLetter, Envelope, EnvelopeId, RefusedRecord, Timestamp, TypeName, chain,
    protocol::InOrder,
    stored::{Letter, letter_to_json, malformed_to_json, refused_to_json},
};
use statefun_engine::ports::{Clock, Egress, EnvelopeQueue, Moment, PortError, PortErrorKind};

use super::{
    DeadLetterQueue,
    pass::{Found, Pass},
};
use crate::{backend::SystemClock, queues::SqsQueues};

/// Bytes of letters that a listing shows: a Lambda's answer takes 6 MB.
const MAX_LISTED_BYTES: usize = 4_000_000;
/// Bytes of letters that one replay holds: a Lambda may have 128 MB.
const MAX_HELD_BYTES: usize = 32 * 1_024 * 1_024;

/// Where what is sent again goes.
#[derive(Clone, Copy)]
pub struct Receivers<'a> {
    /// Functions' queues, for messages.
    pub queues: &'a SqsQueues,
    /// For records.
    pub egress: &'a dyn Egress,
}

/// A letter that is to be sent again.
enum Chosen {
    Message(Box<DeadLetter>),
    Record(Box<RefusedRecord>),
}

impl Chosen {
    fn at(&self) -> Timestamp {
        match self {
            Self::Message(letter) => letter.at,
            Self::Record(refused) => refused.at,
        }
    }

    /// What its order is kept in: its address, or what an address sends to an egress.
    fn group(&self) -> (Option<&TypeName>, &Address) {
        match self {
            Self::Message(letter) => (None, &letter.envelope.to),
            Self::Record(refused) => (Some(&refused.record.egress), &refused.record.from),
        }
    }
}

/// Which letters a command is about: those that are named by ids and function, if these are given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Letters' ids.
    pub ids: Option<BTreeSet<String>>,
    /// The function that the message was for, or that sent the egress record.
    pub function: Option<TypeName>,
    /// Also those whose message may have been applied. They have to be asked for, even by their ids: sent again, a message that was
    /// applied is applied twice.
    pub may_be_applied: bool,
}

/// A message of the queue, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The letter's id; of anything else, the message's. Letters are named by it.
    pub id: String,
    /// The letter, or why it is none.
    pub letter: Result<Letter, String>,
}

/// What lies in the queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// There may be others.
    pub more: bool,
}

/// What a replay did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Letters whose message, or egress record, was sent again.
    pub sent: usize,
    /// Letters that were seen and not selected, or not to be sent by this command.
    pub left: usize,
    /// Records that never were a message: correct them at their source, then delete them.
    pub malformed: usize,
    /// Letters for functions that have no queue.
    pub no_queue: usize,
    /// Selected letters whose message may have been applied: they were left, since they were not asked for.
    pub may_be_applied: usize,
    /// Egress records that were refused again: they stay.
    pub refused: usize,
    /// Selected ids that were not found.
    pub missing: Vec<String>,
    /// There may be others.
    pub more: bool,
}

/// What a deletion did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Letters that are gone.
    pub deleted: usize,
    /// Ids that were not found.
    pub missing: Vec<String>,
    /// There may be others.
    pub more: bool,
}

impl Selection {
    fn names(&self, id: &str, of: &TypeName) -> bool {
        let by_id = self.ids.as_ref().is_none_or(|ids| ids.contains(id));
        by_id && self.function.as_ref().is_none_or(|function| of == function)
    }
}

impl DeadLetterQueue {
    /// Up to `max` letters, as many as there is time for. Without `payloads` an envelope has no messages and a malformed record no
    /// content. Nothing changes.
    ///
    /// # Errors
    /// [`PortError`] if the queue fails.
    pub async fn list(&self, max: usize, payloads: bool, deadline: Moment) -> Result<Listed, PortError> {
        let mut pass = Pass::new(self, deadline);
        let listed = list(&mut pass, max, payloads, deadline).await;
        pass.end().await;
        listed
    }

    /// Sends the messages of up to `max` letters again, each as a new envelope, and deletes the letters; stops at `deadline`. They go
    /// in the order in which they were parked. Egress records go to their egress, under their own ids. A letter whose deletion fails is sent again under the same new id by the next
    /// replay: its message still takes effect once.
    ///
    /// # Errors
    /// The first [`PortError`], after all others were tried; what was sent stays sent.
    pub async fn replay(
        &self,
        to: Receivers<'_>,
        selection: &Selection,
        max: usize,
        deadline: Moment,
    ) -> Result<Replayed, PortError> {
        let mut pass = Pass::new(self, deadline);
        let replayed = replay(&mut pass, to, selection, max, deadline).await;
        pass.end().await;
        replayed
    }

    /// Deletes the letters with these ids, and all malformed records if that is asked for.
    ///
    /// # Errors
    /// [`PortError`] if the queue fails; what was deleted is gone.
    pub async fn delete(&self, ids: &BTreeSet<String>, malformed: bool, deadline: Moment) -> Result<Deleted, PortError> {
        let mut pass = Pass::new(self, deadline);
        let deleted = delete(&mut pass, ids, malformed, deadline).await;
        pass.end().await;
        deleted
    }
}

async fn list(pass: &mut Pass<'_>, max: usize, payloads: bool, deadline: Moment) -> Result<Listed, PortError> {
    let (mut listed, mut bytes) = (Listed { more: true, ..Listed::default() }, 0);
    'pages: while listed.entries.len() < max && SystemClock.moment() < deadline {
        let Some(page) = pass.page().await? else {
            listed.more = false;
            break;
        };
        for Found { id, letter, bytes: whole, .. } in page {
            let letter = if payloads { letter } else { letter.map(without_payload) };
            bytes += if payloads { whole } else { letter.as_ref().map_or(whole.min(1_000), size) };
            if listed.entries.len() == max || bytes > MAX_LISTED_BYTES {
                break 'pages;
            }
            listed.entries.push(Entry { id, letter });
        }
    }
    listed.entries.sort_by_key(|entry| entry.letter.as_ref().map_or(Timestamp::ZERO, Letter::at));
    Ok(listed)
}

async fn replay(
    pass: &mut Pass<'_>,
    to: Receivers<'_>,
    selection: &Selection,
    max: usize,
    deadline: Moment,
) -> Result<Replayed, PortError> {
    let mut replayed = Replayed { more: true, ..Replayed::default() };
    let mut missing = selection.ids.clone().unwrap_or_default();
    let (mut chosen, mut bytes) = (Vec::new(), 0);
    // Looking takes half of the time at most.
    let look_until = deadline.minus(deadline.since(SystemClock.moment()) / 2);
    while chosen.len() < max && bytes < MAX_HELD_BYTES && SystemClock.moment() < look_until {
        let Some(page) = pass.page().await? else {
            replayed.more = false;
            break;
        };
        for Found { id, letter, bytes: whole, receipt } in page {
            missing.remove(&id);
            match letter {
                Ok(Letter::Dead(letter)) if !selection.names(&id, letter.envelope.to.function()) => replayed.left += 1,
                Ok(Letter::Refused(refused)) if !selection.names(&id, refused.record.from.function()) => replayed.left += 1,
                Ok(Letter::Refused(refused)) => {
                    bytes += whole;
                    chosen.push((Chosen::Record(refused), receipt));
                }
                Ok(Letter::Dead(letter)) if !to.queues.has_queue(&letter.envelope.to) => replayed.no_queue += 1,
                Ok(Letter::Dead(letter)) if letter.reason.may_be_applied() && !selection.may_be_applied => {
                    replayed.may_be_applied += 1;
                }
                Ok(Letter::Dead(letter)) => {
                    bytes += whole;
                    chosen.push((Chosen::Message(letter), receipt));
                }
                Ok(Letter::Malformed(_)) => replayed.malformed += 1,
                Err(error) => {
                    tracing::warn!(error, "a message among the dead letters is none and stays there");
                    replayed.left += 1;
                }
            }
        }
    }
    chosen.sort_by_key(|(letter, _)| letter.at());
    replayed.left += chosen.len().saturating_sub(max);
    chosen.truncate(max);
    replayed.missing = missing.into_iter().collect();
    send(pass, to, chosen, deadline, replayed).await
}

async fn send(
    pass: &mut Pass<'_>,
    to: Receivers<'_>,
    chosen: Vec<(Chosen, String)>,
    deadline: Moment,
    mut replayed: Replayed,
) -> Result<Replayed, PortError> {
    let mut result = Ok(());
    let mut order = InOrder::of_groups(chosen.iter().map(|(letter, _)| Some(letter.group())));
    while let (&[place], true) = (&*order.choose(1), SystemClock.moment() < deadline) {
        let (letter, receipt) = &chosen[place];
        let sent = send_one(to, letter).await;
        replayed.left += order.called([(place, sent.is_ok())]).len();
        match sent {
            Ok(()) => {
                replayed.sent += 1;
                result = result.and(pass.delete(receipt).await);
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "a dead letter could not be sent again");
                match error.kind {
                    PortErrorKind::Rejected => replayed.refused += 1,
                    _ => result = result.and(Err(error)),
                }
            }
        }
    }
    replayed.left += order.left().len();
    result.map(|()| replayed)
}

async fn send_one(to: Receivers<'_>, letter: &Chosen) -> Result<(), PortError> {
    let results = match letter {
        Chosen::Message(letter) => {
            let (id, sent_at) = (EnvelopeId::of_replay(letter.id, 0), SystemClock.now());
            to.queues.send(&[&Envelope { id, sent_at, keyed: true, hops: 0, ..letter.envelope.clone() }]).await
        }
        Chosen::Record(refused) => to.egress.emit(&[&refused.record]).await,
    };
    results.into_iter().collect()
}

async fn delete(pass: &mut Pass<'_>, ids: &BTreeSet<String>, malformed: bool, deadline: Moment) -> Result<Deleted, PortError> {
    let mut deleted = Deleted { more: true, ..Deleted::default() };
    let mut missing = ids.clone();
    while SystemClock.moment() < deadline {
        let Some(page) = pass.page().await? else {
            deleted.more = false;
            break;
        };
        for Found { id, letter, receipt, .. } in page {
            if ids.contains(&id) || malformed && matches!(letter, Ok(Letter::Malformed(_))) {
                pass.delete(&receipt).await?;
                missing.remove(&id);
                deleted.deleted += 1;
            }
        }
    }
    deleted.missing = missing.into_iter().collect();
    Ok(deleted)
}

fn without_payload(letter: Letter) -> Letter {
    match letter {
        Letter::Dead(mut letter) => {
            letter.envelope.messages.clear();
            Letter::Dead(letter)
        }
        Letter::Malformed(mut record) => {
            record.raw.clear();
            Letter::Malformed(record)
        }
        Letter::Refused(mut refused) => {
            refused.record.value.value = None;
            Letter::Refused(refused)
        }
    }
}

fn size(letter: &Letter) -> usize {
    match letter {
        Letter::Dead(letter) => letter_to_json(letter).len(),
        Letter::Malformed(record) => malformed_to_json(record).len(),
        Letter::Refused(refused) => refused_to_json(refused).len(),
    }
}
