//! Suspicion: which envelopes may be what kills their process, how a run of one is noted, and how the note is taken back.
//!
//! A process that dies takes the innocent with it, and whatever it received comes again. So an envelope that was received too often runs
//! *watched*: a note goes into its record first, and its run is a commit of its own. A note that is found set means that its process did
//! not live to clear it. Then the envelope runs *alone*: no other handler of the process runs, so that the next death is its own.

use std::time::Duration;

use crate::{
    effects::Reason,
    function_spec::OnFailure,
    id::EnvelopeId,
    limits::MIN_SUSPECT_RECEIVES,
    protocol::classify::Delivered,
    protocol::failure::Next,
    protocol::turn::{Commit, Turn},
    record::{Note, Record, Trial},
    safeguard::Safeguard,
};

use super::{
    batch::Batch,
    event::{Committed, Halt, Loaded, Lost, Notice, PortErrorKind},
    state::{Ended, State, Suspect, Work},
    turns::held,
};

/// The pauses between tries of taking a note back.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a batch suspects.
#[derive(Debug, Clone)]
pub(super) struct Suspicion {
    /// The suspected envelope of which a note stands, or is about to, and the note.
    announced: Option<(EnvelopeId, Note)>,
    noted: Option<Noted>,
    /// No other handler of this process runs.
    pub(super) alone: bool,
    /// The handler that held its thread in the run before this one.
    lost: Option<Lost>,
}

/// A note that may stand in the record.
#[derive(Debug, Clone, Copy)]
struct Noted {
    /// The version before it.
    before: u64,
    /// It is known to be written. Else its commit had no answer, and may still be on its way.
    sure: bool,
}

/// A note on its way back.
#[derive(Debug, Clone, Copy)]
pub(super) struct TakeBack {
    noted: Noted,
    /// The pause before the next try.
    pause: Duration,
    /// What is left of the batch comes again after this one.
    then: Duration,
}

impl Suspicion {
    pub(super) fn new(lost: Option<Lost>) -> Self {
        Self { announced: None, noted: None, alone: false, lost }
    }

    /// Another environment has the address, and sees what stands; or the envelope came to its end.
    pub(super) fn forget(&mut self) {
        (self.announced, self.noted, self.alone) = (None, None, false);
    }

    /// Whether this run noted the envelope, and has not forgotten that since.
    pub(super) fn has_announced(&self, id: EnvelopeId) -> bool {
        self.announced.is_some_and(|(announced, _)| announced == id)
    }

    /// Whether the record has the note just as this run made it. One that was taken back may still be a suspicion.
    pub(super) fn stands(&self, record: &Record) -> bool {
        self.announced.is_some_and(|(id, note)| record.trial_of(id).note == note)
    }

    /// Whether this message's handler held its thread in the run before: once.
    pub(super) fn lost_at(&mut self, envelope: EnvelopeId, message: usize) -> bool {
        self.lost.take_if(|lost| lost.envelope == envelope && lost.message == message).is_some()
    }

    /// A commit that holds the note is about to be written.
    pub(super) fn before_noting(&mut self, commit: &Commit) {
        if self.stands(&commit.record) {
            self.noted = Some(Noted { before: commit.expect, sure: false });
        }
    }
}

impl Batch {
    /// What has to be noted of an envelope before it runs.
    pub(super) fn suspect(&self, record: &Record, delivered: &Delivered) -> Note {
        let found = record.trial_of(delivered.envelope.id).note;
        let attempts = self.function.on_failure.max_attempts().unwrap_or(OnFailure::DEFAULT_ATTEMPTS);
        match found {
            // The note of this run itself.
            note if self.suspicion.has_announced(delivered.envelope.id) => note,
            Note::Watched | Note::Alone => Note::Alone,
            Note::None if delivered.receive_count >= attempts.max(MIN_SUSPECT_RECEIVES) => Note::Watched,
            Note::None => Note::None,
        }
    }

    /// If the run before this one was given up while it ran the envelope alone, that failed like any other. Returns the pause before the
    /// next try; `None` if there is none, and the envelope is to be parked for it.
    pub(super) fn held_alone(&mut self, turn: &mut Turn, delivered: &Delivered) -> Option<Duration> {
        let id = delivered.envelope.id;
        let trial = turn.record().trial_of(id);
        self.suspicion.lost.take_if(|lost| trial.note == Note::Alone && lost.envelope == id)?;
        let (error, failures) = (held(), trial.failures + 1);
        let Next::Again(pause) = self.after(&error, false, failures, delivered.receive_count) else { return None };
        let index = self.done_of(turn.record(), delivered);
        self.note_failure(id, index, failures, "time-out", error, None);
        turn.abandon(Trial { failures, ..trial.taken_back() });
        Some(pause)
    }

    /// Notes in the turn that the envelope is about to run. If its process died while it ran alone, that is a failure like others; after
    /// as many as are allowed the envelope is given up unrun.
    pub(super) fn announce(&mut self, mut work: Box<Work>, delivered: &Delivered, note: Note) -> State {
        let trial = work.turn.record().trial_of(delivered.envelope.id);
        let own = trial.note == Note::Alone || (trial.note == Note::Watched && !self.on_guard(Safeguard::ParkOwn));
        let failures = trial.failures + u32::from(own);
        let too_many = self.function.on_failure.max_attempts().is_some_and(|max| failures >= max);
        if own && too_many && self.on_guard(Safeguard::ParkTheDying) {
            let error = "the process died, or ran out of time, while it ran this message alone";
            self.park_whole(&mut work.turn, delivered, Reason::Died, error, failures);
            work.upto += 1;
            return self.end_turn(work, Ended::More);
        }
        let suspect = Suspect { note, failures };
        match note == Note::Alone && !self.suspicion.alone && self.on_guard(Safeguard::RunAlone) {
            true => State::EnteringAlone(work, suspect),
            false => self.announced(work, suspect),
        }
    }

