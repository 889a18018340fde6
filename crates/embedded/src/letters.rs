//! Dead letters: kept until someone removes them or sends them again.

use std::{ops::Bound, sync::Arc, sync::MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use statefun_core::{DeadLetter, Envelope, EnvelopeId, RefusedRecord, Timestamp};
use statefun_engine::ports::{DeadLetters, PortError};

use crate::{
    Embedded, Letter, MalformedRecord, Op,
    append::{NewEnvelope, Prepared},
    batch::Table,
    shared::{State, refused as refusal},
    tables::letters,
};

/// What became of a letter that was to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// Its envelope is in its lane, under this new id, and the letter is gone. An egress record keeps its id.
    Sent {
        /// The new envelope's id, or the record's.
        id: EnvelopeId,
        /// What has to be durable before this is reported to the outside.
        op: Op,
    },
    /// There is no such letter.
    Unknown,
    /// It is a record that never became an envelope: correct it at its source and ingest it again.
    Malformed,
}

#[async_trait]
impl DeadLetters for Embedded {
    async fn park(&self, letter: &DeadLetter) -> Result<(), PortError> {
        self.shared().room("park").await?;
        self.add("park", letter.id, letter.at, letters::encode_dead(letter)).map(drop)
    }

    async fn park_refused(&self, refused: &RefusedRecord) -> Result<(), PortError> {
        self.shared().room("park").await?;
        self.add("park", refused.record.id, refused.at, letters::encode_refused(refused)).map(drop)
    }
}

impl Embedded {
    /// Keeps a record that could not be read. One that is there already changes nothing.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed.
    pub async fn park_malformed(&self, record: &MalformedRecord) -> Result<Op, PortError> {
        self.shared().room("park").await?;
        self.add("park", record.id, record.at, letters::encode_malformed(record))
    }

    fn add(&self, call: &'static str, id: EnvelopeId, at: Timestamp, value: Bytes) -> Result<Op, PortError> {
        let (mut state, known) = self.letter_row(call, id)?;
        if known.is_none() {
            state.add_letter(id, at, value);
        }
        Ok(self.shared().finish(state))
    }

    /// Up to `limit` letters, oldest first, after the one given up at `after` with that id.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed.
    pub fn letters(&self, after: Option<(Timestamp, EnvelopeId)>, limit: usize) -> Result<Vec<Letter>, PortError> {
        let ids = self.ids_after(after, limit)?;
        let mut found = Vec::with_capacity(ids.len());
        // Not all at once: a letter may hold a megabyte.
        for id in ids {
            found.extend(self.letter(id)?);
        }
        Ok(found)
    }

    /// The ids of all letters that are there now, oldest first; 16 bytes each.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed.
    pub fn letter_ids(&self) -> Result<Vec<EnvelopeId>, PortError> {
        self.ids_after(None, usize::MAX)
    }

    fn ids_after(&self, after: Option<(Timestamp, EnvelopeId)>, limit: usize) -> Result<Vec<EnvelopeId>, PortError> {
        let from = after.map(|(at, id)| crate::log::after(letters::time_key(at, id))).unwrap_or_default();
        let mut ids = Vec::new();
        self.shared().pages("letters", Table::LetterTimes, &from, Bound::Unbounded, |rows| {
            for (key, _) in rows.into_iter().take(limit - ids.len()) {
                let (_, id) = letters::decode_time_key(&key).map_err(|error| refusal("letters", error))?;
                ids.push(id);
            }
            Ok(ids.len() < limit)
        })?;
        Ok(ids)
    }

    /// One letter.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed.
    pub fn letter(&self, id: EnvelopeId) -> Result<Option<Letter>, PortError> {
        let (state, value) = self.letter_row("letter", id)?;
        drop(state);
        value.map(|value| letters::decode(&value)).transpose().map_err(|error| refusal("letter", error))
    }

    /// How many letters there are.
    #[must_use]
    pub fn letter_count(&self) -> u64 {
        self.shared().lock_always().counts.letters
    }

