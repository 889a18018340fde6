//! What comes in: envelopes through the queue's port, and records of an ingress.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use statefun_core::{Envelope, EnvelopeId, Timestamp};
use statefun_engine::ports::{EnvelopeQueue, PortError};

use crate::{
    Embedded, Op,
    append::NewEnvelope,
    batch::Table,
    shared::{Shared, State, refused},
    tables::accepted::{self, Accepted, Expiring, Fingerprint},
};

/// What an ingest did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingested {
    /// What has to be durable before anything is acknowledged to the outside.
    pub op: Op,
    /// Per envelope: whether it was taken. `false` for a second copy, whose first copy counts.
    pub accepted: Vec<bool>,
    /// Per envelope: the id under which it, or its first copy, was taken. With `dedup` it is another one than the envelope came with, and
    /// new for each use of a key.
    pub ids: Vec<EnvelopeId>,
    /// Whether an id came in before with another content. Then nothing was taken, and the lists are empty.
    pub differs: bool,
}

/// What happens to an envelope whose id came in before, within the retention time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// It is taken again: nothing is remembered.
    Take,
    /// The first one counts.
    Drop,
    /// The first one counts, and one with another content is a mistake, for which all are refused.
    DropIfSame,
}

/// What is remembered of ids that come in.
#[derive(Clone, Copy)]
enum Dedup {
    /// Nothing.
    No,
    /// Ids for so long: a second copy is refused.
    Copies(Duration),
    /// Producers' keys for so long; what is taken has an id of its own. With `strict` a key stands for one content.
    Keys { kept: Duration, strict: bool },
}

/// A text key and the bytes to keep under it, set in the same step as what it stands for.
pub type Cursor = (String, Vec<u8>);

#[async_trait]
impl EnvelopeQueue for Embedded {
    async fn send(&self, envelopes: &[&Envelope]) -> Vec<Result<(), PortError>> {
        let taken = match self.shared().room("send").await {
            Ok(()) => {
                let envelopes = envelopes.iter().map(|envelope| Arc::new((*envelope).clone())).collect();
                take(self.shared(), "send", envelopes, None, Dedup::Copies(self.shared().options.dedup_window))
            }
            Err(error) => Err(error),
        };
        match taken {
            Ok(_) => envelopes.iter().map(|_| Ok(())).collect(),
            Err(error) => {
                let error = Arc::new(error);
                envelopes.iter().map(|_| Err(PortError::new("send", error.kind, error.clone()))).collect()
            }
        }
    }
}

impl Embedded {
    /// Appends envelopes to their lanes, in order, and sets a cursor, in one step. With `dedup` an id that came in before (within
    /// the retention time) is not taken again; in the same step the others are remembered, with fingerprints of their contents.
    ///
    /// Await [`durable`](Self::durable) for the returned operation before acknowledging anything, a second copy included.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed; nothing is taken then.
    pub async fn ingest(&self, envelopes: Vec<Envelope>, cursor: Option<Cursor>, dedup: bool) -> Result<Ingested, PortError> {
        let repeats = if dedup { Repeats::Drop } else { Repeats::Take };
        self.ingest_with(envelopes, cursor, repeats).await
    }

    /// [`ingest`](Self::ingest) that says what happens to repeats.
    ///
    /// # Errors
    /// As [`ingest`](Self::ingest).
    pub async fn ingest_with(
        &self,
        envelopes: Vec<Envelope>,
        cursor: Option<Cursor>,
        repeats: Repeats,
    ) -> Result<Ingested, PortError> {
        self.shared().room("ingest").await?;
        let dedup = match repeats {
            Repeats::Take => Dedup::No,
            _ => Dedup::Keys { kept: self.shared().options.retention, strict: repeats == Repeats::DropIfSame },
        };
        take(self.shared(), "ingest", envelopes.into_iter().map(Arc::new).collect(), cursor, dedup)
    }
}

