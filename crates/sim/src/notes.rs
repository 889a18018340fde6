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

    /// The environment died, was frozen or was cut off: those whose notes stand may be blamed for it, or only this one, and the others never.
    pub(crate) fn excuse(&mut self, env: EnvId, only: Option<&Noted>, deaths: &mut Deaths) {
        if let Some(only) = only {
            let innocent = self.0.iter_mut().filter(|(noted, note)| note.env == env && *noted != only);
            innocent.for_each(|(_, note)| note.excused = true);
        }
        self.blame(deaths, |_, note| note.env == env);
    }

    /// The lease of a run ran out.
    pub(crate) fn overtaken(&mut self, address: &Address, deaths: &mut Deaths) {
        self.blame(deaths, |noted, _| noted.0 == *address);
    }

    /// A run ended and could not take its note back.
    pub(crate) fn cut_off(&mut self, env: EnvId, address: &Address, deaths: &mut Deaths) {
        self.blame(deaths, |noted, note| noted.0 == *address && note.env == env);
    }

    /// Runs of the same batch that ended before this killer began, and could not take their notes back. While one that is noted runs, no other
    /// does.
    pub(crate) fn cut_off_beside(&mut self, env: EnvId, killer: &Noted, deaths: &mut Deaths) {
        self.blame(deaths, |noted, note| noted != killer && note.env == env);
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

#[cfg(test)]
mod tests {
    use statefun_core::Trial;

    use super::*;

    /// Seed 5224977: the table was away, a run alone ended without taking its note back, and the next one killed the environment.
    #[test]
    fn whoever_was_cut_off_before_its_neighbour_killed_them_both_may_be_blamed() {
        let (env, to) = (7, |id: &str| Address::parse(&format!("sim/b/{id}")).unwrap());
        let (cut_off, killer) = ((to("3"), EnvelopeId([1; 16])), (to("6"), EnvelopeId([2; 16])));
        let mut notes = Notes::default();
        let mut deaths = Deaths::default();
        for (address, id) in [&cut_off, &killer] {
            let record = Record { trials: vec![Trial { id: *id, failures: 0, note: Note::Alone }], ..Record::default() };
            notes.committed(env, address, &record);
        }
        notes.cut_off_beside(env, &killer, &mut deaths);
        notes.excuse(env, Some(&killer), &mut deaths);
        assert_eq!(deaths, Deaths::from([(cut_off, 1), (killer, 1)]));
    }
}
