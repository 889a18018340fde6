//! What comes in: envelopes through the queue's port, and records of an ingress.

use std::sync::Arc;

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
}

/// A text key and the bytes to keep under it, set in the same step as what it stands for.
pub type Cursor = (String, Vec<u8>);

#[async_trait]
impl EnvelopeQueue for Embedded {
    async fn send(&self, envelopes: &[&Envelope]) -> Vec<Result<(), PortError>> {
        let taken = match self.shared().room("send").await {
            Ok(()) => {
                let envelopes = envelopes.iter().map(|envelope| Arc::new((*envelope).clone())).collect();
                take(self.shared(), "send", envelopes, None, Some(self.shared().options.dedup_window))
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
        let remember = dedup.then_some(self.shared().options.retention);
        take(self.shared(), "ingest", envelopes.into_iter().map(Arc::new).collect(), cursor, remember)
    }
}

fn take(
    shared: &Shared,
    call: &'static str,
    envelopes: Vec<Arc<Envelope>>,
    cursor: Option<Cursor>,
    remember: Option<std::time::Duration>,
) -> Result<Ingested, PortError> {
    let now = shared.now();
    let new: Vec<_> = envelopes.into_iter().map(|envelope| NewEnvelope::new(envelope, now, shared.life.crashes)).collect();
    let ids: Vec<_> = new.iter().map(|new| new.envelope.id).collect();
    let keys: Vec<(Table, &[u8])> = match remember {
        Some(_) => ids.iter().map(|id| (Table::Accepted, &id.0[..])).collect(),
        None => Vec::new(),
    };
    let (mut guard, known) = shared.rows(call, &keys)?;
    let known = known.iter().map(|value| value.as_ref().map(|value| accepted::decode(value)).transpose());
    let mut known = known.collect::<Result<Vec<_>, _>>().map_err(|error| refused(call, error))?.into_iter();
    let state = &mut *guard;
    let mut accepted = Vec::with_capacity(new.len());
    for new in new {
        let is_new = match remember {
            Some(remember) => state.remember(new.envelope.id, known.next().flatten(), now, now.plus(remember)),
            None => true,
        };
        accepted.push(is_new);
        if is_new {
            state.append(new);
        }
    }
    if let Some((name, value)) = cursor {
        state.log.put(Table::Cursors, name.into_bytes().into(), value.into());
    }
    Ok(Ingested { op: shared.finish(guard), accepted })
}

impl State {
    /// Notes that the id came in, until `expires`. Returns `false` if it is known already. `known` is its row's expiry.
    fn remember(&mut self, id: EnvelopeId, known: Option<Timestamp>, now: Timestamp, expires: Timestamp) -> bool {
        // The same id may stand twice in one call: the log knows, even if nothing else did before.
        let known = match self.log.look(Table::Accepted, &id.0) {
            Some(value) => value.and_then(|value| accepted::decode(&value).ok()),
            None => known,
        };
        if known.is_some_and(|known| known > now) {
            return false;
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
        true
    }
}