    /// Sends a letter's envelope again, under a new id, or its egress record, and removes the letter, in one step.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed.
    pub async fn replay(&self, id: EnvelopeId) -> Result<Replayed, PortError> {
        let shared = self.shared();
        shared.room("replay").await?;
        let letter = match self.letter(id)? {
            None => return Ok(Replayed::Unknown),
            Some(Letter::Malformed(_)) => return Ok(Replayed::Malformed),
            Some(Letter::Refused(refused)) => return self.replay_refused(&refused),
            Some(Letter::Dead(letter)) => letter,
        };
        let now = shared.now();
        // A letter is replayed once, since that removes it: the number of the replay is always 0.
        let new_id = EnvelopeId::of_replay(id, 0);
        let envelope = Envelope { id: new_id, sent_at: now, keyed: false, hops: 0, ..letter.envelope };
        let new = NewEnvelope::new(Arc::new(envelope), now, shared.life.crashes);
        let (mut state, known) = self.letter_row("replay", id)?;
        if known.is_none() {
            return Ok(Replayed::Unknown);
        }
        state.append(new);
        state.remove_letter(id, letter.at);
        Ok(Replayed::Sent { id: new_id, op: shared.finish(state) })
    }

    /// Puts the record at the end of its egress's lane and removes the letter. The record keeps its id: it was not taken under it, and if
    /// it was after all, its receiver knows it by that.
    fn replay_refused(&self, refused: &RefusedRecord) -> Result<Replayed, PortError> {
        let id = refused.record.id;
        let prepared = Prepared::egress(&refused.record);
        let (mut state, known) = self.letter_row("replay", id)?;
        if known.is_none() {
            return Ok(Replayed::Unknown);
        }
        state.apply(prepared);
        state.remove_letter(id, refused.at);
        Ok(Replayed::Sent { id, op: self.shared().finish(state) })
    }

    /// Takes the first record of an egress out of its lane and makes it a letter, in one step.
    ///
    /// # Errors
    /// If it is not the first one, or the store is closed, damaged or failed.
    pub async fn egress_refused(&self, refused: &RefusedRecord) -> Result<Op, PortError> {
        const CALL: &str = "egress_refused";
        let RefusedRecord { at, record, .. } = refused;
        self.shared().room(CALL).await?;
        let value = letters::encode_refused(refused);
        let (mut state, known) = self.letter_row(CALL, record.id)?;
        let first = state.lanes.egress.get(&record.egress).and_then(|lane| lane.entries.front());
        if first.is_none_or(|first| first.item.id != record.id) || !state.drop_egress(&record.egress, 1) {
            return Err(refusal(CALL, format!("{} is not the first record of {}", record.id, record.egress)));
        }
        if known.is_none() {
            state.add_letter(record.id, *at, value);
        }
        Ok(self.shared().finish(state))
    }

    /// Removes a letter. Returns `None` if there is none.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed.
    pub fn remove_letter(&self, id: EnvelopeId) -> Result<Option<Op>, PortError> {
        let Some(letter) = self.letter(id)? else { return Ok(None) };
        let (mut state, known) = self.letter_row("remove_letter", id)?;
        if known.is_none() {
            return Ok(None);
        }
        state.remove_letter(id, letter.at());
        Ok(Some(self.shared().finish(state)))
    }

    fn letter_row(&self, call: &'static str, id: EnvelopeId) -> Result<(MutexGuard<'_, State>, Option<Bytes>), PortError> {
        let (state, mut rows) = self.shared().rows(call, &[(Table::Letters, &id.0)])?;
        Ok((state, rows.pop().flatten()))
    }
}

impl State {
    fn remove_letter(&mut self, id: EnvelopeId, at: Timestamp) {
        self.log.delete(Table::Letters, letters::key(id));
        self.log.delete(Table::LetterTimes, letters::time_key(at, id));
        self.counts.letters = self.counts.letters.saturating_sub(1);
    }
}
