//! Every dead letter, judged by what its messages did and how often they were handled.

use statefun_core::{DeadLetter, OnFailure, Reason};

use crate::{
    dials::World,
    workload::{Kind, letter},
};

use super::{Judge, payloads};

/// Runs beyond that, of which the note had no answer or a crash from outside took it away.
const SLACK: u32 = 3;

impl Judge<'_> {
    /// Whoever kills is found out: it runs beside others until it is suspected, once watched, and then alone as often as is allowed.
    pub(super) fn killers(&mut self) {
        if self.trial.dials.old_versions {
            // The version before notes no run as alone, so between the two nobody is found out for long.
            return;
        }
        for ((at, id), kills) in &self.world.kills {
            let attempts = self.policy(at).max_attempts().unwrap_or(OnFailure::DEFAULT_ATTEMPTS);
            // A copy by another queue is counted by that queue; what is redriven is counted anew.
            let slack = if self.trial.dials.moves { 3 * SLACK } else { SLACK };
            let counted = 1 + self.world.redriven.get(id).copied().unwrap_or_default();
            let most = counted * (attempts.max(2) + attempts + slack);
            if *kills > most {
                self.problems.push(format!("{at}: envelope {id} ended {kills} processes, {most} at most are expected"));
            }
        }
    }

    pub(super) fn letters(&mut self) {
        for parked in self.world.stored.letters.values() {
            if let Err(problem) = self.letter(parked) {
                let (at, reason, attempts) = (&parked.envelope.to, parked.reason, parked.attempts);
                self.problems.push(format!(
                    "{at}: {:?} given up as {reason} after {attempts}: {problem} ({})",
                    payloads(parked),
                    parked.envelope.id
                ));
            }
        }
    }

    fn letter(&self, parked: &DeadLetter) -> Result<(), String> {
        let (at, id) = (&parked.envelope.to, parked.envelope.id);
        let ends = self.trial.calls.of_envelope(at, id);
        let deaths = self.deaths(at, id);
        let failures = ends.failed + ends.cut + deaths;
        if parked.reason == Reason::TooOld {
            return self.too_old(parked);
        }
        let OnFailure::DeadLetter { max_attempts } = self.policy(at) else {
            return Err("its function's policy knows no dead letters".to_owned());
        };
        let here = letter(Some(at));
        let kinds = payloads(parked).into_iter().filter(|payload| payload.at == here).map(|payload| payload.kind);
        let kinds: Vec<Kind> = kinds.collect();
        match parked.reason {
            Reason::Terminal => {
                let refused = here == 'L' || kinds == [Kind::Terminal];
                check(refused && ends.terminal > 0, || "no handler failed for good".to_owned())?;
                check((1..=1 + failures).contains(&parked.attempts), || format!("it failed {failures} times before"))
            }
            Reason::Exhausted if self.trial.dials.world == World::Twins => {
                let messages = self.world.stored.sent.values().filter(|sent| **sent == id).count();
                // Failures of runs that somebody else came before are not counted.
                let refused = self.world.refusals.get(at).copied().unwrap_or_default();
                let exact = messages != 1 || (max_attempts..=max_attempts + refused).contains(&(ends.failed + ends.cut));
                check(parked.attempts == max_attempts && exact, || format!("it failed {failures} times"))
            }
            Reason::Exhausted => {
                check(kinds.iter().any(|kind| may_fail(*kind)) || ends.cut > 0, || "it never failed".to_owned())?;
                check(parked.attempts == max_attempts, || format!("its function allows {max_attempts}"))?;
                check(failures >= max_attempts, || format!("it failed {failures} times"))
            }
            Reason::Died => {
                check(deaths > 0, || "nobody died".to_owned())?;
                check(parked.attempts == max_attempts, || format!("its function allows {max_attempts}"))?;
                check(failures >= max_attempts, || format!("it failed or died {failures} times"))
            }
            Reason::TooOld | Reason::Malformed => Err("nothing here is malformed".to_owned()),
        }
    }

    fn too_old(&self, parked: &DeadLetter) -> Result<(), String> {
        let old = parked.at > parked.envelope.sent_at.plus(self.trial.dials.horizon());
        check(old, || "it is not older than the horizon".to_owned())
    }
}

fn may_fail(kind: Kind) -> bool {
    matches!(kind, Kind::Flaky(_) | Kind::Panics | Kind::Hopeless | Kind::Slow)
}

fn check(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}
