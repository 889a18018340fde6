//! A backend in memory, for tests of the entry points.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use statefun_aws::SystemClock;
use statefun_core::{
    Address, Commit, DeadLetter, EgressRecord, Envelope, EnvelopeId, Outbox, Owner, Record, RefusedRecord, Timer, Timestamp,
    TypedValue, stored::MalformedRecord,
};
use statefun_engine::{
    Ports,
    ports::{
        Clock, Committed, DeadLetters, Egress, EnvelopeQueue, Failed, Found, InstanceStore, Leased, Leasing, Letterbox, Moment,
        PortError, PortErrorKind, Timers, Visibility,
    },
};

/// Everything that was written.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) records: Mutex<HashMap<Address, Record>>,
    pub(crate) sent: Mutex<Vec<Envelope>>,
    pub(crate) emitted: Mutex<Vec<EgressRecord>>,
    pub(crate) letters: Mutex<Vec<DeadLetter>>,
    pub(crate) refused: Mutex<Vec<RefusedRecord>>,
    pub(crate) malformed: Mutex<Vec<MalformedRecord>>,
    pub(crate) pauses: Mutex<Vec<Failed>>,
    /// Addresses to which nothing can be sent.
    pub(crate) queue_down: Mutex<Vec<String>>,
    /// The value that the egress refuses, if it refuses one.
    pub(crate) egress_refuses: Mutex<Option<TypedValue>>,
    /// A record that its egress cannot take now, and why.
    pub(crate) egress_out: Mutex<Option<(TypedValue, PortErrorKind)>>,
    /// The wall clock is so far ahead.
    pub(crate) ahead: Mutex<Duration>,
    /// What a read takes.
    pub(crate) reading: Mutex<Duration>,
    /// Commits fail.
    pub(crate) commits_down: Mutex<bool>,
    /// Commits that accept an envelope fail.
    pub(crate) accepting_down: Mutex<bool>,
    /// Dead letters fail to be written.
    pub(crate) letters_down: Mutex<bool>,
}

impl Memory {
    pub(crate) fn ports(self: &Arc<Self>) -> Ports {
        Ports {
            store: self.clone(),
            queue: self.clone(),
            timers: self.clone(),
            egress: self.clone(),
            dead_letters: self.clone(),
            clock: self.clone(),
        }
    }

    fn letters_are_up(&self) -> Result<(), PortError> {
        match *self.letters_down.lock().unwrap() {
            true => Err(PortError::new("park", PortErrorKind::Unavailable, "down for the test")),
            false => Ok(()),
        }
    }
}

/// The time now.
pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// The deadline of an invocation that has so long.
pub(crate) fn in_time(left: Duration) -> Moment {
    SystemClock.moment().plus(left)
}

#[async_trait]
impl Clock for Memory {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus(*self.ahead.lock().unwrap())
    }

    fn moment(&self) -> Moment {
        SystemClock.moment()
    }

    async fn sleep_until(&self, moment: Moment) {
        SystemClock.sleep_until(moment).await;
    }
}

#[async_trait]
impl InstanceStore for Memory {
    async fn load(&self, addresses: &[&Address]) -> Vec<Found> {
        let reading = *self.reading.lock().unwrap();
        self.sleep_until(in_time(reading)).await;
        let records = self.records.lock().unwrap();
        addresses.iter().map(|address| Ok(records.get(*address).cloned().map(Box::new))).collect()
    }

