//! For the oracle: which envelopes are noted as running, by whom, and how often their process did not live to take the note back.

use std::collections::BTreeMap;

use statefun_core::{Address, EnvelopeId, Record};

use crate::executor::EnvId;

type Noted = (Address, EnvelopeId);

#[derive(Debug)]
struct Note {
    env: EnvId,
    failures: u32,
    excused: bool,
}

/// Notes that stand, and deaths that they can be blamed on.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    standing: BTreeMap<Noted, Note>,
    deaths: BTreeMap<Noted, u32>,
}

impl Notes {
    /// A commit of `env` took effect.
    pub(crate) fn committed(&mut self, env: EnvId, address: &Address, record: &Record) {
        let running: BTreeMap<EnvelopeId, u32> =
            record.trial.iter().filter(|trial| trial.running).map(|trial| (trial.id, trial.failures)).collect();
        self.standing.retain(|(owner, id), _| owner != address || running.contains_key(id));
        for (id, failures) in running {
            let note = Note { env, failures, excused: false };
            let standing = self.standing.entry((address.clone(), id)).or_insert(note);
            if (standing.env, standing.failures) != (env, failures) {
                *standing = Note { env, failures, excused: false };
            }
        }
    }

    /// The environment died, was frozen or was cut off: those whose notes stand may be blamed for it, or only this one.
    pub(crate) fn excuse(&mut self, env: EnvId, only: Option<&Noted>) {
        for (noted, note) in &mut self.standing {
            if note.env == env && !note.excused && only.is_none_or(|only| only == noted) {
                note.excused = true;
                *self.deaths.entry(noted.clone()).or_default() += 1;
            }
        }
    }

    /// How often a process died, or was as good as dead, while it ran the envelope.
    pub(crate) fn deaths(&self, address: &Address, id: EnvelopeId) -> u32 {
        self.deaths.get(&(address.clone(), id)).copied().unwrap_or_default()
    }
}