fn take(
    shared: &Shared,
    call: &'static str,
    envelopes: Vec<Arc<Envelope>>,
    cursor: Option<Cursor>,
    dedup: Dedup,
) -> Result<Ingested, PortError> {
    let now = shared.now();
    let keys: Vec<EnvelopeId> = envelopes.iter().map(|envelope| envelope.id).collect();
    let prints: Vec<_> = envelopes.iter().map(|envelope| dedup.fingerprint(envelope)).collect();
    let new: Vec<_> = envelopes.into_iter().map(|envelope| dedup.new_envelope(envelope, now, shared.life.crashes)).collect();
    let rows: Vec<(Table, &[u8])> = match dedup {
        Dedup::No => Vec::new(),
        Dedup::Copies(_) | Dedup::Keys { .. } => keys.iter().map(|id| (Table::Accepted, &id.0[..])).collect(),
    };
    let (mut guard, known) = shared.rows(call, &rows)?;
    let known = known.iter().map(|value| value.as_ref().map(|value| accepted::decode(value)).transpose());
    let known = known.collect::<Result<Vec<_>, _>>().map_err(|error| refused(call, error))?;
    let state = &mut *guard;
    if matches!(dedup, Dedup::Keys { strict: true, .. }) && state.differs(&keys, &prints, &known, now) {
        return Ok(Ingested { op: shared.finish(guard), accepted: Vec::new(), ids: Vec::new(), differs: true });
    }
    let mut known = known.into_iter();
    let (mut accepted, mut ids) = (Vec::with_capacity(new.len()), Vec::with_capacity(new.len()));
    for ((new, key), fingerprint) in new.into_iter().zip(&keys).zip(prints) {
        let first = match dedup {
            Dedup::No => None,
            Dedup::Copies(kept) | Dedup::Keys { kept, .. } => {
                let accepted = Accepted { expires: now.plus(kept), fingerprint };
                state.remember(*key, known.next().flatten(), now, &accepted)
            }
        };
        accepted.push(first.is_none());
        ids.push(match first {
            None => new.envelope.id,
            Some(expires) => dedup.id(*key, expires),
        });
        if first.is_none() {
            state.append(new);
        }
    }
    if let Some((name, value)) = cursor {
        state.log.put(Table::Cursors, name.into_bytes().into(), value.into());
    }
    Ok(Ingested { op: shared.finish(guard), accepted, ids, differs: false })
}

impl Dedup {
    fn new_envelope(self, envelope: Arc<Envelope>, now: Timestamp, crashes: u64) -> NewEnvelope {
        let envelope = match self {
            Self::No | Self::Copies(_) => envelope,
            Self::Keys { kept, .. } => {
                Arc::new(Envelope { id: self.id(envelope.id, now.plus(kept)), ..Arc::unwrap_or_clone(envelope) })
            }
        };
        NewEnvelope::new(envelope, now, crashes)
    }

    /// The id of what was taken under this one.
    fn id(self, key: EnvelopeId, expires: Timestamp) -> EnvelopeId {
        match self {
            Self::No | Self::Copies(_) => key,
            Self::Keys { .. } => EnvelopeId::of_accepted(key, expires),
        }
    }

    /// What distinguishes a key's contents; copies of an envelope are the same.
    fn fingerprint(self, envelope: &Envelope) -> Option<Fingerprint> {
        matches!(self, Self::Keys { .. }).then(|| Fingerprint::of(&envelope.messages))
    }
}

impl State {
    /// What is known of an id, expired or not. `row` is its row, if it has one.
    fn known(&self, id: EnvelopeId, row: Option<Accepted>) -> Option<Accepted> {
        match self.log.look(Table::Accepted, &id.0) {
            Some(value) => value.and_then(|value| accepted::decode(&value).ok()),
            None => row,
        }
    }

    /// Whether one of these ids came in before, or stands here twice, with another content.
    fn differs(&self, ids: &[EnvelopeId], prints: &[Option<Fingerprint>], rows: &[Option<Accepted>], now: Timestamp) -> bool {
        let mut here = HashMap::new();
        ids.iter().zip(prints).zip(rows).any(|((id, print), row)| {
            let before = self.known(*id, *row).filter(|known| known.expires > now).and_then(|known| known.fingerprint);
            let first = before.or_else(|| here.insert(*id, *print).flatten());
            first.is_some_and(|first| Some(first) != *print)
        })
    }

    /// Notes that the id came in. If it is known already, returns until when. `known` is its row.
    fn remember(&mut self, id: EnvelopeId, known: Option<Accepted>, now: Timestamp, accepted: &Accepted) -> Option<Timestamp> {
        // The same id may stand twice in one call: the log knows, even if nothing else did before.
        let known = self.known(id, known).map(|known| known.expires);
        if let Some(known) = known.filter(|known| *known > now) {
            return Some(known);
        }
        let (expiring, row) = (Expiring::Accepted(id), accepted::encode(accepted));
        match known {
            Some(old) => {
                self.log.delete(Table::Expiries, expiring.key(old));
                self.log.put(Table::Accepted, id.0.into(), row);
            }
            None => self.log.put_new(Table::Accepted, id.0.into(), row),
        }
        self.log.put(Table::Expiries, expiring.key(accepted.expires), Bytes::new());
        None
    }
}