    async fn lease(&self, address: &Address, leasing: &Leasing) -> Result<Leased, PortError> {
        let mut records = self.records.lock().unwrap();
        let record = records.entry(address.clone()).or_insert_with(|| Record::new(leasing.born));
        if record.version != leasing.expect {
            return Ok(Leased::Refused);
        }
        (record.version, record.lease) = (leasing.makes, Some(leasing.lease));
        Ok(Leased::Taken)
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, PortError> {
        // Others get a turn between the read and the commit, as they would over a network.
        tokio::task::yield_now().await;
        if *self.commits_down.lock().unwrap() {
            return Err(PortError::new("commit", PortErrorKind::Throttled, "down for the test"));
        }
        let mut records = self.records.lock().unwrap();
        let (version, known) = records.get(&commit.address).map_or((0, 0), |record| (record.version, record.ledger.inline.len()));
        if *self.accepting_down.lock().unwrap() && known < commit.record.ledger.inline.len() {
            return Err(PortError::new("commit", PortErrorKind::Refused, "refused for the test"));
        }
        if version != commit.expect {
            return Ok(Committed::Fenced);
        }
        records.insert(commit.address.clone(), commit.record.clone());
        Ok(Committed::Stored)
    }

    async fn finish(&self, address: &Address, expect: u64) -> Result<bool, PortError> {
        let mut records = self.records.lock().unwrap();
        let Some(record) = records.get_mut(address).filter(|record| record.version == expect) else { return Ok(false) };
        record.outbox = Outbox::default();
        (record.version, record.lease) = (expect + 1, None);
        Ok(true)
    }

    async fn free(&self, address: &Address, owner: Owner) -> Result<(), PortError> {
        let mut records = self.records.lock().unwrap();
        let is_its = |record: &&mut Record| record.lease.is_some_and(|lease| lease.owner == owner);
        if let Some(record) = records.get_mut(address).filter(is_its) {
            (record.version, record.lease) = (record.next_version(), None);
        }
        Ok(())
    }

    async fn spilled(&self, _: &Address, _: &[EnvelopeId], _: Timestamp) -> Result<Vec<EnvelopeId>, PortError> {
        Ok(Vec::new())
    }

    /// Nothing to do: what is written here stays as long as the test.
    async fn barrier(&self) -> Result<(), PortError> {
        Ok(())
    }
}

#[async_trait]
impl EnvelopeQueue for Memory {
    async fn send(&self, envelopes: &[&Envelope]) -> Vec<Result<(), PortError>> {
        let down = self.queue_down.lock().unwrap();
        let send = |envelope: &&Envelope| {
            if down.contains(&envelope.to.to_string()) {
                return Err(PortError::new("send", PortErrorKind::Unavailable, "down for the test"));
            }
            self.sent.lock().unwrap().push((*envelope).clone());
            Ok(())
        };
        envelopes.iter().map(send).collect()
    }
}

#[async_trait]
impl Timers for Memory {
    async fn schedule(&self, _: &Timer) -> Result<(), PortError> {
        Ok(())
    }

    async fn remove(&self, _: EnvelopeId, _: Timestamp) -> Result<(), PortError> {
        Ok(())
    }
}

#[async_trait]
impl Egress for Memory {
    async fn emit(&self, records: &[&EgressRecord]) -> Vec<Result<(), PortError>> {
        self.emitted.lock().unwrap().extend(records.iter().map(|record| (*record).clone()));
        let refuses = self.egress_refuses.lock().unwrap().clone();
        let out = self.egress_out.lock().unwrap().clone();
        let answer = |record: &&EgressRecord| match (&refuses, &out) {
            (Some(value), _) if *value == record.value => Err(PortError::new("emit", PortErrorKind::Rejected, "not this one")),
            (_, Some((value, why))) if *value == record.value => Err(PortError::new("emit", *why, "not now")),
            _ => Ok(()),
        };
        records.iter().map(answer).collect()
    }
}

#[async_trait]
impl DeadLetters for Memory {
    async fn park(&self, letter: &DeadLetter) -> Result<(), PortError> {
        self.letters_are_up()?;
        self.letters.lock().unwrap().push(letter.clone());
        Ok(())
    }

    async fn park_refused(&self, refused: &RefusedRecord) -> Result<(), PortError> {
        self.letters_are_up()?;
        self.refused.lock().unwrap().push(refused.clone());
        Ok(())
    }
}

#[async_trait]
impl Letterbox for Memory {
    async fn park_malformed(&self, record: &MalformedRecord) -> Result<(), PortError> {
        self.letters_are_up()?;
        self.malformed.lock().unwrap().push(record.clone());
        Ok(())
    }
}

#[async_trait]
impl Visibility for Memory {
    async fn delay(&self, _: &str, failed: &[Failed]) -> Result<(), PortError> {
        self.pauses.lock().unwrap().extend(failed.iter().cloned());
        Ok(())
    }
}
