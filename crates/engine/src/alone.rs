//! Envelopes that may be what kills their process: who is suspected, how a run is noted, and who may run beside it.
//!
//! A process that dies takes the innocent with it, and whatever it received comes again. So an envelope that was received too often runs
//! *watched*: a note goes into its record first, and its run is a commit of its own. A note that is found set tells that its process did
//! not live to clear it. Then the envelope runs *alone*: no other handler of the process runs, so that the next death is its own.

use std::time::Duration;

use futures_util::future::{Either, select};
use statefun_core::{
    Commit, Delivered, EnvelopeId, Held, Note, OnFailure, Reason, Record, Safeguard, Timestamp, Trial, Turn,
    limits::MIN_SUSPECT_RECEIVES,
};

use crate::{
    gate::{How, Pass},
    ports::{Committed, PortError, PortErrorKind},
    run::Run,
};

/// The pauses between tries of taking a note back.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A note that may stand in the record.
#[derive(Debug)]
pub(crate) struct Noted {
    /// The record with the note.
    record: Record,
    /// It is known to stand. Else its commit had no answer, and the record may be as it was before.
    sure: bool,
}

/// What became of an envelope that is suspected.
pub(crate) enum Announced {
    /// It is given up unrun.
    Parked,
    /// The turn holds the note: it is to be committed before the envelope runs.
    Noted,
    /// There was no time left to wait for the others to end.
    NoTime,
}

impl<'a> Run<'a> {
    /// What has to be noted of an envelope before it runs.
    pub(crate) fn suspicion(&self, record: &Record, delivered: &Delivered) -> Note {
        let found = record.trial_of(delivered.envelope.id).note;
        let attempts = self.function.spec.on_failure.max_attempts().unwrap_or(OnFailure::DEFAULT_ATTEMPTS);
        match found {
            // The note of this run itself.
            note if self.has_announced(delivered.envelope.id) => note,
            Note::Watched | Note::Alone => Note::Alone,
            Note::None if delivered.receive_count >= attempts.max(MIN_SUSPECT_RECEIVES) => Note::Watched,
            Note::None => Note::None,
        }
    }

    /// Notes in the turn that the envelope is about to run. If its process died while it ran alone, that is a failure like others; after
    /// as many as are allowed the envelope is given up unrun.
    pub(crate) async fn announce(&mut self, turn: &mut Turn, delivered: &Delivered, note: Note) -> Announced {
        let trial = turn.record().trial_of(delivered.envelope.id);
        let own = trial.note == Note::Alone || (trial.note == Note::Watched && !self.on(Safeguard::ParkOwn));
        let failures = trial.failures + u32::from(own);
        let too_many = self.function.spec.on_failure.max_attempts().is_some_and(|max| failures >= max);
        if own && too_many && self.on(Safeguard::ParkTheDying) {
            let error = "the process died, or ran out of time, while it ran this message alone";
            self.park_whole(turn, delivered, Reason::Died, error, failures);
            return Announced::Parked;
        }
        if note == Note::Alone && self.alone.is_none() && !self.enter_alone().await {
            return Announced::NoTime;
        }
        turn.open(&delivered.envelope, failures + 1);
        turn.abandon(Trial { id: delivered.envelope.id, failures, note });
        self.announced = Some((delivered.envelope.id, note));
        Announced::Noted
    }

    /// Waits until no handler of the process runs, and keeps others from starting; `false` if the time runs out before.
    async fn enter_alone(&mut self) -> bool {
        if !self.on(Safeguard::RunAlone) {
            return true;
        }
        // Others may go on meanwhile.
        self.permit = None;
        let Some(pass) = self.within_its_time(self.engine.gate.pass(How::Alone)).await else { return false };
        self.alone = Some(pass);
        !self.out_of_time()
    }

