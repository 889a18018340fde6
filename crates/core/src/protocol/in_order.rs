//! In order, and nothing after a failure: what may be sent now, what a failure blocks, what is left.
//!
//! An item is known by its place. It may belong to one *group* (an address, a message group), of which one item at a time is on its
//! way, and to *orders* (the records it is made of), of which several may go together, but none before an earlier one.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
};

/// Items that are looked at for a choice. If thousands wait for one group, a choice takes one of them, and must not look at all the
/// others.
const LOOK_AHEAD: usize = 5_000;

/// Items in the order in which they are to be sent.
///
/// ```
/// use statefun_core::protocol::InOrder;
///
/// let mut order = InOrder::of_groups([Some("ann"), Some("ann"), Some("bob"), None]);
/// assert_eq!(order.choose(10), [0, 2, 3]);
/// // Ann's first was not accepted: her second is given up.
/// assert_eq!(order.called([(0, false), (2, true), (3, true)]), [1]);
/// assert!(order.choose(10).is_empty());
/// ```
#[derive(Debug, Clone)]
pub struct InOrder<K> {
    /// From the first that waits on; `None` is gone: accepted, failed, or given up.
    items: VecDeque<Option<Item<K>>>,
    /// The place of the first of `items`.
    first: usize,
}

#[derive(Debug, Clone)]
struct Item<K> {
    group: Option<K>,
    orders: Vec<K>,
    /// It was chosen, and its call has not ended.
    on_its_way: bool,
}

impl<K> Default for InOrder<K> {
    fn default() -> Self {
        Self { items: VecDeque::new(), first: 0 }
    }
}

impl<K: Eq + Hash> InOrder<K> {
    /// Items that have only groups; those without one have no order.
    pub fn of_groups(groups: impl IntoIterator<Item = Option<K>>) -> Self {
        let mut order = Self::default();
        for group in groups {
            order.push(group, Vec::new());
        }
        order
    }

    /// Adds an item behind all others; returns its place. The first place is 0.
    pub fn push(&mut self, group: Option<K>, orders: Vec<K>) -> usize {
        self.items.push_back(Some(Item { group, orders, on_its_way: false }));
        self.first + self.items.len() - 1
    }

    /// Takes up to `max` items that may be sent now, in order. Say with [`called`](Self::called) what became of each.
    pub fn choose(&mut self, max: usize) -> Vec<usize> {
        self.choose_if(max, |_| true)
    }

    /// As [`choose`](Self::choose), of those that `fits` takes, who is asked in order. What does not fit waits, and all behind it in its
    /// group and orders.
    pub fn choose_if(&mut self, max: usize, mut fits: impl FnMut(usize) -> bool) -> Vec<usize> {
        let mut chosen = Vec::new();
        let (mut groups, mut held) = (HashSet::new(), HashSet::new());
        for (place, item) in self.waiting().take(LOOK_AHEAD) {
            // Noted even where the item waits: nothing later may overtake it.
            let is_first = item.group.as_ref().is_none_or(|group| groups.insert(group));
            let may_go = !item.on_its_way && is_first && !item.orders.iter().any(|order| held.contains(order));
            if may_go && chosen.len() < max && fits(place) {
                chosen.push(place);
            } else {
                held.extend(&item.orders);
            }
            if chosen.len() == max {
                break;
            }
        }
        for place in &chosen {
            if let Some(item) = self.item(*place) {
                item.on_its_way = true;
            }
        }
        chosen
    }

    /// Takes which of the chosen were accepted. Behind one that was not, the rest of its group and orders is given up, and behind what
    /// is given up the rest of its orders; returns the places of what is.
    pub fn called(&mut self, accepted: impl IntoIterator<Item = (usize, bool)>) -> Vec<usize> {
        let mut failed: Vec<(usize, Item<K>)> = Vec::new();
        for (place, accepted) in accepted {
            if let (Some(item), false) = (self.take(place), accepted) {
                failed.push((place, item));
            }
        }
        let given_up = self.give_up(failed);
        while self.items.front().is_some_and(Option::is_none) {
            self.items.pop_front();
            self.first += 1;
        }
        given_up
    }

    /// The places of what was not accepted, failed or given up by now.
    #[must_use]
    pub fn left(&self) -> Vec<usize> {
        self.waiting().map(|(place, _)| place).collect()
    }

    fn waiting(&self) -> impl Iterator<Item = (usize, &Item<K>)> {
        (self.first..).zip(&self.items).filter_map(|(place, item)| Some((place, item.as_ref()?)))
    }

    fn give_up(&mut self, mut failed: Vec<(usize, Item<K>)>) -> Vec<usize> {
        failed.sort_by_key(|(place, _)| *place);
        let Some((from, _)) = failed.first() else { return Vec::new() };
        let (from, mut given_up) = (*from, Vec::new());
        let (mut groups, mut orders) = (HashSet::new(), HashSet::new());
        let mut failed = failed.into_iter().peekable();
        for (place, slot) in (self.first..).zip(&mut self.items).skip(from - self.first) {
            if let Some((_, item)) = failed.next_if(|(failed, _)| *failed == place) {
                groups.extend(item.group);
                orders.extend(item.orders);
                continue;
            }
            let is_behind = |item: &mut Item<K>| {
                item.group.as_ref().is_some_and(|group| groups.contains(group))
                    || item.orders.iter().any(|order| orders.contains(order))
            };
            // Whoever sent what is on its way reports what becomes of it.
            if let Some(item) = slot.take_if(|item| !item.on_its_way && is_behind(item)) {
                orders.extend(item.orders);
                given_up.push(place);
            }
        }
        given_up
    }

