//! Steps that commute are explored in one order only: that must not hide anything.

use std::time::Duration;

use statefun_explore::{Limits, Report, explore};

fn with(faults: u8, marks: bool, together: bool, every_order: bool) -> Report {
    let time = Duration::from_secs(300);
    let report = explore(Default::default(), Limits { faults, time, marks, together, every_order }, |_| ());
    assert!(report.exhausted, "{:?}", report.found);
    report
}

fn same_ends(faults: u8, marks: bool, together: bool) {
    let (all, some) = (with(faults, marks, together, true), with(faults, marks, together, false));
    assert!(all.states > some.states, "{} and {}", all.states, some.states);
    assert_eq!((all.ends, all.ends_sum), (some.ends, some.ends_sum));
}

#[test]
fn what_commutes_leads_to_the_same_ends_in_every_order() {
    same_ends(0, true, false);
    same_ends(1, false, false);
    same_ends(1, false, true);
    same_ends(0, true, true);
}

#[test]
fn more_faults_reach_more_worlds() {
    let [none, one] = [0, 1].map(|faults| with(faults, false, false, false));
    assert!(none.states < one.states && none.ends < one.ends);
}
