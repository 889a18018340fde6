//! Deterministic simulation of the engine: the real one, over simulated ports and a virtual clock. One seed decides everything:
//! crashes before and after every call, lost replies, frozen environments, redelivery, late copies, throttling, partial batches,
//! dead letters and redrive, clocks that differ, and handlers that fail in every way. An oracle that knows nothing of the engine
//! judges what is left. `cargo xtask sim` runs it; `cargo xtask mutations` switches each safeguard off and sees it noticed.

mod calls;
#[cfg(feature = "conformance")]
mod conformance;
mod denial;
mod dials;
mod executor;
mod faults;
mod fifo;
mod foreign;
mod input;
mod line;
mod notes;
mod oracle;
mod ports;
mod purge;
mod router;
mod store;
mod trial;
mod workload;
mod world;

#[cfg(feature = "conformance")]
pub use conformance::{Kind, conformance};
pub use dials::World;
pub use faults::Struck;
pub use trial::{Report, trial};
pub use world::Watch;

/// The command that replays a seed, for people.
#[must_use]
pub fn replay_command(seed: u64, world: Option<World>) -> String {
    let world = world.map(|world| format!(" --world {}", world.name())).unwrap_or_default();
    format!("cargo xtask sim --seed {seed}{world}")
}

#[cfg(test)]
mod tests {
    use statefun_core::Safeguards;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        for seed in 0..8 {
            let (one, two) =
                (trial(seed, None, Safeguards::default(), Watch::Trace), trial(seed, None, Safeguards::default(), Watch::Trace));
            assert_eq!((one.trace, one.commits, one.problems), (two.trace, two.commits, two.problems), "seed {seed}");
        }
        assert_ne!(
            trial(0, None, Safeguards::default(), Watch::Trace).trace,
            trial(1, None, Safeguards::default(), Watch::Trace).trace
        );
    }

    /// The oracle can fail: without the procedure a later message proves outboxes that were not sent.
    #[test]
    fn a_purge_without_the_procedure_is_noticed_as_a_loss() {
        let lost = |seed| {
            let report = trial(seed, Some(World::PurgedAtOnce), Safeguards::default(), Watch::Nothing);
            report.problems.iter().any(|problem| problem.contains("was never sent"))
        };
        assert!((0..60).any(lost));
    }

    #[cfg(feature = "conformance")]
    #[test]
    fn the_simulated_ports_conform() {
        for kind in [Kind::Plain, Kind::Settling] {
            assert_eq!(conformance(Safeguards::default(), kind), Vec::<String>::new());
        }
    }
}