    /// No other handler runs from now on.
    pub(super) fn entered_alone(&mut self, work: Box<Work>, suspect: Suspect) -> State {
        self.suspicion.alone = true;
        match self.out_of_time() {
            true => self.stopped(work, Duration::ZERO),
            false => self.announced(work, suspect),
        }
    }

    /// The note is to be committed before the envelope runs.
    fn announced(&mut self, mut work: Box<Work>, suspect: Suspect) -> State {
        let Suspect { note, failures } = suspect;
        let envelope = &self.deliveries[work.upto].envelope;
        work.turn.open(envelope, failures + 1);
        work.turn.abandon(Trial { id: envelope.id, failures, note });
        self.suspicion.announced = Some((envelope.id, note));
        self.end_turn(work, Ended::More)
    }

    /// Takes the note back, in the turn, since the envelope does not run now.
    pub(super) fn withdraw(&self, turn: &mut Turn) {
        let Some((id, _)) = self.suspicion.announced.filter(|_| self.on_guard(Safeguard::Withdraw)) else { return };
        turn.take_back(id);
    }

    /// Whether what a commit wrote has to be durable before anything else happens: that an envelope runs, which may take the process with
    /// it; or that it came to its end alone, for a death of others must not find the note.
    pub(super) fn needs_barrier(&self, record: &Record) -> bool {
        let noted = self.suspicion.announced.is_some() && (self.suspicion.stands(record) || self.suspicion.alone);
        noted && self.on_guard(Safeguard::Barrier)
    }

    /// A commit took effect. If it does not hold the note, the envelope came to its end; whatever else there is of it has to be noted anew.
    pub(super) fn after_noting(&mut self, record: &Record) {
        if self.suspicion.announced.is_none() {
            return;
        }
        match self.suspicion.stands(record) {
            true => self.suspicion.noted.iter_mut().for_each(|noted| noted.sure = true),
            false => self.suspicion.forget(),
        }
    }

    /// After a failure of the backend: takes back the note that an envelope runs, and the lease. Its process lives, and the envelope is not to
    /// be blamed when it comes again. Goes on until the invocation's time is over: whoever does not get through by then is as good
    /// as dead.
    ///
    /// The record is read first. A version alone does not say whose it is: somebody else may have written the one that the note's commit was to
    /// make.
    pub(super) fn take_back_note(&mut self, then: Duration) -> State {
        match self.suspicion.noted.take().filter(|_| self.on_guard(Safeguard::TakeBack)) {
            Some(noted) => State::FindingNote(TakeBack { noted, pause: FIRST_PAUSE, then }),
            None => self.let_others_in(then, Halt::Port),
        }
    }

    /// What is found of the note: with this run's lease it stands, and goes; at the version before it, its commit may still be on its way, and comes
    /// too late once that version is gone; else it is gone, or somebody else's.
    pub(super) fn found_note(&mut self, taking: TakeBack, loaded: Loaded) -> State {
        let record = match loaded {
            Loaded::Cached(record) | Loaded::Read(Some(record)) => *record,
            Loaded::Read(None) => Record::new(self.at.now),
        };
        let announced = self.suspicion.announced.map(|(id, _)| id);
        let stands = record.lease.is_some_and(|lease| lease.owner == self.lease.owner) && self.suspicion.stands(&record);
        let may_come = !taking.noted.sure && record.version == taking.noted.before;
        if !stands && !may_come {
            return self.let_others_in(taking.then, Halt::Port);
        }
        let (expect, version) = (record.version, record.next_version());
        let mut record = Record { version, lease: None, ..record };
        if let Some(id) = announced.filter(|_| stands) {
            record.put_trial(record.trial_of(id).taken_back());
        }
        let commit = Commit { address: self.address.clone(), expect, record, changed: Vec::new(), segment: None };
        State::TakingBack(taking, Box::new(commit))
    }

    pub(super) fn took_back(&mut self, taking: TakeBack, committed: Committed) -> State {
        match committed {
            // Somebody else wrote meanwhile: look again.
            Committed::Fenced => self.not_taken_back(taking, PortErrorKind::Unavailable),
            Committed::Stored | Committed::Settled if self.suspicion.alone && self.on_guard(Safeguard::Barrier) => {
                State::TakenBack(taking)
            }
            Committed::Stored | Committed::Settled => self.is_taken_back(taking),
        }
    }

    /// The note is gone, and the lease with it.
    pub(super) fn is_taken_back(&mut self, taking: TakeBack) -> State {
        self.leased = false;
        self.let_others_in(taking.then, Halt::Port)
    }

    pub(super) fn not_taken_back(&mut self, taking: TakeBack, kind: PortErrorKind) -> State {
        let again = self.at.moment.plus(taking.pause);
        // What is refused for good will not be allowed in a moment.
        if kind == PortErrorKind::Refused || again >= self.deadline {
            self.notices.push(Notice::NoteStays);
            return self.let_others_in(taking.then, Halt::Port);
        }
        State::Pausing(TakeBack { pause: (taking.pause * 2).min(LONGEST_PAUSE), ..taking }, again)
    }
}
