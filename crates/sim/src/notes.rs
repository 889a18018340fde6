//! For the oracle: which envelopes are noted as running alone, by whom, and how often their process did not live to take the note back.

use std::collections::BTreeMap;

use statefun_core::{Address, EnvelopeId, Note, Record};

use crate::executor::EnvId;

pub(crate) type Noted = (Address, EnvelopeId);

/// How often the process of an envelope that ran alone did not live to take its note back, or was as good as dead.
pub(crate) type Deaths = BTreeMap<Noted, u32>;

#[derive(Debug, Clone)]
struct Standing {
    env: EnvId,
    failures: u32,
    excused: bool,
}

/// Notes that stand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes(BTreeMap<Noted, Standing>);

impl Notes {
    /// A commit of `env` took effect.
    pub(crate) fn committed(&mut self, env: EnvId, address: &Address, record: &Record) {
        let alone = record.trials.iter().filter(|trial| trial.note == Note::Alone);
        let running: BTreeMap<EnvelopeId, u32> = alone.map(|trial| (trial.id, trial.failures)).collect();
        self.0.retain(|(owner, id), _| owner != address || running.contains_key(id));
        for (id, failures) in running {
            let new = Standing { env, failures, excused: false };
            let standing = self.0.entry((address.clone(), id)).or_insert(new);
            // Others carry it along with what they write.
            if standing.failures != failures {
                *standing = Standing { env, failures, excused: false };
            }
        }
    }

    /// The environment died, was frozen or was cut off: those whose notes stand may be blamed for it, or only this one.
    pub(crate) fn excuse(&mut self, env: EnvId, only: Option<&Noted>, deaths: &mut Deaths) {
        self.blame(deaths, |noted, note| note.env == env && only.is_none_or(|only| only == noted));
    }

    /// The lease of a run ran out.
    pub(crate) fn overtaken(&mut self, address: &Address, deaths: &mut Deaths) {
        self.blame(deaths, |noted, _| noted.0 == *address);
    }

    fn blame(&mut self, deaths: &mut Deaths, which: impl Fn(&Noted, &Standing) -> bool) {
        for (noted, note) in &mut self.0 {
            if !note.excused && which(noted, note) {
                note.excused = true;
                *deaths.entry(noted.clone()).or_default() += 1;
            }
        }
    }
}
