use super::*;
use crate::tables::samples::envelope;

/// So many milliseconds after the clock's start.
fn moment(millis: u64) -> Moment {
    Moment::after_start(std::time::Duration::from_millis(millis))
}

fn lanes(max_lanes: usize, lane_envelopes: usize) -> Lanes {
    let mut lanes = Lanes::new(&Options { max_lanes, lane_envelopes, ..Options::default() });
    lanes.walked_round();
    lanes
}

fn address(number: usize) -> Address {
    Address::parse(&format!("a/b/{number}")).unwrap()
}

fn append(lanes: &mut Lanes, to: usize, seq: u64) -> bool {
    let item = Held { envelope: Arc::new(envelope(1)), enqueued_at: Timestamp::ZERO, receives: 0 };
    lanes.append(&address(to), Entry { seq, bytes: 10, item })
}

/// Takes the next lane and its first entry.
fn run(lanes: &mut Lanes) -> Option<(Address, u64)> {
    let address = lanes.take()?;
    let entry = lanes.running(&address).unwrap().entries.pop_front().unwrap();
    lanes.free(&address, None);
    Some((address, entry.seq))
}

#[test]
fn lanes_take_turns() {
    let mut lanes = lanes(10, 10);
    for seq in 1..=3 {
        append(&mut lanes, 1, seq);
    }
    append(&mut lanes, 2, 4);
    let order: Vec<_> = std::iter::from_fn(|| run(&mut lanes)).collect();
    assert_eq!(order, [(address(1), 1), (address(2), 4), (address(1), 2), (address(1), 3)]);
    assert_eq!((lanes.len(), lanes.running), (0, 0));
}

#[test]
fn a_running_or_delayed_lane_is_not_taken() {
    let mut lanes = lanes(10, 10);
    assert!(append(&mut lanes, 1, 1));
    let taken = lanes.take().unwrap();
    assert!(!append(&mut lanes, 1, 2));
    assert_eq!(lanes.take(), None);
    assert!(!lanes.free(&taken, Some(moment(50))));
    assert!(!append(&mut lanes, 1, 3));
    assert_eq!((lanes.take(), lanes.next_wake()), (None, Some(moment(50))));
    assert_eq!((lanes.wake(moment(49)), lanes.wake(moment(50))), (0, 1));
    assert_eq!(lanes.take(), Some(address(1)));
}

#[test]
fn lanes_without_a_place_are_found_by_the_walk() {
    let mut lanes = lanes(2, 10);
    for (to, seq) in [(1, 1), (2, 2), (3, 3)] {
        append(&mut lanes, to, seq);
    }
    assert!(lanes.unseen && !lanes.walk_is_due(), "no room yet");
    run(&mut lanes);
    assert_eq!(lanes.found(address(2)), Found::Known);
    assert_eq!(lanes.found(address(3)), Found::New);
    assert_eq!(lanes.found(address(4)), Found::NoRoom);
    // A lane that comes while others are overlooked may itself have something on disk.
    run(&mut lanes);
    append(&mut lanes, 5, 5);
    assert!(lanes.functions[&address(5)].lane.unread);
    lanes.walked_round();
    assert!(!lanes.unseen);
}

#[test]
fn a_lane_overlooked_during_a_round_is_found_in_the_next() {
    let mut lanes = lanes(1, 10);
    append(&mut lanes, 1, 1);
    append(&mut lanes, 2, 2);
    lanes.walk.from = Box::new([9]);
    append(&mut lanes, 3, 3);
    lanes.walked_round();
    assert!(lanes.unseen, "another round");
    lanes.walked_round();
    assert!(!lanes.unseen);
}

#[test]
fn memory_is_bounded_by_entries_and_bytes() {
    let mut lanes = lanes(10, 3);
    lanes.lane_bytes = 4 * 410 + 5;
    for seq in 1..=5 {
        append(&mut lanes, 1, seq);
    }
    assert_eq!((lanes.functions[&address(1)].lane.entries.len(), lanes.held_bytes), (3, 3 * 410));
    append(&mut lanes, 2, 6);
    append(&mut lanes, 3, 7);
    assert!(lanes.functions[&address(3)].lane.unread && lanes.held_bytes == 4 * 410);
}