    /// Waits while a handler runs alone; `None` if the time runs out before. The pass is held while a handler runs; whoever runs alone has
    /// it already.
    pub(crate) async fn enter(&self) -> Option<Option<Pass<'a>>> {
        if self.alone.is_some() {
            return Some(None);
        }
        match self.engine.gate.try_pass(How::Beside) {
            Some(pass) => Some(Some(pass)),
            None => self.within_its_time(self.engine.gate.pass(How::Beside)).await.map(Some),
        }
    }

    async fn within_its_time<T>(&self, waiting: impl Future<Output = T>) -> Option<T> {
        let waiting = std::pin::pin!(waiting);
        match select(waiting, std::pin::pin!(self.its_end())).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }

    /// Returns when handlers of this run have no more time, or are given up.
    pub(crate) async fn its_end(&self) {
        select(self.engine.ports.clock.sleep_until(self.last_moment()), self.engine.cut.wait()).await;
    }

    /// Whether this run noted the envelope, and has not forgotten that since.
    pub(crate) fn has_announced(&self, id: EnvelopeId) -> bool {
        self.announced.is_some_and(|(announced, _)| announced == id)
    }

    /// Whether the record has the note just as this run made it. One that was taken back may still be a suspicion.
    fn stands(&self, record: &Record) -> bool {
        self.announced.is_some_and(|(id, note)| record.trial_of(id).note == note)
    }

    /// Takes the note back, in the turn, since the envelope does not run now.
    pub(crate) fn withdraw(&self, turn: &mut Turn) {
        let Some((id, _)) = self.announced.filter(|_| self.on(Safeguard::Withdraw)) else { return };
        turn.take_back(id);
    }

    /// A commit that holds the note is about to be written.
    pub(crate) fn before_noting(&mut self, commit: &Commit) {
        if self.stands(&commit.record) {
            self.noted = Some(Noted { record: commit.record.clone(), sure: false });
        }
    }

    /// A commit took effect. If it holds the note, that has to be durable before the envelope runs, which may take the process with it. If
    /// not, the envelope came to its end; whatever else there is of it has to be noted anew. Others may run again once that is durable:
    /// a death of theirs must not find the note.
    pub(crate) async fn after_commit(&mut self, record: &Record) -> Result<(), PortError> {
        if self.announced.is_none() {
            return Ok(());
        }
        let stands = self.stands(record);
        if (stands || self.alone.is_some()) && self.on(Safeguard::Barrier) {
            self.engine.ports.store.barrier().await?;
        }
        if stands {
            self.noted.iter_mut().for_each(|noted| noted.sure = true);
            return Ok(());
        }
        self.forget_note();
        Ok(())
    }

    /// Another environment has the address, and sees what stands.
    pub(crate) fn forget_note(&mut self) {
        (self.announced, self.noted, self.alone) = (None, None, None);
    }

    /// After a failure of the backend: takes back the note that an envelope runs, and the lease. Its process lives, and the envelope is not to
    /// be blamed when it comes again. Goes on until the invocation's time is over: whoever does not get through by then is as good
    /// as dead.
    pub(crate) async fn take_back_note(&mut self) {
        let Some(noted) = self.noted.take().filter(|_| self.on(Safeguard::TakeBack)) else { return };
        let (clock, mut pause) = (self.engine.ports.clock.clone(), FIRST_PAUSE);
        loop {
            // Whoever answers too late is ended, and answers nothing at all.
            let tried = {
                let trying = std::pin::pin!(self.try_to_take_back(&noted));
                match select(trying, clock.sleep_until(self.deadline)).await {
                    Either::Left((tried, _)) => tried,
                    Either::Right(_) => Err(PortError::new("commit", PortErrorKind::Unavailable, "the time ran out")),
                }
            };
            let freed = match tried {
                Ok(freed) => freed,
                // What is refused for good will not be allowed in a moment.
                Err(error) if error.kind == PortErrorKind::Refused || clock.moment().plus(pause) >= self.deadline => {
                    let function = self.address.function();
                    tracing::warn!(%function, %error, "a run that came to its end may count as a death of its process");
                    return;
                }
                Err(_) => {
                    clock.sleep_until(clock.moment().plus(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            };
            if freed {
                self.leased = None;
            }
            return;
        }
    }

    /// Writes the record with the note taken back, in place of the one with it or, if that is not known to be written, of the one before: then a
    /// request for it that is still on its way comes too late. If neither is found, the note is gone or somebody else's. Returns whether
    /// the lease is free with it.
    async fn try_to_take_back(&self, noted: &Noted) -> Result<bool, PortError> {
        let with = noted.record.held();
        let before = Held { version: with.version.saturating_sub(1), ..with };
        // The earlier one first: once it is gone, it does not come back.
        let places = if noted.sure { &[with][..] } else { &[before, with] };
        // A version that nothing else of this run writes: its commit may still be on its way.
        let mut record = Record { version: with.version + 2, lease_until: Timestamp::ZERO, ..noted.record.clone() };
        if let Some((id, _)) = self.announced {
            record.put_trial(record.trial_of(id).taken_back());
        }
        let store = &self.engine.ports.store;
        for expect in places {
            let (address, record) = (self.address.clone(), record.clone());
            let commit = Commit { address, expect: *expect, record, changed: Vec::new(), segment: None };
            match store.commit(&commit).await? {
                Committed::Stored | Committed::Settled => {
                    if self.alone.is_some() && self.on(Safeguard::Barrier) {
                        store.barrier().await?;
                    }
                    return Ok(true);
                }
                Committed::Fenced => {}
            }
        }
        Ok(false)
    }
}