    fn item(&mut self, place: usize) -> Option<&mut Item<K>> {
        self.items.get_mut(place.checked_sub(self.first)?)?.as_mut()
    }

    fn take(&mut self, place: usize) -> Option<Item<K>> {
        self.items.get_mut(place.checked_sub(self.first)?)?.take()
    }
}

/// What a batch leaves to come again, where some of it failed: from each failure on the rest of its group, with what is known of that
/// failure. Items without a group fail by themselves.
///
/// ```
/// use statefun_core::protocol::behind_failures;
///
/// let items = [(Some("ann"), None), (Some("ann"), Some("no time")), (Some("bob"), None), (Some("ann"), None)];
/// assert_eq!(behind_failures(items), [None, Some("no time"), None, Some("no time")]);
/// ```
pub fn behind_failures<K: Eq + Hash, F: Clone>(items: impl IntoIterator<Item = (Option<K>, Option<F>)>) -> Vec<Option<F>> {
    let mut failed: HashMap<K, F> = HashMap::new();
    let one = |(group, failure): (Option<K>, Option<F>)| {
        let failure = group.as_ref().and_then(|group| failed.get(group).cloned()).or(failure)?;
        if let Some(group) = group {
            failed.entry(group).or_insert_with(|| failure.clone());
        }
        Some(failure)
    };
    items.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Group and orders.
    type Keys = (Option<u8>, Vec<u8>);

    fn keys() -> impl Strategy<Value = Keys> {
        (proptest::option::weighted(0.8, 0..4_u8), vec(10..13_u8, 0..3))
    }

    fn of(items: &[Keys]) -> InOrder<u8> {
        let mut order = InOrder::default();
        for (group, orders) in items {
            order.push(*group, orders.clone());
        }
        order
    }

    fn share(a: &[u8], b: &[u8]) -> bool {
        a.iter().any(|one| b.contains(one))
    }

    /// The rule as it reads: an item is not accepted if it fails, if an earlier one of its group failed, or if an earlier one of its
    /// orders was not accepted.
    fn expected(items: &[Keys], failing: &HashSet<usize>) -> Vec<bool> {
        let mut accepted: Vec<bool> = Vec::new();
        let mut failed: Vec<usize> = Vec::new();
        for (place, (group, orders)) in items.iter().enumerate() {
            let behind = |earlier: &usize| group.is_some() && items[*earlier].0 == *group;
            let given_up =
                failed.iter().any(behind) || (0..place).any(|earlier| !accepted[earlier] && share(&items[earlier].1, orders));
            if !given_up && failing.contains(&place) {
                failed.push(place);
            }
            accepted.push(!given_up && !failing.contains(&place));
        }
        accepted
    }

    proptest! {
        /// One call at a time, of one item at a time: exactly what the rule says is accepted, whatever does not fit at first.
        #[test]
        fn nothing_goes_after_a_failure_and_all_else_goes(items in vec(keys(), 0..30), failing in proptest::collection::hash_set(0..30_usize, 0..4)) {
            let (mut order, mut accepted) = (of(&items), vec![false; items.len()]);
            while let &[place] = &*order.choose(1) {
                accepted[place] = !failing.contains(&place);
                order.called([(place, accepted[place])]);
            }
            prop_assert!(order.left().is_empty());
            prop_assert_eq!(accepted, expected(&items, &failing));
        }

        /// Many calls at a time, which end in any order.
        #[test]
        fn calls_keep_the_order(
            items in vec(keys(), 0..40),
            failing in proptest::collection::hash_set(0..40_usize, 0..4),
            steps in vec((1..6_usize, any::<prop::sample::Index>(), any::<bool>()), 200),
        ) {
            let mut order = of(&items);
            // Those on their way, by call; what became of the others.
            let (mut calls, mut ended) = (Vec::<Vec<usize>>::new(), vec![None; items.len()]);
            for (max, call, fits) in steps {
                let chosen = order.choose_if(max, |place| fits || place % 2 == 0);
                for place in &chosen {
                    let (group, orders) = &items[*place];
                    for earlier in 0..*place {
                        let (earlier_group, earlier_orders) = &items[earlier];
                        if group.is_some() && earlier_group == group {
                            prop_assert!(ended[earlier].is_some_and(|end| end != "failed"), "{place} after {earlier}: {:?}", ended[earlier]);
                        }
                        if share(earlier_orders, orders) {
                            prop_assert!(ended[earlier] == Some("accepted") || chosen.contains(&earlier), "{place} before {earlier}");
                        }
                    }
                }
                prop_assert!(chosen.len() <= max && chosen.is_sorted());
                calls.extend((!chosen.is_empty()).then_some(chosen));
                if calls.is_empty() {
                    continue;
                }
                let call = call.index(calls.len());
                let call = calls.swap_remove(call);
                for place in &call {
                    ended[*place] = Some(if failing.contains(place) { "failed" } else { "accepted" });
                }
                for place in order.called(call.into_iter().map(|place| (place, !failing.contains(&place)))) {
                    prop_assert_eq!(ended[place].replace("given up"), None);
                }
            }
            let left: Vec<_> = (0..items.len()).filter(|place| ended[*place].is_none()).collect();
            prop_assert_eq!(order.left(), left);
        }
    }

    #[test]
    fn a_group_that_many_wait_for_does_not_slow_down_the_choice_of_its_next() {
        let mut order = InOrder::of_groups((0..LOOK_AHEAD + 1).map(|_| Some("hot")).chain([Some("other")]));
        assert_eq!(order.choose(10), [0]);
        order.called([(0, true)]);
        assert_eq!(order.choose(10), [1]);
        order.called([(1, true)]);
        assert_eq!(order.choose(10), [2, LOOK_AHEAD + 1]);
    }
}
