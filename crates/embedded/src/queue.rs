//! What comes in: envelopes through the queue's port, and records of an ingress.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use statefun_core::{Envelope, EnvelopeId, Timestamp};
use statefun_engine::ports::{EnvelopeQueue, PortError};

use crate::{
    Embedded, Op,
    append::NewEnvelope,
    batch::Table,
    shared::{Shared, State, refused},
    tables::accepted::{self, Expiring},
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
}

/// What is remembered of ids that come in.
#[derive(Clone, Copy)]
enum Dedup {
    /// Nothing.
    No,
    /// Ids for so long: a second copy is refused.
    Copies(Duration),
    /// Producers' keys for so long; what is taken has an id of its own.
    Keys(Duration),
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
    /// the retention time) is not taken again; in the same step the others are remembered.
    ///
    /// Await [`durable`](Self::durable) for the returned operation before acknowledging anything, a second copy included.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed; nothing is taken then.
    pub async fn ingest(&self, envelopes: Vec<Envelope>, cursor: Option<Cursor>, dedup: bool) -> Result<Ingested, PortError> {
        self.shared().room("ingest").await?;
        let dedup = if dedup { Dedup::Keys(self.shared().options.retention) } else { Dedup::No };
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
    let new: Vec<_> = envelopes.into_iter().map(|envelope| dedup.new_envelope(envelope, now, shared.life.crashes)).collect();
    let rows: Vec<(Table, &[u8])> = match dedup {
        Dedup::No => Vec::new(),
        Dedup::Copies(_) | Dedup::Keys(_) => keys.iter().map(|id| (Table::Accepted, &id.0[..])).collect(),
    };
    let (mut guard, known) = shared.rows(call, &rows)?;
    let known = known.iter().map(|value| value.as_ref().map(|value| accepted::decode(value)).transpose());
    let mut known = known.collect::<Result<Vec<_>, _>>().map_err(|error| refused(call, error))?.into_iter();
    let state = &mut *guard;
    let (mut accepted, mut ids) = (Vec::with_capacity(new.len()), Vec::with_capacity(new.len()));
    for (new, key) in new.into_iter().zip(&keys) {
        let first = match dedup {
            Dedup::No => None,
            Dedup::Copies(kept) | Dedup::Keys(kept) => state.remember(*key, known.next().flatten(), now, now.plus(kept)),
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
    Ok(Ingested { op: shared.finish(guard), accepted, ids })
}

impl Dedup {
    fn new_envelope(self, envelope: Arc<Envelope>, now: Timestamp, crashes: u64) -> NewEnvelope {
        let envelope = match self {
            Self::No | Self::Copies(_) => envelope,
            Self::Keys(kept) => Arc::new(Envelope { id: self.id(envelope.id, now.plus(kept)), ..Arc::unwrap_or_clone(envelope) }),
        };
        NewEnvelope::new(envelope, now, crashes)
    }

    /// The id of what was taken under this one.
    fn id(self, key: EnvelopeId, expires: Timestamp) -> EnvelopeId {
        match self {
            Self::No | Self::Copies(_) => key,
            Self::Keys(_) => EnvelopeId::of_accepted(key, expires),
        }
    }
}

impl State {
    /// Notes that the id came in, until `expires`. If it is known already, returns until when. `known` is its row's expiry.
    fn remember(&mut self, id: EnvelopeId, known: Option<Timestamp>, now: Timestamp, expires: Timestamp) -> Option<Timestamp> {
        // The same id may stand twice in one call: the log knows, even if nothing else did before.
        let known = match self.log.look(Table::Accepted, &id.0) {
            Some(value) => value.and_then(|value| accepted::decode(&value).ok()),
            None => known,
        };
        if let Some(known) = known.filter(|known| *known > now) {
            return Some(known);
        }
        let expiring = Expiring::Accepted(id);
        match known {
            Some(old) => {
                self.log.delete(Table::Expiries, expiring.key(old));
                self.log.put(Table::Accepted, id.0.into(), accepted::encode(expires));
            }
            None => self.log.put_new(Table::Accepted, id.0.into(), accepted::encode(expires)),
        }
        self.log.put(Table::Expiries, expiring.key(expires), Bytes::new());
        None
    }
}
